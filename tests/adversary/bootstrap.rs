//! Attacks on sockets that are asked for by packet (`JSI_AUTH_FD`).

use crate::attack::{Alter, Attack, told};
use crate::await_exe;
use jsi_tests::{Outcome, PEERS, Peer, Setup, Stage, needs_root, permit};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[STOLEN, EXEC_AT_ONCE, ANOTHER_UID, LEVEL, UNREAD];

/// The stage, where policy names the one of two equal programs.
fn scene(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let world = &stage.host.world;
    for name in ["packets", "others"] {
        world.compile("bootstrap.c", name);
    }
    stage.permit(&permit(PEERS[0].uid, "db/orders", &world.bin("packets")));
    stage
}

fn bin(stage: &Stage, name: &str) -> String {
    stage.host.world.bin(name).display().to_string()
}

fn socket(stage: &Stage) -> String {
    stage.host.world.socket().with_file_name("bootstrap.sock").display().to_string()
}

fn run(stage: &Stage, program: &str, mode: &str) -> Outcome {
    let program = stage.host.program(PEERS[0], bin(stage, program));
    program.args([mode, &socket(stage), "db/orders", &bin(stage, "packets")]).run()
}

/// The program that policy names asks by packet.
fn twin(stage: &Stage) {
    stage.served(&run(stage, "packets", "get"));
}

const STOLEN: Attack = Attack::new(
    "an_answer_to_another_that_shares_the_connection_is_of_no_use",
    &["sender"],
    "which is not the peer",
    |stage| run(stage, "others", "steal").stdout,
)
.on(scene)
.twin(twin);

#[test]
fn an_answer_to_another_that_shares_the_connection_is_of_no_use() {
    needs_root!();
    STOLEN.is_refused();
}

const EXEC_AT_ONCE: Attack = Attack::new(
    "a_program_that_asks_and_becomes_the_trusted_one_gets_nothing_by_it",
    &["sender"],
    "which is not the peer",
    |stage| {
        // So that it is the trusted program before the agent has looked at it.
        let mut attack = stage.while_stopped(|| {
            let program = stage.host.program(PEERS[0], bin(stage, "others"));
            let words = ["exec-at-once", &socket(stage), "db/orders", &bin(stage, "packets")];
            let mut attack = program.args(words).talk();
            attack.expect("SENT");
            await_exe(&attack, &bin(stage, "packets"));
            attack
        });
        attack.rest()
    },
)
.on(scene)
.twin(twin);

#[test]
fn a_program_that_asks_and_becomes_the_trusted_one_gets_nothing_by_it() {
    needs_root!();
    EXEC_AT_ONCE.is_refused();
}

/// The same once the answer is there, so that the agent has looked at it before:
/// the sender, the generation and the mappings each stand in its way.
const EXEC_AFTER: Attack = Attack::new(
    "a_program_that_becomes_the_trusted_one_after_the_answer_gets_nothing_by_it",
    &[],
    "which is not the peer",
    |stage| run(stage, "others", "exec-after").stdout,
)
.on(scene)
.twin(twin);

#[test]
fn a_program_that_becomes_the_trusted_one_after_the_answer_gets_nothing_by_it() {
    needs_root!();
    EXEC_AFTER.is_refused();
}

/// Connected by that uid, and used by the first peer's trusted program. By root,
/// who can be both.
fn pass(stage: &Stage, by: Peer) -> String {
    let program = stage.host.program(Peer { uid: 0 }, bin(stage, "others"));
    let (by, to) = (by.uid.to_string(), PEERS[0].uid.to_string());
    let words = ["pass", &socket(stage), "db/orders", &bin(stage, "packets"), &by, &to];
    program.args(words).run().stdout
}

const ANOTHER_UID: Attack = Attack::new(
    "a_connection_that_another_uid_made_is_not_served",
    &["bootstrap-uid"],
    "but the descriptor was connected by uid 20002",
    |stage| pass(stage, PEERS[1]),
)
.on(scene)
.twin(|stage| assert!(pass(stage, PEERS[0]).contains(&stage.secret)));

#[test]
fn a_connection_that_another_uid_made_is_not_served() {
    needs_root!();
    ANOTHER_UID.is_refused();
}

/// What policy demands level 2 of reaches it on a connection of its own.
const LEVEL: Attack = Attack::new(
    "who_asks_by_packet_reaches_no_more_than_level_one",
    &["bootstrap-level-cap"],
    "context.assurance",
    |stage| {
        let both = ["packets", "trusted"].map(|name| {
            let named = permit(PEERS[0].uid, "db/orders", &stage.host.world.bin(name));
            named.replace("context.assurance >= 1", "context.assurance >= 2")
        });
        stage.permit(&both.concat());
        run(stage, "packets", "get").stdout
    },
)
.on(scene);

#[test]
fn who_asks_by_packet_reaches_no_more_than_level_one() {
    needs_root!();
    LEVEL.is_refused();
}

/// Each answer that lies unread holds a descriptor on the agent's account.
const UNREAD: Attack =
    Attack::new("answers_that_nobody_reads_do_not_pile_up", &["bootstrap-unread"], "", |stage| {
        let said = run(stage, "others", "pile-up").stdout;
        let piled = said.trim().strip_prefix("PILED ").and_then(|n| n.parse::<u32>().ok());
        told(&said, piled.expect("it says how many") > 40)
    })
    .on(scene)
    .twin(twin);

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    needs_root!();
    UNREAD.is_refused();
}

#[test]
fn a_sender_that_is_forged_in_a_namespace_reaches_no_level() {
    needs_root!();
    let stage = scene(&|setup| setup);
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let words = ["forge", &socket(&stage), "db/orders", &bin(&stage, "packets")];
    let out = unshare.args(["-Urpf", &bin(&stage, "others")]).args(words).run();
    assert!(out.stdout.contains("FORGED\n") && !out.stdout.contains("NOT FORGED"), "{out}");
    stage.refuses_because(&out.stdout, "a pid namespace that another user namespace owns");
    twin(&stage);
}

#[test]
fn what_is_no_packet_of_ours_ends_the_connection_and_harms_nobody() {
    needs_root!();
    let stage = scene(&|setup| setup);
    let out = run(&stage, "packets", "garbage");
    stage.refuses_because(&out.stdout, "is none that asks for a socket");
    twin(&stage);
}

#[test]
fn a_flood_of_packets_whose_answers_nobody_reads_keeps_nobody_else_out() {
    needs_root!();
    let stage = scene(&|setup| setup);
    let flood = |peer| {
        let program = stage.host.program(peer, bin(&stage, "others"));
        program.args(["flood", &socket(&stage)]).talk()
    };
    let mut floods = [flood(PEERS[1]), flood(PEERS[1])];
    for flood in &mut floods {
        flood.expect("FLOODING");
    }
    for _ in 0..20 {
        twin(&stage);
    }
    assert!(floods.iter_mut().all(|flood| flood.is_running()), "the flood was over");
    stage.host.await_record("refused", "too many bootstrap connections");
    // Answers that lie unread are few, and so are the sockets in them.
    let fds = format!("/proc/{}/fd", stage.host.pids().broker);
    let open = std::fs::read_dir(fds).unwrap().count();
    assert!(open < 3_000, "{open} descriptors of the broker");
}
