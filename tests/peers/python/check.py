"""Calls grpc.health.v1 Check over a Unix socket with grpcio; prints ok."""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# grpcio puts the percent-encoded path into :authority, which HTTP/2 servers
# built on the h2 crate refuse; every client of such a server names another.
options = [("grpc.default_authority", "localhost")]
with grpc.insecure_channel("unix:" + sys.argv[1], options) as channel:
    health = health_pb2_grpc.HealthStub(channel)
    for _ in range(3):
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
print("ok")
