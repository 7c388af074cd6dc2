//! Compiles the contracts with a pure-Rust compiler, so that no `protoc` is needed.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/events/v1/envelope.proto",
        "proto/identity/v1/events.proto",
        "proto/identity/v1/identity.proto",
        "proto/wallet/v1/events.proto",
        "proto/wallet/v1/money.proto",
        "proto/wallet/v1/wallet.proto",
        "proto/notify/v1/notify.proto",
        "proto/scheduler/v1/events.proto",
        "proto/scheduler/v1/scheduler.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR")?);
    std::fs::write(out.join("contracts.binpb"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
