//! The agent's own processes, killed at any time.

use jsi_tests::{Stage, needs_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn kill_one(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

/// `wait` checks that no process of the three is left.
#[test]
fn nothing_of_the_agent_outlives_its_attestor() {
    needs_root!();
    let mut stage = Stage::new();
    stage.serves_the_twin();
    kill_one(stage.host.pids().attestor);
    stage.host.wait();
    assert!(stage.host.world.said().contains("attestor"), "{}", stage.host.world.said());
    stage.host.start();
    stage.serves_the_twin();
}

#[test]
fn nothing_of_the_agent_outlives_its_launcher() {
    needs_root!();
    let mut stage = Stage::new();
    stage.serves_the_twin();
    kill_one(stage.host.pids().launcher);
    stage.host.wait();
    assert!(stage.host.world.said().contains("launcher"), "{}", stage.host.world.said());
    stage.host.start();
    stage.serves_the_twin();
}

#[test]
fn nothing_of_the_agent_outlives_its_broker() {
    needs_root!();
    let mut stage = Stage::new();
    stage.serves_the_twin();
    stage.host.crash();
    stage.host.start();
    stage.serves_the_twin();
    stage.host.admin(["audit", "verify"]).run().succeeded();
}

/// A kill in the middle of work: requests under way end in errors, and what
/// was delivered is in the log.
#[test]
fn a_kill_in_the_middle_of_requests_loses_no_record_of_a_delivery() {
    needs_root!();
    let mut stage = Stage::new();
    for victim in ["attestor", "launcher", "broker"] {
        let (trusted, socket) = (stage.trusted(), stage.socket());
        let loops = format!(
            "i=0; while [ $i -lt 200 ]; do {trusted} get {socket} db/orders | grep -ac DELIVERED; \
             i=$((i+1)); done"
        );
        let mut busy = stage.host.shell(jsi_tests::PEERS[0], &loops).talk();
        busy.expect("1");
        let pids = stage.host.pids();
        kill_one(match victim {
            "attestor" => pids.attestor,
            "launcher" => pids.launcher,
            _ => pids.broker,
        });
        stage.host.wait();
        // Programs that cannot connect end at once.
        let delivered = 1 + busy.rest().lines().filter(|line| *line == "1").count();
        let records = stage.host.records();
        let logged = records.iter().filter(|r| r["kind"] == "granted" || r["kind"] == "delivered");
        assert!(logged.count() >= delivered, "{victim}: {delivered} deliveries");
        stage.host.start();
        stage.host.admin(["audit", "verify"]).run().succeeded();
    }
}
