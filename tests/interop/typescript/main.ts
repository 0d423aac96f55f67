// A container's whole life, by a client in TypeScript: main SOCKET ROOTFS
import { readFileSync } from "node:fs";
import { type CallOptions, type ClientUnaryCall, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { ErrorInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";
import { EventFilter, EventKind, eventKindToJSON, type WatchEventsResponse } from "./gen/ocigrpc/v1/event.js";
import { ExecProcess, type ExecResponse, ExecStart } from "./gen/ocigrpc/v1/exec.js";
import { ContainerLogsRequest, type ContainerLogsResponse } from "./gen/ocigrpc/v1/log.js";
import { ContainerConfig } from "./gen/ocigrpc/v1/config.js";
import { Reason, reasonFromJSON } from "./gen/ocigrpc/v1/reason.js";
import { CreateContainerRequest, RuntimeServiceClient } from "./gen/ocigrpc/v1/runtime.js";

const [socket, rootfsPath] = process.argv.slice(2);
const retries = readFileSync(`${process.env.PROTOS}/ocigrpc/v1/service_config.json`, "utf8");
const client = new RuntimeServiceClient(`unix:${socket}`, credentials.createInsecure(), {
  "grpc.service_config": retries,
});
const limit = { deadline: Date.now() + 60_000 };

type Answered<A> = (error: ServiceError | null, answer: A) => void;
type Unary<Q, A> = (request: Q, metadata: Metadata, options: CallOptions, answered: Answered<A>) => ClientUnaryCall;

function call<Q, A>(method: Unary<Q, A>, request: Q): Promise<A> {
  return new Promise((resolve, reject) => {
    method.call(client, request, new Metadata(), limit, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// Prints the events after a cursor, up to one of this kind; returns the cursor to continue with.
async function watch(containerId: string, after: number, last: EventKind): Promise<number> {
  const events = client.watchEvents({ after, filter: EventFilter.create({ containerId }) }, limit);
  events.on("error", () => {}); // It is cancelled below.
  for await (const message of events as AsyncIterable<WatchEventsResponse>) {
    message.events.forEach((event) => console.log(eventKindToJSON(event.kind)));
    if (message.events.some((event) => event.kind === last)) {
      events.cancel();
      return message.cursor;
    }
  }
  throw new Error("the stream has ended");
}

const command = ["sh", "-c", "trap 'exit 3' TERM; echo hello; while :; do sleep 0.1; done"];
const config = ContainerConfig.create({ rootfsPath, command });
const create = CreateContainerRequest.create({ source: { $case: "config", value: config } });
const { containerId } = await call(client.createContainer, create);
await call(client.startContainer, { containerId });
const cursor = await watch(containerId, 0, EventKind.EVENT_KIND_STARTED);
await call(client.pauseContainer, { containerId });
await call(client.startContainer, { containerId }).catch((error: ServiceError) => {
  const [status] = error.metadata.get("grpc-status-details-bin") as Buffer[];
  const info = ErrorInfo.decode(Status.decode(status).details[0].value);
  if (reasonFromJSON(`REASON_${info.reason}`) === Reason.REASON_WRONG_STATE)
    console.log("wrong state:", info.metadata.state);
});
await call(client.resumeContainer, { containerId });

const shell = ExecProcess.create({ command: ["sh", "-c", "stty size; read word; echo heard $word; exit 4"] });
const terminal = { stdin: true, terminal: true, terminalSize: { rows: 30, columns: 100 } };
const exec = client.exec(limit);
exec.write({ input: { $case: "start", value: ExecStart.create({ containerId, process: shell, ...terminal }) } });
exec.once("data", () => exec.write({ input: { $case: "stdin", value: Buffer.from("you\n") } }));
for await (const { output } of exec as AsyncIterable<ExecResponse>) {
  if (output?.$case === "stdout") process.stdout.write(output.value);
  if (output?.$case === "exit") console.log("exit code", output.value.exitCode);
}
const logs = client.containerLogs(ContainerLogsRequest.create({ containerId, follow: true }), limit);
logs.once("data", (message: ContainerLogsResponse) => {
  console.log(message.lines[0].content.toString());
  client.killContainer({ containerId, signal: "TERM", all: false }, () => {});
});
const { exitStatus } = await call(client.waitContainer, { containerId });
if (exitStatus?.exitCode !== undefined) console.log("exit code", exitStatus.exitCode);
await call(client.removeContainer, { containerId, force: false });
await watch(containerId, cursor, EventKind.EVENT_KIND_REMOVED);
