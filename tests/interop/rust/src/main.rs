//! A container's whole life, by a client in Rust: interop SOCKET ROOTFS

use std::io::Write;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;
use v1::runtime_service_client::RuntimeServiceClient;
use v1::{EventKind, Reason, create_container_request::Source, exec_request::Input, exec_response::Output};

mod v1 {
    tonic::include_proto!("ocigrpc.v1");
}

type Client = RuntimeServiceClient<Channel>;
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Prints the events after a cursor, up to one of this kind; returns the cursor to continue with.
async fn watch(client: &mut Client, container_id: String, after: i64, last: EventKind) -> Outcome<i64> {
    let filter = v1::EventFilter { container_id, ..Default::default() };
    let request = v1::WatchEventsRequest { after: Some(after), filter: Some(filter) };
    let mut events = client.watch_events(request).await?.into_inner();
    while let Some(message) = events.message().await? {
        message.events.iter().for_each(|event| println!("{}", event.kind().as_str_name()));
        if message.events.iter().any(|event| event.kind() == last) {
            return Ok(message.cursor);
        }
    }
    Err("the stream has ended".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let endpoint = Endpoint::from_shared(format!("unix://{}", arguments[1]))?.timeout(Duration::from_secs(60));
    let client = &mut Client::new(endpoint.connect().await?);
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let command = words(&["sh", "-c", "trap 'exit 3' TERM; echo hello; while :; do sleep 0.1; done"]);
    let config = v1::ContainerConfig { rootfs_path: arguments[2].clone(), command, ..Default::default() };
    let source = Some(Source::Config(config));
    let request = v1::CreateContainerRequest { source, ..Default::default() };
    let created = client.create_container(request).await?.into_inner();
    let id = || created.container_id.clone();
    client.start_container(v1::StartContainerRequest { container_id: id() }).await?;
    let cursor = watch(client, id(), 0, EventKind::Started).await?;
    client.pause_container(v1::PauseContainerRequest { container_id: id() }).await?;
    let error = client.start_container(v1::StartContainerRequest { container_id: id() }).await.unwrap_err();
    let info = error.get_details_error_info().ok_or("no ErrorInfo")?;
    if Reason::from_str_name(&format!("REASON_{}", info.reason)) == Some(Reason::WrongState) {
        println!("wrong state: {}", info.metadata["state"]);
    }
    client.resume_container(v1::ResumeContainerRequest { container_id: id() }).await?;
    let mut typed = Some(Input::Stdin(b"you\n".to_vec()));
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let shell = words(&["sh", "-c", "stty size; read word; echo heard $word; exit 4"]);
    let mut start = v1::ExecStart { container_id: id(), stdin: true, terminal: true, ..Default::default() };
    start.process = Some(v1::ExecProcess { command: shell, ..Default::default() });
    start.terminal_size = Some(v1::TerminalSize { rows: 30, columns: 100 });
    requests.send(v1::ExecRequest { input: Some(Input::Start(start)) }).await?;
    let mut exec = client.exec(ReceiverStream::new(stream)).await?.into_inner();
    while let Some(v1::ExecResponse { output: Some(output) }) = exec.message().await? {
        match output {
            Output::Stdout(text) | Output::Stderr(text) => std::io::stdout().write_all(&text)?,
            Output::Exit(exit) => println!("exit code {}", exit.exit_code),
            _ => (), // Started is for programs that run on by themselves.
        }
        if let input @ Some(_) = typed.take() { requests.send(v1::ExecRequest { input }).await?; }
    }
    let request = v1::ContainerLogsRequest { container_id: id(), follow: true, ..Default::default() };
    let first = client.container_logs(request).await?.into_inner().message().await?.ok_or("no line")?;
    println!("{}", String::from_utf8_lossy(&first.lines[0].content));
    client.kill_container(v1::KillContainerRequest { container_id: id(), signal: "TERM".into(), all: false }).await?;
    let ended = client.wait_container(v1::WaitContainerRequest { container_id: id() }).await?.into_inner();
    if let Some(code) = ended.exit_status.unwrap_or_default().exit_code {
        println!("exit code {code}");
    }
    client.remove_container(v1::RemoveContainerRequest { container_id: id(), force: false }).await?;
    watch(client, id(), cursor, EventKind::Removed).await.map(drop)
}
