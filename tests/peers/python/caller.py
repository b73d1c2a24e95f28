"""A service that calls another: the token comes in by standard input, so that it
stands in no argument. Prints the answer's code and body.

Usage: caller.py PORT < TOKEN
"""

import sys
import urllib.error
import urllib.request

request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/orders")
request.add_header("Authorization", "Bearer " + sys.stdin.read().strip())
try:
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
