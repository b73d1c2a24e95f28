"""Asks the agent for a credential by grpcio, with no generated code."""

import sys

import grpc

socket, credential = sys.argv[1:]
name = credential.encode()
request = b"\x0a" + bytes([len(name)]) + name
raw = {"request_serializer": lambda sent: sent, "response_deserializer": lambda got: got}

# grpcio puts the percent-encoded path into :authority, which HTTP/2 servers
# built on the h2 crate refuse; every client of such a server names another.
options = [("grpc.default_authority", "localhost")]
with grpc.insecure_channel(f"unix://{socket}", options) as channel:
    whoami = channel.unary_unary("/jsi.v1.Agent/WhoAmI", **raw)(b"", timeout=10)
    print("WHOAMI", len(whoami))
    stream = channel.unary_stream("/jsi.v1.Agent/RequestCredential", **raw)
    for message in stream(request, timeout=10):
        sys.stdout.buffer.write(message + b"\n")
