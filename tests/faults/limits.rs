//! Attacks by exhaustion: whoever does it suffers, nobody else.

use jsi_tests::{PEERS, Setup, Stage, needs_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

#[test]
fn a_client_that_stops_reading_delays_nobody_and_is_cut_off() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("write_timeout", "\"3s\""));
    let long = "x".repeat(1024 * 1024 - 64);
    let trusted = jsi_tests::permit(PEERS[0].uid, "big/one", &stage.host.world.bin("hostile"));
    stage.host.world.write_policy("big", &trusted);
    stage.host.admin(["reload"]).run().succeeded();
    stage.host.put("big/one", &long);
    let mut attack = stage
        .host
        .program(PEERS[0], stage.hostile())
        .args(["stop-reading", &stage.socket(), "big/one"])
        .talk();
    attack.expect("WAITING");
    for _ in 0..5 {
        stage.serves_the_twin();
    }
    let took =
        jsi_tests::within("a client that stops reading is cut off", Duration::from_secs(3), || {
            attack.line() == "CUT OFF"
        });
    assert!(took < Duration::from_secs(30));
    stage.serves_the_twin();
}

#[test]
fn connections_beyond_the_limit_are_refused_and_others_served() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("connections_per_uid", "8"));
    let mut attack =
        stage.host.program(PEERS[0], stage.hostile()).args(["hoard", &stage.socket(), "9"]).talk();
    attack.expect("HOLDING 8");
    // The same uid is at its limit, and is told so; another is not.
    let refused = stage.run(&stage.trusted(), "get", &[]);
    assert!(!refused.stdout.contains(&stage.secret), "{refused}");
    let jsi = stage.host.shell(PEERS[0], "jsi get db/orders").run().coded(7);
    assert!(jsi.stderr.contains("limit"), "{jsi}");
    stage.host.shell(PEERS[1], "jsi whoami").run().succeeded();

    attack.say("");
    attack.end();
    jsi_tests::until("the connections are free again", Duration::from_secs(5), || {
        stage.run(&stage.trusted(), "get", &[]).stdout.contains(&stage.secret).then_some(())
    });
}

/// Holds `places` connections open and tries one more: the agent goes on.
fn hoarded(stage: &Stage, places: u32) {
    let hoard = stage.host.program(PEERS[1], stage.hostile());
    let more = (places + 1).to_string();
    let mut attack = hoard.args(["hoard", &stage.socket(), &more]).talk();
    attack.expect(&format!("HOLDING {places}"));
    // Operators still reach it, and see it.
    let status = stage.host.admin(["status"]).run().succeeded();
    assert!(status.stdout.contains("connections"), "{status}");
    attack.say("");
    attack.end();
    jsi_tests::until("the connections are free again", Duration::from_secs(5), || {
        stage.run(&stage.trusted(), "get", &[]).stdout.contains(&stage.secret).then_some(())
    });
}

#[test]
fn idle_connections_up_to_the_configured_limit_and_one_more_do_not_stop_the_agent() {
    needs_root!();
    let setup = Setup::host().limit("connections", "200").limit("connections_per_uid", "200");
    hoarded(&Stage::with(setup), 200);
}

/// 256 descriptors: 64 are kept free, a connection may need six.
#[test]
fn idle_connections_up_to_the_descriptor_limit_and_one_more_do_not_stop_the_agent() {
    needs_root!();
    let all = Setup::host().limit("connections", "1000").limit("connections_per_uid", "1000");
    hoarded(&Stage::with(all.descriptors(256)), 32);
}

#[test]
fn one_uid_cannot_take_all_connections_that_there_are_descriptors_for() {
    needs_root!();
    let stage = Stage::with(Setup::host().descriptors(256));
    let hoard = stage.host.program(PEERS[1], stage.hostile());
    let mut attack = hoard.args(["hoard", &stage.socket(), "33"]).talk();
    // A quarter, as of the built-in limits.
    attack.expect("HOLDING 8");
    for _ in 0..3 {
        stage.serves_the_twin();
    }
    attack.say("");
    attack.end();
}

/// Not dead, but as good as: nobody is served, and nobody waits for ever.
#[test]
fn an_attestor_that_hangs_delays_nobody_for_ever() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("challenge_timeout", "\"2s\""));
    let attestor = Pid::from_raw(i32::try_from(stage.host.pids().attestor).unwrap());
    kill(attestor, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    let out = stage.host.shell(PEERS[0], "jsi get db/orders").run().without(&stage.secret);
    println!("figure: an attestor that hangs is noticed after {:?}", begun.elapsed());
    assert_ne!(out.code, 0, "{out}");
    assert!(!out.stderr.is_empty(), "{out}");
    kill(attestor, Signal::SIGCONT).unwrap();
    stage.serves_the_twin();
}
