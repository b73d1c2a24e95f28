//! The store's files against the standard `age` tool: what the agent seals it
//! opens, and identities that age-keygen made open the store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jsi_agent::clock::WallTime;
use jsi_agent::memory::{Field, Secret, SecretBuf};
use jsi_agent::names::CredentialName;
use jsi_agent::store::{NewIdentity, Store};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The tool is there. Where it is not, the test says so and does nothing,
/// unless `JSI_TEST_REQUIRE_PEERS=1`.
fn age_is_installed() -> bool {
    let there = |tool| Command::new(tool).arg("--version").output().is_ok();
    let installed = there("age") && there("age-keygen");
    if !installed {
        let required = std::env::var_os("JSI_TEST_REQUIRE_PEERS").is_some_and(|v| v == "1");
        assert!(!required, "age is not installed");
        eprintln!("not run: age is not installed");
    }
    installed
}

fn put_and_open_with_age(store: &Store, dir: &Path, identity: &Path) {
    let field = Field {
        name: "password".to_owned(),
        sensitive: true,
        is_default: true,
        value: SecretBuf::from_slice(b"opens with age"),
    };
    let name = CredentialName::new("db/orders").unwrap();
    let secret = Secret::new(vec![field]).unwrap();
    store.put(&name, "owner", "purpose", secret, false, WallTime(1)).unwrap();
    let output = Command::new("age")
        .args(["--decrypt", "--identity"])
        .arg(identity)
        .arg(dir.join("store/db/orders.age"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"value\":\"opens with age\""));
    assert!(text.contains("\"name\":\"db/orders\""));
}

#[test]
fn what_the_agent_seals_opens_with_age() {
    if !age_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity");
    NewIdentity::generate().write(&identity, None, None).unwrap();
    let store = Store::open(&dir.path().join("store"), &identity).unwrap();
    put_and_open_with_age(&store, dir.path(), &identity);
}

#[test]
fn an_identity_that_age_keygen_made_opens_the_store() {
    if !age_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity");
    let status = Command::new("age-keygen").arg("-o").arg(&identity).output().unwrap().status;
    assert!(status.success());
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = Store::open(&dir.path().join("store"), &identity).unwrap();
    put_and_open_with_age(&store, dir.path(), &identity);
}
