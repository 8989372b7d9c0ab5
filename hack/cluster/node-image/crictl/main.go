// Command crictl answers the two questions that kind asks of the real crictl: `crictl inspecti IMAGE`
// and `crictl images`. The real one isn't to be had as a Go module everywhere.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const socket = "unix:///run/containerd/containerd.sock"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	var words []string
	for i := 0; i < len(arguments); i++ {
		switch arguments[i] {
		case "-o", "--output":
			i++ // the answer is JSON anyhow
		default:
			words = append(words, arguments[i])
		}
	}
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	images := cri.NewImageServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	switch {
	case len(words) == 1 && words[0] == "images":
		answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
		if err != nil {
			return err
		}
		return show(answer)
	case len(words) == 2 && words[0] == "inspecti":
		answer, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: words[1]}})
		if err != nil {
			return err
		}
		if answer.GetImage() == nil {
			return fmt.Errorf("no such image %q", words[1])
		}
		// The real one calls the image "status".
		body, err := protojson.Marshal(answer.GetImage())
		if err != nil {
			return err
		}
		fmt.Printf("{\"status\":%s}\n", body)
		return nil
	default:
		return fmt.Errorf("this stand-in knows `images` and `inspecti IMAGE` only")
	}
}

func show(message proto.Message) error {
	body, err := protojson.Marshal(message)
	if err != nil {
		return err
	}
	fmt.Println(string(body))
	return nil
}
