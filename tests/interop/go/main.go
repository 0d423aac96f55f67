// A container's whole life, by a client in Go: main SOCKET ROOTFS
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "interop/ocigrpc/v1"
)

func must[T any](answer T, err error) T {
	if err != nil {
		panic(err)
	}
	return answer
}

// Prints the events after a cursor, up to one of this kind; returns the cursor to continue with.
func watch(ctx context.Context, client pb.RuntimeServiceClient, id string, after int64, last pb.EventKind) int64 {
	filter := &pb.EventFilter{ContainerId: id}
	events := must(client.WatchEvents(ctx, &pb.WatchEventsRequest{After: &after, Filter: filter}))
	for {
		message := must(events.Recv())
		for _, event := range message.Events {
			fmt.Println(event.Kind)
			if event.Kind == last {
				return message.Cursor
			}
		}
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel() // Ends the streams as well.
	retries := string(must(os.ReadFile(os.Getenv("PROTOS") + "/ocigrpc/v1/service_config.json")))
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	client := pb.NewRuntimeServiceClient(must(grpc.NewClient("unix://"+os.Args[1], plain, grpc.WithDefaultServiceConfig(retries))))
	program := []string{"sh", "-c", "trap 'exit 3' TERM; echo hello; while :; do sleep 0.1; done"}
	config := &pb.ContainerConfig{RootfsPath: os.Args[2], Command: program}
	source := &pb.CreateContainerRequest_Config{Config: config}
	id := must(client.CreateContainer(ctx, &pb.CreateContainerRequest{Source: source})).ContainerId
	must(client.StartContainer(ctx, &pb.StartContainerRequest{ContainerId: id}))
	cursor := watch(ctx, client, id, 0, pb.EventKind_EVENT_KIND_STARTED)
	must(client.PauseContainer(ctx, &pb.PauseContainerRequest{ContainerId: id}))
	_, err := client.StartContainer(ctx, &pb.StartContainerRequest{ContainerId: id})
	info := status.Convert(err).Details()[0].(*errdetails.ErrorInfo)
	if pb.Reason(pb.Reason_value["REASON_"+info.Reason]) == pb.Reason_REASON_WRONG_STATE {
		fmt.Println("wrong state:", info.Metadata["state"])
	}
	must(client.ResumeContainer(ctx, &pb.ResumeContainerRequest{ContainerId: id}))

	exec, size := must(client.Exec(ctx)), &pb.TerminalSize{Rows: 30, Columns: 100}
	shell := &pb.ExecProcess{Command: []string{"sh", "-c", "stty size; read word; echo heard $word; exit 4"}}
	start := &pb.ExecStart{ContainerId: id, Process: shell, Stdin: true, Terminal: true, TerminalSize: size}
	must(0, exec.Send(&pb.ExecRequest{Input: &pb.ExecRequest_Start{Start: start}}))
	os.Stdout.Write(must(exec.Recv()).GetStdout())
	must(0, exec.Send(&pb.ExecRequest{Input: &pb.ExecRequest_Stdin{Stdin: []byte("you\n")}}))
	answer := must(exec.Recv())
	for ; answer.GetExit() == nil; answer = must(exec.Recv()) {
		os.Stdout.Write(answer.GetStdout())
	}
	fmt.Println("exit code", answer.GetExit().ExitCode)

	logs := must(client.ContainerLogs(ctx, &pb.ContainerLogsRequest{ContainerId: id, Follow: true}))
	fmt.Printf("%s\n", must(logs.Recv()).Lines[0].Content)
	must(client.KillContainer(ctx, &pb.KillContainerRequest{ContainerId: id, Signal: "TERM"}))
	ended := must(client.WaitContainer(ctx, &pb.WaitContainerRequest{ContainerId: id})).ExitStatus
	if code := ended.ExitCode; code != nil {
		fmt.Println("exit code", *code)
	}
	must(client.RemoveContainer(ctx, &pb.RemoveContainerRequest{ContainerId: id}))
	watch(ctx, client, id, cursor, pb.EventKind_EVENT_KIND_REMOVED)
}
