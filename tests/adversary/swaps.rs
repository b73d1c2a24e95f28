//! Attacks by becoming another program, or having it in one's place, at the
//! right moment.

use crate::attack::{Alter, Attack, told};
use crate::await_exe;
use jsi_tests::{PEERS, Setup, Stage, Talk, needs_root, permit};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    SAME_NUMBERS,
    HIDDEN,
    REPLACED_BEFORE_DELIVERY,
    PATCHED_BEFORE_DELIVERY,
    TRACED,
    SET_USER_ID,
    RACE,
    STOPPED,
    VANISHED,
];

/// Its file has a name as long as the trusted program's.
fn swapper(stage: &Stage) -> String {
    stage.host.world.compile("swapper.c", "swapper").display().to_string()
}

fn swap(stage: &Stage, mode: &str, more: &[&str]) -> jsi_tests::Program {
    let trusted = stage.trusted();
    stage.program(&swapper(stage), mode, &[&[&*trusted], more].concat())
}

/// Without address randomisation every exec gives the same numbers.
const SAME_NUMBERS: Attack = Attack::new(
    "a_program_without_address_randomisation_is_not_known_again",
    &["executable-mapped", "randomisation"],
    "address randomisation is off",
    |stage| {
        let mut attack = swap(stage, "without-randomisation", &[]).talk();
        attack.expect("READY");
        stage.while_stopped(|| {
            attack.say("go on");
            attack.expect("SENT");
            await_exe(&attack, &stage.trusted());
        });
        attack.rest()
    },
);

#[test]
fn a_program_without_address_randomisation_is_not_known_again() {
    needs_root!();
    SAME_NUMBERS.is_refused();
}

fn of_a_user(alter: Alter<'_>) -> Stage {
    Stage::with(alter(Setup::user(PEERS[0].uid)))
}

/// A user agent sees nothing of a program that is not dumpable.
const HIDDEN: Attack = Attack::new(
    "a_program_that_was_hidden_at_accept_does_not_become_trusted_by_exec",
    &["hidden-then-shown"],
    "was hidden at accept and is not now",
    |stage| swap(stage, "hidden-then-shown", &[]).run().stdout,
)
.on(of_a_user);

#[test]
fn a_program_that_was_hidden_at_accept_does_not_become_trusted_by_exec() {
    needs_root!();
    HIDDEN.is_refused();
}

/// The agent's log is slow, so that its requester can be another program by the
/// time at which the grant is durable.
const REPLACED_BEFORE_DELIVERY: Attack = Attack::new(
    "a_program_that_took_the_requesters_place_before_the_delivery_gets_nothing",
    &["recheck"],
    "it has become another program",
    |stage| {
        let _slow = SlowLog::of(stage);
        stage.run(&stage.trusted(), "ask-then-become", &[&stage.hostile()]).stdout
    },
);

/// strace(1) holds each sync of the broker up.
pub(crate) struct SlowLog(Child);

impl SlowLog {
    pub(crate) fn of(stage: &Stage) -> Self {
        let broker = stage.host.pids().broker.to_string();
        let mut strace = Command::new("strace");
        let inject = "inject=fdatasync,fsync:delay_enter=600000";
        strace.args(["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e", inject, "-p", &broker]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = strace.spawn().expect("strace runs: install strace");
        let tracer = child.id().to_string();
        jsi_tests::until("every thread is traced", std::time::Duration::from_secs(10), || {
            let tasks = std::fs::read_dir(format!("/proc/{broker}/task")).ok()?;
            let traced = |task: std::fs::DirEntry| {
                let status = std::fs::read_to_string(task.path().join("status"));
                let status = status.unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
                line.is_some_and(|pid| pid.trim() == tracer)
            };
            tasks.flatten().all(traced).then_some(())
        });
        Self(child)
    }
}

impl Drop for SlowLog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_took_the_requesters_place_before_the_delivery_gets_nothing() {
    needs_root!();
    REPLACED_BEFORE_DELIVERY.is_refused();
}

/// Policy wants a program whose code is known to be its own.
fn of_level_two(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let trusted = permit(PEERS[0].uid, "db/orders", &stage.host.world.bin("trusted"));
    stage.permit(&trusted.replace("context.assurance >= 1", "context.assurance >= 2"));
    stage
}

/// The same moment, used to change the program instead of replacing it.
const PATCHED_BEFORE_DELIVERY: Attack = Attack::new(
    "a_program_that_was_patched_before_the_delivery_gets_nothing",
    &["level-kept"],
    "it had reached level 2 and does not any more",
    |stage| {
        let _slow = SlowLog::of(stage);
        let said = swap(stage, "patched", &[]).run().stdout;
        assert!(said.contains("TOUCHED"), "{said}");
        said
    },
)
.on(of_level_two);

#[test]
fn a_program_that_was_patched_before_the_delivery_gets_nothing() {
    needs_root!();
    PATCHED_BEFORE_DELIVERY.is_refused();
}

/// As gdb(1) starts a program.
const TRACED: Attack = Attack::new(
    "a_program_that_another_traces_is_not_the_trusted_program",
    &["tracer"],
    "it is traced by pid",
    |stage| swap(stage, "traced", &[]).run().stdout,
);

#[test]
fn a_program_that_another_traces_is_not_the_trusted_program() {
    needs_root!();
    TRACED.is_refused();
}

/// The trusted program is set-user-ID of the second peer, who may have the
/// secret, and the first peer, who chose its arguments, environment and
/// descriptors, starts it (CVE-2018-1116 is a uid that its owner did not stand for).
fn set_user_id(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let trusted = stage.host.world.bin("trusted");
    stage.permit(&permit(PEERS[1].uid, "db/orders", &trusted));
    chown(&trusted, Some(PEERS[1].uid), Some(PEERS[1].uid)).unwrap();
    std::fs::set_permissions(&trusted, PermissionsExt::from_mode(0o4755)).unwrap();
    stage
}

const SET_USER_ID: Attack = Attack::new(
    "a_set_user_id_program_does_not_ask_for_its_owner",
    &["uids-agree"],
    "its uids do not agree",
    |stage| stage.run(&stage.trusted(), "keep-saved", &[]).stdout,
)
.on(set_user_id)
.twin(|stage| {
    let own = stage.host.program(PEERS[1], stage.trusted());
    stage.served(&own.args(["get", &stage.socket(), "db/orders"]).run());
});

#[test]
fn a_set_user_id_program_does_not_ask_for_its_owner() {
    needs_root!();
    SET_USER_ID.is_refused();
}

/// Tries of one race: at another moment each, half of them before the challenge,
/// half of them by another thread than the one that asks.
const TRIES: u32 = 2000;

const RACE: Attack = Attack::new(
    "no_moment_is_right_for_becoming_the_trusted_program",
    &[],
    "has become another program",
    |stage| {
        let said = swap(stage, "race", &[&TRIES.to_string()]).run().stdout;
        let tried = said.lines().find_map(|line| line.strip_prefix("TRIED ")?.parse::<u32>().ok());
        // On a busy machine some do not get so far.
        assert!(tried.is_some_and(|tried| tried > TRIES / 2), "{said}");
        said
    },
);

#[test]
fn no_moment_is_right_for_becoming_the_trusted_program() {
    needs_root!();
    RACE.is_refused();
}

/// A peer that stops before it answers is let go, and holds nobody up.
const STOPPED: Attack = Attack::new(
    "a_stopped_peer_is_not_waited_for",
    &[],
    "did not answer the HTTP/2 PING in time",
    |stage| {
        let mut stopped: Vec<Talk> = (0..8).map(|_| swap(stage, "stop", &[]).talk()).collect();
        for peer in &mut stopped {
            peer.expect("STOPPED");
        }
        let other = stage.host.program(PEERS[1], stage.trusted());
        let out = other.args(["get", &stage.socket(), "db/orders"]).run();
        // Its answer is about itself, and came while they are stopped.
        assert!(out.stdout.contains("REFUSED"), "{out}");
        stage.host.await_record("refused", "did not answer the HTTP/2 PING in time");
        told("", false)
    },
)
.on(|alter| Stage::with(alter(Setup::host().limit("challenge_timeout", "\"1s\""))));

#[test]
fn a_stopped_peer_is_not_waited_for() {
    needs_root!();
    STOPPED.is_refused();
}

const VANISHED: Attack = Attack::new(
    "a_peer_that_ends_in_the_middle_leaves_nothing_behind",
    &[],
    "ended before it was verified",
    |stage| swap(stage, "vanish", &[]).run().stdout,
)
.twin(|stage| {
    stage.serves_the_twin();
    jsi_tests::until("its connections are gone", std::time::Duration::from_secs(10), || {
        let status = stage.host.admin(["status", "-o", "json"]).run().succeeded().json();
        let limits = status["limits"].as_array()?;
        let open = limits.iter().find(|limit| limit["name"] == "connections")?;
        // The operator's own.
        (open["used"].as_u64()? <= 1).then_some(())
    });
});

#[test]
fn a_peer_that_ends_in_the_middle_leaves_nothing_behind() {
    needs_root!();
    VANISHED.is_refused();
}
