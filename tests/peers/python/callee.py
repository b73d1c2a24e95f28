"""A service that is called: it believes whoever brings a token that PyJWT
verifies by the published keys, and tells them what the token said.

Usage: callee.py JWKS_FILE ISSUER AUDIENCE
Prints its port; ends when its standard input does.
"""

import http.server
import json
import os
import sys
import threading

import jwt

jwks_file, issuer, audience = sys.argv[1:4]
ALGORITHMS = ["EdDSA", "ES256", "RS256"]
REQUIRED = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]


def verify(token):
    # Read anew for each call: a verifier that keeps no key set.
    with open(jwks_file, encoding="ascii") as file:
        keys = jwt.PyJWKSet.from_dict(json.load(file))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(
        token,
        key,
        algorithms=ALGORITHMS,
        issuer=issuer,
        audience=audience,
        options={"require": REQUIRED},
    )


class Callee(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            if scheme != "Bearer":
                raise KeyError("no bearer token")
            claims = verify(token)
            self.answer(200, {"claims": claims, "header": jwt.get_unverified_header(token)})
        except (jwt.PyJWTError, KeyError, OSError, ValueError) as error:
            self.answer(401, {"refused": type(error).__name__})

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Callee)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
