//! A user agent cannot look into a set-group-ID client, and takes its group
//! for it instead. Who else would have that group count?

use crate::attack::{Alter, Attack};
use jsi_tests::{Outcome, PEERS, Peer, Setup, Stage, needs_root, permit};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[GROUP_BY_OTHER_MEANS];

/// A user agent of the first peer, a set-group-ID client, and two programs
/// that policy names: a shell, and one that can hide itself.
fn scene(alter: Alter<'_>) -> Stage {
    Stage::installed(alter(Setup::user(PEERS[0].uid)), |world| {
        world.install_setgid_client();
        world.compile("hostile.c", "hider");
        let uid = PEERS[0].uid;
        let permits = ["shell", "hider"].map(|name| permit(uid, "db/orders", &world.bin(name)));
        world.write_policy("orders", &permits.concat());
    })
}

fn plain() -> Stage {
    scene(&|setup| setup)
}

fn delivered(stage: &Stage, outcome: &Outcome) -> bool {
    outcome.stdout.contains(&stage.secret)
}

fn hider(stage: &Stage, mode: &str) -> Outcome {
    stage.run(&stage.host.world.bin("hider").display().to_string(), mode, &[])
}

#[test]
fn a_program_that_hides_itself_is_not_taken_for_a_client() {
    needs_root!();
    let stage = plain();
    let out = hider(&stage, "hidden");
    stage.refuses_because(&out.stdout, "its exec generation is hidden");
    let out = hider(&stage, "get");
    assert!(delivered(&stage, &out), "the twin that shows itself is served: {out}");
}

/// A shell that policy names, with the clients' group as its real one, as the
/// shell of somebody whose group it is made would have it: what it starts is
/// hidden, and no client.
const GROUP_BY_OTHER_MEANS: Attack = Attack::new(
    "a_program_with_the_clients_group_by_other_means_is_not_taken_for_a_client",
    &[],
    "its exec generation is hidden",
    |stage| {
        let (uid, gid) = (PEERS[0].uid.to_string(), stage.host.world.client_gid().to_string());
        let hostile = stage.hostile();
        let ask = format!("{hostile} hidden {} db/orders; exit $?", stage.socket());
        let shell = stage.host.world.bin("shell").display().to_string();
        let mut said = String::new();
        // As its real group, and as one of its groups.
        for groups in
            [&["--regid", &gid, "--clear-groups"][..], &["--regid", &uid, "--groups", &gid]]
        {
            let become_peer = stage.host.program(Peer { uid: 0 }, "/usr/bin/setpriv");
            let become_peer = become_peer.args(["--reuid", &uid]).args(groups);
            said.push_str(&become_peer.args([&*shell, "-c", &ask]).run().stdout);
        }
        said
    },
)
.on(scene)
.twin(|stage| {
    let out = stage.host.shell(PEERS[0], "jsi get db/orders").run();
    assert!(delivered(stage, &out), "{out}");
});

#[test]
fn a_program_with_the_clients_group_by_other_means_is_not_taken_for_a_client() {
    needs_root!();
    GROUP_BY_OTHER_MEANS.is_refused();
}

#[test]
fn another_uids_client_is_not_served_by_a_user_agent() {
    needs_root!();
    let stage = plain();
    let out = stage.host.shell(PEERS[1], "jsi get db/orders").run();
    assert!(out.code == 5 && !delivered(&stage, &out), "{out}");
    let out = stage.host.shell(PEERS[0], "jsi get db/orders").run();
    assert!(delivered(&stage, &out), "{out}");
}

/// Its group says what it is, and nothing of who started it.
#[test]
fn a_client_speaks_for_whoever_started_it_and_for_nobody_better() {
    needs_root!();
    let stage = plain();
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let shell = stage.host.world.bin("shell").display().to_string();
    let other = stage.host.program(PEERS[0], "/bin/sh");
    let out = other.args(["-c", &format!("{jsi} get db/orders; exit $?")]).run().coded(3);
    stage.refuses_because(&out.stdout, "no permit applies");
    // An orphan of a double fork has lost the one who started it.
    let orphan = stage.host.program(PEERS[0], stage.hostile());
    let mut orphan = orphan.args(["orphan", &jsi, "db/orders", &shell]).talk();
    let said = orphan.rest();
    stage.refuses_because(&said, "the requester is refused");
    let out = stage.host.shell(PEERS[0], "jsi get db/orders").run();
    assert!(delivered(&stage, &out), "{out}");
}
