//! Floods: of the log by those who can only be refused, of connections, requests
//! and frames. Whoever else asks meanwhile is served.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{PEERS, Setup, Stage, needs_root};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[CONNECTIONS, REQUESTS];

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

/// Connections of all, and of one uid.
const ALL: u32 = 48;
const EACH: u32 = 16;

fn few_connections(alter: Alter<'_>) -> Stage {
    let setup = Setup::host().limit("connections", &ALL.to_string());
    Stage::with(alter(setup.limit("connections_per_uid", &EACH.to_string())))
}

/// Whether the trusted program gets what is its own.
fn is_served(stage: &Stage) -> bool {
    stage.run(&stage.trusted(), "get", &[]).stdout.contains(&stage.secret)
}

const CONNECTIONS: Attack = Attack::new(
    "a_uid_that_keeps_connections_open_does_not_keep_others_out",
    &["connections-per-uid"],
    "too many connections",
    |stage| {
        let hoarder = stage.host.program(PEERS[1], stage.hostile());
        let wanted = (ALL * 2).to_string();
        let mut hoarder = hoarder.args(["hoard", &stage.socket(), &wanted]).talk();
        let held = hoarder.line();
        assert!(held.starts_with("HOLDING "), "{held}");
        told(&held, !is_served(stage))
    },
)
.on(few_connections);

#[test]
fn a_uid_that_keeps_connections_open_does_not_keep_others_out() {
    needs_root!();
    CONNECTIONS.is_refused();
}

/// Requests a second of one uid, and as many at once.
const RATE: u64 = 4;
/// Requests of the flood, each denied by policy or by the rate.
const ASKED: u64 = 60;

fn slow_requests(alter: Alter<'_>) -> Stage {
    let setup = Setup::host().limit("requests_per_second", &RATE.to_string());
    Stage::with(alter(setup.limit("denials_logged_per_second", "1000")))
}

/// What is over the rate never comes to policy, so that the log has none of it.
const REQUESTS: Attack = Attack::new(
    "a_uid_that_asks_all_the_time_is_not_answered_all_the_time",
    &["request-rate"],
    "no permit applies",
    |stage| {
        let asker = stage.host.program(PEERS[1], stage.hostile());
        let asked =
            ["ask-again", &stage.socket(), "db/orders", &ASKED.to_string()].map(str::to_owned);
        let said = asker.args(asked).run().stdout;
        assert!(said.contains(&format!("DENIED {ASKED}\n")), "{said}");
        // Denials are written behind the answer.
        std::thread::sleep(Duration::from_secs(1));
        let decided = of(&stage.host.records(), "denied", PEERS[1].uid);
        told(&said, decided >= ASKED)
    },
)
.on(slow_requests);

#[test]
fn a_uid_that_asks_all_the_time_is_not_answered_all_the_time() {
    needs_root!();
    REQUESTS.is_refused();
}

/// Kilobytes that the broker has resident.
fn resident(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.host.pids().broker));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends frames of that kind from another uid; gives what it said in the end.
/// Meanwhile the trusted program is served, and memory stays what it was.
fn flood(kind: &str, frames: &str) -> String {
    let stage = Stage::new();
    stage.serves_the_twin();
    let before = resident(&stage);
    let flooder = stage.host.world.compile("flooder.c", "flooder");
    let flooder = stage.host.program(PEERS[1], flooder);
    let mut flooder = flooder.args([kind, &stage.socket(), "db/orders", frames]).talk();
    flooder.expect("FLOODING");
    for _ in 0..20 {
        stage.serves_the_twin();
    }
    let said = flooder.rest();
    let grown = resident(&stage).saturating_sub(before);
    assert!(!said.contains(&stage.secret) && !said.contains("FAILED"), "{said}");
    assert!(grown < 32 * 1024, "{grown} KiB more are resident");
    format!("{}, {grown} KiB more are resident", said.trim_end())
}

/// CVE-2023-44487.
#[test]
fn requests_that_are_taken_back_at_once_do_not_keep_others_out() {
    needs_root!();
    let said = flood("reset", "200000");
    println!("figure: requests taken back: {said}");
    assert!(said.starts_with("CUT OFF"), "it was let go on: {said}");
}

/// CVE-2024-27316, CVE-2024-24549 and their like.
#[test]
fn headers_that_never_end_do_not_keep_others_out() {
    needs_root!();
    let said = flood("continuation", "200000");
    println!("figure: headers without end: {said}");
    assert!(said.starts_with("CUT OFF"), "it was let go on: {said}");
}

/// CVE-2019-9512: each is answered, and no faster than it is read.
#[test]
fn pings_without_end_do_not_keep_others_out() {
    needs_root!();
    println!("figure: pings: {}", flood("ping", "200000"));
}

/// CVE-2019-9515: the same of settings.
#[test]
fn settings_without_end_do_not_keep_others_out() {
    needs_root!();
    println!("figure: settings: {}", flood("settings", "200000"));
}
