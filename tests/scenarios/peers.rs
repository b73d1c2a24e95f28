//! gRPC clients of other languages are served as they are: each answers the
//! challenge by itself (RFC 9113, 6.7). tests/peers/prepare installs them.

use jsi_tests::{Peer, Setup, needs_root, not_run, random_secret};
use std::path::{Path, PathBuf};

/// Where tests/peers/prepare has put them.
fn place() -> PathBuf {
    std::env::var_os("JSI_PEERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"),
        PathBuf::from,
    )
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name).display().to_string()
}

/// Runs `program arguments… SOCKET CREDENTIAL`, which must print the secret.
fn is_served(program: &Path, arguments: &[String], from: &Path) {
    let policy = "permit(principal in User::\"0\", action in Action::\"use\", \
                  resource == Credential::\"db/orders\");";
    let host = Setup::host().start(|_| vec![("root", policy.into())]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    let mut ask = host.program(Peer { uid: 0 }, program).args(arguments).into_command();
    ask.arg(host.world.socket()).arg("db/orders").current_dir(from);
    let out = ask.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("WHOAMI") && said.contains(&secret), "{said}\n{errors}");
}

#[test]
fn a_grpcio_client_is_served() {
    needs_root!();
    let python = place().join("python/bin/python");
    if !python.exists() {
        return not_run(module_path!(), line!(), "grpcio is not installed (tests/peers/prepare)");
    }
    is_served(&python, &[script("ask.py")], &place());
}

#[test]
fn a_grpc_js_client_is_served() {
    needs_root!();
    let modules = place().join("node");
    let node = ["/usr/local/bin/node", "/usr/bin/node"].map(Path::new);
    let node = node.into_iter().find(|node| node.exists());
    let (Some(node), true) = (node, modules.join("node_modules").is_dir()) else {
        return not_run(module_path!(), line!(), "grpc-js is not installed (tests/peers/prepare)");
    };
    is_served(node, &[script("node/ask.cjs")], &modules);
}

#[test]
fn a_grpc_go_client_is_served() {
    needs_root!();
    let program = place().join("ask-go");
    if !program.exists() {
        return not_run(module_path!(), line!(), "grpc-go is not installed (tests/peers/prepare)");
    }
    is_served(&program, &[], &place());
}
