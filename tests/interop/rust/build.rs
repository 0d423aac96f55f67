//! The code of the contract, made by protoc, which PROTOC names.

fn main() -> std::io::Result<()> {
    let protos = std::env::var("PROTOS").expect("PROTOS is the directory of the contract");
    let runtime = format!("{protos}/ocigrpc/v1/runtime.proto");
    let reason = format!("{protos}/ocigrpc/v1/reason.proto");
    tonic_prost_build::configure().build_server(false).compile_protos(&[runtime, reason], &[protos])
}
