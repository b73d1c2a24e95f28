//! SSH keys as the store's identity: made by ssh-keygen, and what the agent
//! seals for them is opened by the standard `age` tool.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jsi_agent::clock::WallTime;
use jsi_agent::memory::{Field, Secret, SecretBuf};
use jsi_agent::names::CredentialName;
use jsi_agent::store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tools are there. Where one is not, the test says so and does nothing,
/// unless `JSI_TEST_REQUIRE_PEERS=1`.
fn tools_are_installed() -> bool {
    let age = Command::new("age").arg("--version").output().is_ok();
    let installed = age && Path::new("/usr/bin/ssh-keygen").exists();
    if !installed {
        let required = std::env::var_os("JSI_TEST_REQUIRE_PEERS").is_some_and(|v| v == "1");
        assert!(!required, "age or ssh-keygen is not installed");
        eprintln!("not run: age or ssh-keygen is not installed");
    }
    installed
}

fn keygen(dir: &Path, arguments: &[&str]) -> PathBuf {
    let path = dir.join("id");
    let out = Command::new("ssh-keygen").args(arguments).arg("-f").arg(&path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    path
}

fn put(store: &Store, value: &[u8]) -> Result<bool, StoreError> {
    let field = Field {
        name: "password".to_owned(),
        sensitive: true,
        is_default: true,
        value: SecretBuf::from_slice(value),
    };
    let name = CredentialName::new("db/orders").unwrap();
    store.put(&name, "o", "p", Secret::new(vec![field]).unwrap(), true, WallTime(1))
}

fn value(store: &Store) -> Vec<u8> {
    let read = store.read(&CredentialName::new("db/orders").unwrap()).unwrap();
    read.default_field().unwrap().value.expose().to_vec()
}

fn opened_by_age(dir: &Path, key: &Path) -> String {
    let out = Command::new("age")
        .args(["--decrypt", "--identity"])
        .arg(key)
        .arg(dir.join("store/db/orders.age"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_key_without_a_passphrase_opens_the_store_and_age_opens_what_it_sealed() {
    if !tools_are_installed() {
        return;
    }
    for kind in [&["-t", "ed25519"][..], &["-t", "rsa", "-b", "2048"]] {
        let dir = tempfile::tempdir().unwrap();
        let key = keygen(dir.path(), &[&["-q", "-N", ""], kind].concat());
        let store = Store::open(&dir.path().join("store"), &key).unwrap();
        assert!(!store.is_locked());
        put(&store, b"for an SSH key").unwrap();
        assert!(opened_by_age(dir.path(), &key).contains("for an SSH key"));
        assert_eq!(value(&store), b"for an SSH key");
    }
}

#[test]
fn a_key_with_a_passphrase_leaves_the_store_locked_until_it_is_given() {
    if !tools_are_installed() {
        return;
    }
    for kind in [&["-t", "ed25519"][..], &["-t", "rsa", "-b", "2048"]] {
        let dir = tempfile::tempdir().unwrap();
        let key = keygen(dir.path(), &[&["-q", "-N", "open sesame"], kind].concat());
        let store = Store::open(&dir.path().join("store"), &key).unwrap();
        assert!(store.is_locked() && store.journal_key().is_none());
        assert!(matches!(put(&store, b"x"), Err(StoreError::Locked)));
        for wrong in [&b"wrong"[..], b"", b"\xff\x00", b"open sesame\n"] {
            let refused = store.unlock(&SecretBuf::from_slice(wrong));
            assert!(matches!(refused, Err(StoreError::WrongPassphrase)), "{wrong:?}: {refused:?}");
            assert!(store.is_locked());
        }
        store.unlock(&SecretBuf::from_slice(b"open sesame")).unwrap();
        put(&store, b"for an SSH key").unwrap();
        assert_eq!(value(&store), b"for an SSH key");
        let journal = store.journal_key().unwrap();
        // ssh-keygen takes the passphrase off: the same key, and its journal key too.
        let change = ["-q", "-p", "-P", "open sesame", "-N", ""];
        let key = keygen(dir.path(), &change);
        assert!(opened_by_age(dir.path(), &key).contains("for an SSH key"));
        let store = Store::open(&dir.path().join("store"), &key).unwrap();
        assert!(store.journal_key().unwrap().same(journal.expose()));
        assert_eq!(value(&store), b"for an SSH key");
    }
}

#[test]
fn an_ssh_key_that_age_cannot_use_is_refused_with_what_to_do() {
    if !tools_are_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (kind, says) in [
        (&["-t", "ecdsa"][..], "ed25519 and RSA"),
        (&["-t", "rsa", "-b", "1024"], "2048"),
        (&["-t", "rsa", "-b", "2048", "-m", "PEM"], "ssh-keygen -p"),
    ] {
        let key = keygen(dir.path(), &[&["-q", "-N", ""], kind].concat());
        let refused = Store::open(&dir.path().join("store"), &key).err().unwrap().to_string();
        assert!(refused.contains(says), "{kind:?}: {refused}");
        std::fs::remove_file(&key).unwrap();
    }
}
