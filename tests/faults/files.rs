//! Configuration and key files that are not as they must be.

use crate::{host_with_a_secret, me, user};
use jsi_tests::{Host, Setup, needs_root};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

fn refused(mut host: Host, parts: &[&str]) {
    let (code, said) = host.start_refused();
    assert_ne!(code, 0, "{said}");
    for part in parts {
        assert!(said.contains(part), "wanted {part:?}:\n{said}");
    }
    // `check` says the same with the same loader.
    let mut check = host.agent_command();
    let out = check.arg("check").arg("--config").arg(host.world.config()).output().unwrap();
    assert!(!out.status.success(), "`jsi-agent check` lets it pass");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_unknown_configuration_field_is_an_error() {
    refused(user().agent("colour", "\"red\"").install(), &["colour"]);
    refused(user().limit("connnections", "5").install(), &["connnections"]);
    refused(user().text("[agents]\nmode = \"host\"\n").install(), &["agents"]);
}

#[test]
fn a_value_that_cannot_be_is_an_error() {
    refused(user().limit("connections", "0").install(), &["connections"]);
    refused(user().limit("write_timeout", "\"soon\"").install(), &["write_timeout"]);
    refused(user().agent("mode", "\"both\"").install(), &["mode"]);
    let credential =
        "[credentials.\"Not A Name\"]\nissuer = \"store\"\nowner = \"a\"\npurpose = \"b\"\n";
    refused(user().text(credential).install(), &["Not A Name"]);
    let issuer = "[credentials.\"a\"]\nissuer = \"magic\"\nowner = \"a\"\npurpose = \"b\"\n";
    refused(user().text(issuer).install(), &["magic"]);
}

#[test]
fn a_configuration_that_anybody_could_write_is_refused() {
    let host = user().install();
    mode(&host.world.config(), 0o666);
    refused(host, &["agent.toml", "writ"]);
}

#[test]
fn a_policy_that_anybody_could_write_is_refused() {
    let host = user().install();
    let policy = host.world.write_policy("open", "");
    mode(&policy, 0o666);
    refused(host, &["open.cedar", "writ"]);

    let host = user().install();
    mode(&host.world.policy_dir(), 0o777);
    refused(host, &["policy", "writ"]);
}

/// The agent's uid in host mode must not be able to write what it is governed by.
#[test]
fn a_host_agents_configuration_must_not_belong_to_another() {
    needs_root!();
    let host = Setup::host().install();
    chown(host.world.config(), Some(20_001), None).unwrap();
    refused(host, &["agent.toml"]);
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let mut host = user().install();
    mode(&host.world.identity(), 0o644);
    let (code, said) = host.start_refused();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("identity") && said.contains("0600"), "it says what to do:\n{said}");
    mode(&host.world.identity(), 0o600);
    host.start();
}

#[test]
fn an_unreadable_key_file_is_an_error_in_words() {
    let mut host = user().install();
    mode(&host.world.identity(), 0o000);
    let (code, said) = host.start_refused();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("identity"), "{said}");
}

#[test]
fn a_key_file_that_is_no_key_is_an_error_without_its_text() {
    let mut host = user().install();
    fs::write(host.world.identity(), "NOT-A-KEY-71239").unwrap();
    let (code, said) = host.start_refused();
    assert_ne!(code, 0, "{said}");
    assert!(!said.contains("71239"), "its text appeared:\n{said}");
}

#[test]
fn reload_with_a_bad_configuration_keeps_the_old_one() {
    let (host, secret) = host_with_a_secret(user());
    let good = fs::read_to_string(host.world.config()).unwrap();
    fs::write(host.world.config(), format!("{good}\n[colour]\n")).unwrap();
    let refused = host.admin(["reload"]).run();
    assert_ne!(refused.code, 0, "{refused}");
    refused.says("colour");
    host.shell(me(), "jsi get db/orders").run().succeeded().printed(&secret);
}
