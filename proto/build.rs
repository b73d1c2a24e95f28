//! Compiles the protocol with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["jsi/v1/types.proto", "jsi/v1/agent.proto", "jsi/v1/secrets.proto", "jsi/v1/admin.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("jsi.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        // Messages that carry a secret print as their name alone.
        .skip_debug([
            "jsi.v1.FieldPiece",
            "jsi.v1.SecretMessage",
            "jsi.v1.PutSecretRequest",
            "jsi.v1.UnlockRequest",
            "jsi.v1.RotateSecretRequest",
            "jsi.v1.ImportSecretsRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
