// Asks the agent for a credential by grpc-go, with no generated code.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// raw passes bytes through.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte(nil), data...); return nil }
func (raw) Name() string                       { return "proto" }

func main() {
	socket, credential := os.Args[1], os.Args[2]
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	var whoami []byte
	check(conn.Invoke(ctx, "/jsi.v1.Agent/WhoAmI", []byte{}, &whoami))
	fmt.Println("WHOAMI", len(whoami))

	request := append([]byte{0x0a, byte(len(credential))}, credential...)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/jsi.v1.Agent/RequestCredential")
	check(err)
	check(stream.SendMsg(request))
	check(stream.CloseSend())
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if err == io.EOF {
			return
		}
		check(err)
		fmt.Printf("%s\n", message)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
