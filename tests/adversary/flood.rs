//! Attacks on the log by those who can only be refused.

use jsi_tests::{PEERS, Setup, Stage, needs_root};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Denied again and again, over one connection.
const DENIED: u64 = 600;

fn of(records: &[Value], kind: &str, uid: u32) -> u64 {
    let of_uid = |r: &&Value| r["kind"] == kind && (r["uid"] == uid || r["who"]["uid"] == uid);
    records.iter().filter(of_uid).count() as u64
}

fn left_out(records: &[Value], uid: u32) -> u64 {
    let of_uid = records.iter().filter(|r| r["kind"] == "suppressed" && r["uid"] == uid);
    of_uid.map(|r| r["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_uid_that_is_denied_all_the_time_cannot_fill_the_log() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("denials_logged_per_second", "1"));
    let (uid, begun) = (PEERS[0].uid, Instant::now());
    let out = stage.run(&stage.hostile(), "ask-again", &[&DENIED.to_string()]);
    assert!(out.stdout.contains(&format!("DENIED {DENIED}\n")), "the attack failed:\n{out}");

    // Whoever else is denied meanwhile stands in the log.
    let other = stage.host.shell(PEERS[1], "jsi get db/orders").run().coded(3);
    let record = stage.host.await_record("denied", &format!("\"uid\":{}", PEERS[1].uid));
    assert!(other.stderr.contains(record["request"].as_str().unwrap()), "{other}");

    // What is left out of the log can be explained still.
    let mut denied = DENIED;
    jsi_tests::until("a denial is left out of the log", Duration::from_secs(20), || {
        let out = stage.host.shell(PEERS[0], "jsi get db/orders").run().coded(3);
        denied += 1;
        let id = out.stderr.split("jsi explain ").nth(1).unwrap().split_whitespace().next();
        let explained = stage.host.admin(["explain", id.unwrap()]).run().succeeded();
        assert!(explained.stdout.contains("db/orders"), "{explained}");
        let records = stage.host.records();
        jsi_tests::find(&records, "denied", id.unwrap()).is_none().then_some(())
    });

    // What was left out is counted, and nothing is missing.
    let all = jsi_tests::until("all are counted", Duration::from_secs(50), || {
        let records = stage.host.records();
        let written = of(&records, "denied", uid);
        (written + left_out(&records, uid) == denied).then_some(written)
    });
    let most = 10 + begun.elapsed().as_secs() + 1;
    println!("figure: {denied} denials, {all} of them in the log (at most {most})");
    assert!((1..=most).contains(&all), "{all} of at most {most}");
    stage.serves_the_twin();
    stage.host.admin(["audit", "verify"]).run().succeeded();
}

#[test]
fn a_uid_that_is_refused_all_the_time_cannot_fill_the_log() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("denials_logged_per_second", "1"));
    let (uid, begun) = (PEERS[0].uid, Instant::now());
    let out = stage.run(&stage.hostile(), "refused-again", &["300"]);
    assert!(out.stdout.contains("REFUSED 300\n"), "the attack failed:\n{out}");
    let all = jsi_tests::until("all are counted", Duration::from_secs(50), || {
        let records = stage.host.records();
        let written = of(&records, "refused", uid);
        (written + left_out(&records, uid) == 300).then_some(written)
    });
    let most = 10 + begun.elapsed().as_secs() + 1;
    println!("figure: 300 refused connections, {all} of them in the log (at most {most})");
    assert!((1..=most).contains(&all), "{all} of at most {most}");
    let said = stage.host.world.said().matches("connection refused").count() as u64;
    assert!(said <= most, "its own words are bounded too: {said}");
    stage.serves_the_twin();
}
