//! Attacks by exhaustion: whoever does it suffers, nobody else.

use crate::Stage;
use jsi_tests::{PEERS, Setup, needs_root};
use std::time::Duration;

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

#[test]
fn idle_connections_up_to_the_descriptor_limit_and_one_more_do_not_stop_the_agent() {
    needs_root!();
    let setup = Setup::host().limit("connections", "200").limit("connections_per_uid", "200");
    let stage = Stage::with(setup);
    let mut attack = stage
        .host
        .program(PEERS[1], stage.hostile())
        .args(["hoard", &stage.socket(), "201"])
        .talk();
    attack.expect("HOLDING 200");
    let status = stage.host.admin(["status"]).run();
    // Operators still reach it, or are told which limit holds.
    assert!(status.code == 0 || status.code == 7, "{status}");
    attack.say("");
    attack.end();
    jsi_tests::until("the connections are free again", Duration::from_secs(5), || {
        stage.run(&stage.trusted(), "get", &[]).stdout.contains(&stage.secret).then_some(())
    });
}
