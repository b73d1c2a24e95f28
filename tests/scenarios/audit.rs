//! The log as proof: what was changed, dropped or cut is found and named.

use crate::host_with_a_secret;
use jsi_tests::{Host, Outcome, PEERS, needs_root};
use std::fs;
use std::path::PathBuf;

/// A stopped agent with some history, its only segment, and the head kept elsewhere.
fn history() -> (Host, PathBuf, String) {
    let (mut host, secret) = host_with_a_secret();
    for _ in 0..3 {
        host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    }
    host.shell(PEERS[1], "jsi get db/orders").run().coded(3);
    host.stop();
    let head = agent(&host, &["head"]).succeeded().stdout.trim().to_owned();
    let segment = host.world.segments().remove(0);
    (host, segment, head)
}

/// `jsi-agent audit …` on the stopped agent's log.
fn agent(host: &Host, args: &[&str]) -> Outcome {
    let log = host.world.log_dir().display().to_string();
    let root = jsi_tests::Peer { uid: 0 };
    let audit = host.program(root, host.world.bin("jsi-agent")).args(["audit"]);
    audit.args(args).args(["--log", &log]).run()
}

#[test]
fn a_log_as_it_was_written_verifies() {
    needs_root!();
    let (host, _, head) = history();
    agent(&host, &["verify"]).succeeded();
    agent(&host, &["verify", "--head", &head]).succeeded();
}

#[test]
fn one_changed_byte_is_found_and_its_record_named() {
    needs_root!();
    let (host, segment, _) = history();
    let mut bytes = fs::read(&segment).unwrap();
    let third = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(2).unwrap().0;
    let at = third + bytes[third..].windows(4).position(|w| w == b"\"at\"").unwrap() + 8;
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    fs::write(&segment, bytes).unwrap();
    let found = agent(&host, &["verify"]).coded(1);
    assert!(format!("{found}").contains("record 3"), "{found}");
}

#[test]
fn a_dropped_record_is_found_and_named() {
    needs_root!();
    let (host, segment, _) = history();
    let text = fs::read_to_string(&segment).unwrap();
    let without: Vec<&str> =
        text.lines().enumerate().filter(|(i, _)| *i != 2).map(|(_, line)| line).collect();
    fs::write(&segment, without.join("\n") + "\n").unwrap();
    let found = agent(&host, &["verify"]).coded(1);
    assert!(format!("{found}").contains("record 2"), "{found}");
}

#[test]
fn a_cut_tail_is_found_against_a_head_kept_elsewhere() {
    needs_root!();
    let (host, segment, head) = history();
    let text = fs::read_to_string(&segment).unwrap();
    let kept: Vec<&str> = text.lines().take(text.lines().count() - 1).collect();
    fs::write(&segment, kept.join("\n") + "\n").unwrap();
    // By itself a shorter log is a good log.
    agent(&host, &["verify"]).succeeded();
    agent(&host, &["verify", "--head", &head]).coded(1);
}
