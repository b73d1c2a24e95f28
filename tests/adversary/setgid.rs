//! A user agent cannot look into a set-group-ID client, and takes its group
//! for it instead. Who else would have that group count?

use crate::attack::{Alter, Attack};
use jsi_tests::{Outcome, PEERS, Setup, Stage, needs_root, permit};
use std::os::unix::fs::{PermissionsExt, chown};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[GROUP_BY_OTHER_MEANS, CLIENT_OF_A_USER, OPEN_CLIENT];

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

/// A program of the user that has the clients' group as its real one, as newgrp(1)
/// gives it to somebody who was made a member: started by a shell that policy
/// names, hidden, and no client.
const GROUP_BY_OTHER_MEANS: Attack = Attack::new(
    "a_program_with_the_clients_group_by_other_means_is_not_taken_for_a_client",
    &["client-group-by-setgid"],
    "its exec generation is hidden",
    |stage| {
        let newgrp = stage.host.world.compile("hostile.c", "newgrp");
        std::fs::set_permissions(&newgrp, PermissionsExt::from_mode(0o4755)).unwrap();
        let (gid, hostile) = (stage.host.world.client_gid(), stage.hostile());
        let ask = format!("newgrp join {gid} {hostile} hidden {} db/orders", stage.socket());
        stage.host.shell(PEERS[0], &ask).run().stdout
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

/// The client's file was given to the first peer, who has put another there: what
/// the trusted program starts by that name speaks for itself alone.
const CLIENT_OF_A_USER: Attack = Attack::new(
    "a_client_that_root_did_not_install_speaks_for_nobody_else",
    &["client-installed-by-root"],
    "no permit applies",
    |stage| {
        let jsi = stage.host.world.compile("hostile.c", "jsi");
        chown(&jsi, Some(PEERS[0].uid), None).unwrap();
        let start =
            [&*jsi.display().to_string(), "get", &stage.socket(), "db/orders"].map(str::to_owned);
        let trusted = stage.host.program(PEERS[0], stage.trusted());
        trusted.args(["run"]).args(start).run().stdout
    },
)
.twin(|stage| {
    stage.host.world.install(&jsi_tests::shipped().with_file_name("jsi"), "jsi");
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let trusted = stage.host.program(PEERS[0], stage.trusted());
    stage.served(&trusted.args(["run", &*jsi, "get", "db/orders"]).run());
});

#[test]
fn a_client_that_root_did_not_install_speaks_for_nobody_else() {
    needs_root!();
    CLIENT_OF_A_USER.is_refused();
}

/// Policy wants a client that nobody of its uid can look into.
fn demanding(alter: Alter<'_>) -> Stage {
    let stage = Stage::installed(alter(Setup::host()), |world| {
        world.install_setgid_client();
    });
    let trusted = stage.host.world.bin("trusted");
    let own = "context.caller.assurance >= 3 &&\n  context.assurance >= 1";
    let demanding = permit(PEERS[0].uid, "db/orders", &trusted);
    stage.permit(&demanding.replace("context.assurance >= 1", own));
    stage
}

/// A set-group-ID client that opens itself to debuggers is as open as any other.
const OPEN_CLIENT: Attack = Attack::new(
    "a_client_that_opens_itself_is_not_isolated",
    &["client-closed"],
    "context.caller.assurance >= 3 is false",
    |stage| {
        let jsi = stage.host.world.compile("hostile.c", "jsi");
        chown(&jsi, Some(0), Some(stage.host.world.client_gid())).unwrap();
        std::fs::set_permissions(&jsi, PermissionsExt::from_mode(0o2755)).unwrap();
        let start =
            [&*jsi.display().to_string(), "shown", &stage.socket(), "db/orders"].map(str::to_owned);
        let trusted = stage.host.program(PEERS[0], stage.trusted());
        trusted.args(["run"]).args(start).run().stdout
    },
)
.on(demanding)
.twin(|stage| {
    stage.host.world.install(&jsi_tests::shipped().with_file_name("jsi"), "jsi");
    stage.host.world.install_setgid_client();
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let trusted = stage.host.program(PEERS[0], stage.trusted());
    stage.served(&trusted.args(["run", &*jsi, "get", "db/orders"]).run());
});

#[test]
fn a_client_that_opens_itself_is_not_isolated() {
    needs_root!();
    OPEN_CLIENT.is_refused();
}
