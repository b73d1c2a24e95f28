//! `jsi doctor`: what it finds on a host where it is, and what it says of it.

use crate::host_with_a_secret;
use jsi_tests::{Host, Outcome, PEERS, Setup, needs_root};
use nix::sys::signal::Signal;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

fn doctor(host: &Host) -> Outcome {
    host.admin(["doctor", "-o", "json"]).run()
}

/// Severity, text and remedy of the finding of that topic and name.
fn finding(outcome: &Outcome, topic: &str, name: &str) -> (String, String) {
    let json = outcome.json();
    let mut all = json["findings"].as_array().unwrap().iter();
    let found = all.rfind(|one| one["topic"] == topic && one["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no finding {topic}/{name}:\n{outcome}"));
    let text = format!("{} -> {}", found["text"], found["remedy"]);
    (found["severity"].as_str().unwrap().to_owned(), text)
}

#[test]
fn an_operator_of_a_sound_host_agent_is_told_that_nothing_fails() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let outcome = doctor(&host).succeeded().without(&secret);
    for (topic, name) in [
        ("agent", "reachable"),
        ("agent", "version"),
        ("agent", "advisory"),
        ("agent", "log"),
        ("jsi", "known to the agent"),
        ("jsi", "genuine client"),
        ("files", "identity"),
        ("files", "admin socket"),
        ("files", "log"),
        ("limits", "locked memory"),
        ("limits", "leases"),
        ("disk", "log"),
        ("clock", "wall clock"),
        ("kernel", "so_peerpidfd"),
        ("credentials", "owners"),
    ] {
        let (severity, text) = finding(&outcome, topic, name);
        assert_eq!(severity, "ok", "{topic}/{name}: {text}");
    }
    let (severity, text) = finding(&outcome, "credentials", "static");
    assert_eq!(severity, "note");
    assert!(text.contains("db/orders (tests)"), "{text}");
    let words = host.admin(["doctor", "--quiet"]).run().succeeded();
    assert!(!words.stdout.contains("\n  ok "), "{words}");
}

#[test]
fn others_are_told_what_they_may_know() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let told = host.shell(PEERS[0], "jsi doctor -o json").run().succeeded().without(&secret);
    assert_eq!(finding(&told, "agent", "admin socket").0, "note");
    assert!(!told.stdout.contains("db/orders"), "{told}");
}

#[test]
fn a_user_agent_is_advisory_for_reasons_that_are_told_with_what_lifts_them() {
    let host = Setup::user(PEERS[0].uid).start(|_| Vec::new());
    let told = doctor(&host);
    let (severity, text) = finding(&told, "agent", "advisory");
    assert_eq!(severity, "note", "{text}");
    assert!(told.stdout.contains("is readable by uid"), "{told}");
    assert!(told.stdout.contains("passphrase"), "{told}");
}

#[test]
fn a_key_that_others_may_read_fails_with_the_command_that_mends_it() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let key = host.world.identity();
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let (severity, text) = finding(&doctor(&host).coded(1), "files", "identity");
    assert_eq!(severity, "fail");
    assert!(text.contains(&format!("chmod 0600 {}", key.display())), "{text}");
}

#[test]
fn a_locked_agent_is_looked_at_too() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    host.admin(["lock"]).run().succeeded();
    let (severity, text) = finding(&doctor(&host).succeeded(), "agent", "locked");
    assert_eq!(severity, "note");
    assert!(text.contains("jsi unlock"), "{text}");
}

#[test]
fn an_agent_that_is_gone_leaves_a_socket_that_is_told_with_its_variable() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let _ = host.crash();
    let (severity, text) = finding(&doctor(&host).coded(1), "agent", "reachable");
    assert_eq!(severity, "fail");
    assert!(text.contains("left over") && text.contains("JSI_AUTH_SOCK"), "{text}");
}

#[test]
fn an_agent_that_hangs_does_not_hang_the_doctor() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    host.signal(Signal::SIGSTOP);
    let told = doctor(&host);
    host.signal(Signal::SIGCONT);
    let (severity, text) = finding(&told.coded(1), "agent", "reachable");
    assert_eq!(severity, "fail");
    assert!(text.contains("has not answered"), "{text}");
}
