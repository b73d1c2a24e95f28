module jsi.invalid/tests/peers

go 1.23

require google.golang.org/grpc v1.71.0
