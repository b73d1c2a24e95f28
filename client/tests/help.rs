//! The help of every command, compared with files beside this one.
//!
//! Where a change is meant: `JSI_GOLDEN=write cargo test -p jsi-client --test help`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Without those that `jsi-agent` answers.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["secret"],
    &["secret", "put"],
    &["secret", "import"],
    &["secret", "rotate"],
    &["secret", "export"],
    &["secret", "rm"],
    &["secret", "ls"],
    &["get"],
    &["exec"],
    &["env"],
    &["project"],
    &["project", "show"],
    &["project", "allow"],
    &["project", "deny"],
    &["render"],
    &["renew"],
    &["release"],
    &["leases"],
    &["watch"],
    &["whoami"],
    &["allow"],
    &["policy"],
    &["policy", "rm"],
    &["jwt"],
    &["jwt", "jwks"],
    &["jwt", "discovery"],
    &["jwt", "keys"],
    &["jwt", "rotate"],
    &["explain"],
    &["backup"],
    &["restore"],
    &["revoke"],
    &["status"],
    &["lock"],
    &["unlock"],
    &["reload"],
    &["doctor"],
    &["completions"],
];

#[test]
fn the_help_of_every_command_is_as_it_was_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let write = std::env::var_os("JSI_GOLDEN").is_some_and(|value| value == "write");
    for words in COMMANDS.iter().copied() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jsi"));
        let out = command.args(words).arg("--help").output().unwrap();
        assert!(out.status.success(), "{words:?}");
        let said = String::from_utf8(out.stdout).unwrap();
        let path = golden.join(format!(
            "{}.txt",
            ["jsi"].iter().chain(words).copied().collect::<Vec<_>>().join("-")
        ));
        if write {
            fs::create_dir_all(&golden).unwrap();
            fs::write(&path, &said).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), said, "{}", path.display());
        assert!(said.lines().all(|line| line.chars().count() <= 100), "{words:?}");
    }
}
