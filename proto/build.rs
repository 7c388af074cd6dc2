//! Compiles the contracts with a pure-Rust compiler, so that no `protoc` is needed.

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
    // For whoever asks a server what it speaks: without comments.
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(files)?;
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let path = std::path::Path::new(&folder).join("file_descriptor_set.bin");
    std::fs::write(path, compiler.encode_file_descriptor_set())?;

    let descriptors = protox::compile(files, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
