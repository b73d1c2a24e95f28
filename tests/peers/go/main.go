// Calls grpc.health.v1 Check over a Unix socket with grpc-go; prints ok.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	log.SetFlags(0)
	conn, err := grpc.NewClient("unix:"+os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for range 3 {
		answer, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
		if err != nil {
			log.Fatal(err)
		}
		if answer.Status != health.HealthCheckResponse_SERVING {
			log.Fatalf("not serving: %v", answer)
		}
	}
	fmt.Println("ok")
}
