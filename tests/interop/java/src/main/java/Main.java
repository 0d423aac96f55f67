import com.google.gson.Gson;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusException;
import io.grpc.protobuf.StatusProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import ocigrpc.v1.*;

/** A container's whole life, by a client in Java: Main SOCKET ROOTFS. */
class Main {
    static RuntimeServiceGrpc.RuntimeServiceBlockingV2Stub client;

    /** Prints the events after a cursor, up to one of this kind; returns the cursor to continue with. */
    static long watch(String id, long after, EventKind last) throws Exception {
        var request = WatchEventsRequest.newBuilder().setAfter(after);
        request.getFilterBuilder().setContainerId(id);
        var events = client.watchEvents(request.build());
        for (var message = events.read(); ; message = events.read()) {
            for (var event : message.getEventsList()) {
                System.out.println(event.getKind());
                if (event.getKind() == last) {
                    events.cancel("seen all", null);
                    return message.getCursor();
                }
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        var config = Files.readString(Path.of(System.getenv("PROTOS"), "ocigrpc/v1/service_config.json"));
        var plain = Grpc.newChannelBuilder("unix://" + arguments[0], InsecureChannelCredentials.create());
        var channel = plain.defaultServiceConfig(new Gson().fromJson(config, Map.class)).build();
        client = RuntimeServiceGrpc.newBlockingV2Stub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);

        var create = CreateContainerRequest.newBuilder();
        var program = "trap 'exit 3' TERM; echo hello; while :; do sleep 0.1; done";
        create.getConfigBuilder().setRootfsPath(arguments[1]).addAllCommand(List.of("sh", "-c", program));
        var id = client.createContainer(create.build()).getContainerId();
        var start = StartContainerRequest.newBuilder().setContainerId(id).build();
        client.startContainer(start);
        var cursor = watch(id, 0, EventKind.EVENT_KIND_STARTED);
        client.pauseContainer(PauseContainerRequest.newBuilder().setContainerId(id).build());
        try {
            client.startContainer(start);
        } catch (StatusException error) {
            var info = StatusProto.fromThrowable(error).getDetails(0).unpack(ErrorInfo.class);
            if (Reason.REASON_WRONG_STATE.name().equals("REASON_" + info.getReason()))
                System.out.println("wrong state: " + info.getMetadataOrThrow("state"));
        }
        client.resumeContainer(ResumeContainerRequest.newBuilder().setContainerId(id).build());

        var shell = ExecStart.newBuilder().setContainerId(id).setStdin(true).setTerminal(true);
        shell.getTerminalSizeBuilder().setRows(30).setColumns(100);
        var script = "stty size; read word; echo heard $word; exit 4";
        shell.getProcessBuilder().addAllCommand(List.of("sh", "-c", script));
        var exec = client.exec();
        exec.write(ExecRequest.newBuilder().setStart(shell).build());
        exec.read().getStdout().writeTo(System.out);
        exec.write(ExecRequest.newBuilder().setStdin(ByteString.copyFromUtf8("you\n")).build());
        var answer = exec.read();
        for (; !answer.hasExit(); answer = exec.read()) answer.getStdout().writeTo(System.out);
        System.out.println("exit code " + answer.getExit().getExitCode());

        var logs = client.containerLogs(ContainerLogsRequest.newBuilder().setContainerId(id).setFollow(true).build());
        System.out.println(logs.read().getLines(0).getContent().toStringUtf8());
        client.killContainer(KillContainerRequest.newBuilder().setContainerId(id).setSignal("TERM").build());
        var ended = client.waitContainer(WaitContainerRequest.newBuilder().setContainerId(id).build()).getExitStatus();
        if (ended.hasExitCode()) System.out.println("exit code " + ended.getExitCode());
        client.removeContainer(RemoveContainerRequest.newBuilder().setContainerId(id).build());
        watch(id, cursor, EventKind.EVENT_KIND_REMOVED);
        channel.shutdownNow();
    }
}
