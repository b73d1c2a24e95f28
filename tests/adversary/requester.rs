//! Attacks on "on whose behalf": by ancestry, and by another's lease ID.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{PEERS, Peer, Setup, Stage, Talk, needs_root, permit};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    ADOPTED_BY_PID_1,
    ADOPTED_IN_A_USER_NAMESPACE,
    ADOPTED_BY_A_MANAGER,
    ANOTHERS_REQUESTER,
    BELOW_A_SHELL,
    FOREIGN_LEASE,
    PROGRAM_OF_THE_SAME_UID,
];

fn jsi(stage: &Stage) -> String {
    stage.host.world.bin("jsi").display().to_string()
}

/// A container, made by root: its processes run as the first peer, and the
/// first of them is pid 1 there.
fn in_a_container(stage: &Stage, command: &[&str]) -> jsi_tests::Program {
    let uid = PEERS[0].uid.to_string();
    let unshare = stage.host.program(Peer { uid: 0 }, "/usr/bin/unshare");
    let become_peer = ["/usr/bin/setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
    unshare.args(["-pf", "--kill-child"]).args(become_peer).args(command)
}

const ADOPTED_BY_PID_1: Attack = Attack::new(
    "pid_1_of_a_container_is_not_the_requester_of_an_orphan_it_adopted",
    &["requester-not-init"],
    "pid 1 of its namespace",
    |stage| {
        let jsi = jsi(stage);
        let orphan = [&*stage.hostile(), "orphan", &jsi, "db/orders", &stage.trusted()];
        let mut attack = in_a_container(stage, &orphan).talk();
        attack.expect("ORPHAN OF 1");
        attack.rest()
    },
)
// The same program there, not as pid 1, that really starts jsi.
.twin(|stage| {
    let shell = format!("{} run {} get db/orders; exit $?", stage.trusted(), jsi(stage));
    let twin = in_a_container(stage, &["/bin/sh", "-c", &shell]);
    twin.run().succeeded().printed(&stage.secret);
});

#[test]
fn pid_1_of_a_container_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    ADOPTED_BY_PID_1.is_refused();
}

/// The same in a user namespace of its own, where it can make the client
/// believe whom it likes.
const ADOPTED_IN_A_USER_NAMESPACE: Attack = Attack::new(
    "pid_1_of_a_user_namespace_is_not_the_requester_of_an_orphan_it_adopted",
    &["foreign-pid-namespace", "requester-not-init"],
    "pid 1 of its namespace",
    |stage| {
        let script = format!(
            "echo owner = 65534 >own.toml && mount --bind own.toml /etc/jsi/client.toml && \
             exec {} orphan {} db/orders {}",
            stage.hostile(),
            jsi(stage),
            stage.trusted()
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let inside = ["-Urmpf", "--kill-child", "/bin/sh", "-c", &script];
        let mut attack = unshare.args(inside).talk();
        attack.expect("ORPHAN OF 1");
        let said = attack.rest();
        assert!(!said.contains("not trusted"), "the client itself would not ask:\n{said}");
        said
    },
)
.twin(|stage| {
    let twin = stage.host.program(PEERS[0], stage.trusted());
    twin.args(["run", &jsi(stage), "get", "db/orders"]).run().succeeded().printed(&stage.secret);
});

#[test]
fn pid_1_of_a_user_namespace_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    ADOPTED_IN_A_USER_NAMESPACE.is_refused();
}

#[test]
fn an_orphan_of_a_double_fork_has_no_trusted_requester() {
    needs_root!();
    let stage = Stage::new();
    let mut attack = stage
        .host
        .program(PEERS[0], stage.hostile())
        .args(["orphan", &jsi(&stage), "db/orders", &stage.trusted()])
        .talk();
    let orphan = attack.line();
    assert!(orphan.starts_with("ORPHAN OF "), "{orphan}");
    assert_ne!(orphan, format!("ORPHAN OF {}", attack.pid()), "it was not adopted");
    let said = attack.rest();
    stage.refuses_because(&said, "the requester is refused");
}

/// A program of the name that a user manager has, at the place that it has in the
/// tree, adopts an orphan that asks.
const ADOPTED_BY_A_MANAGER: Attack = Attack::new(
    "a_user_manager_is_not_the_requester_of_an_orphan_it_adopted",
    &["requester-not-manager"],
    "is a user manager",
    |stage| {
        let manager = stage.host.world.compile("trusted.c", "systemd");
        stage.permit(&permit(PEERS[0].uid, "db/orders", &manager));
        // Its own parent ends, so that pid 1 is above it.
        let start = format!(
            "{} manage {} db/orders {} & exit 0",
            manager.display(),
            stage.socket(),
            jsi(stage)
        );
        let mut attack = stage.host.program(PEERS[0], "/bin/sh").args(["-c", &start]).talk();
        let said = attack.line();
        assert!(said.starts_with("ORPHAN OF "), "{said}");
        attack.rest()
    },
)
.where_possible(|| {
    let mut orphan = std::process::Command::new("/bin/sh");
    let orphan = orphan.args(["-c", "(sleep 0.2; ps -o ppid= -p $(sh -c 'echo $PPID')) & exit 0"]);
    let parent = orphan.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    (parent.ok().as_deref() != Some("1")).then_some("orphans are not adopted by pid 1 here")
})
.twin(|stage| {
    // Whoever really starts jsi, by that name or another.
    let manager = stage.host.program(PEERS[0], stage.host.world.bin("systemd"));
    stage.served(&manager.args(["run", &jsi(stage), "get", "db/orders"]).run());
});

#[test]
fn a_user_manager_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    ADOPTED_BY_A_MANAGER.is_refused();
}

/// The second peer may have it. The first one gives them a set-user-ID program
/// that becomes a client of the first peer's, below the second one's.
fn of_the_second(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let trusted = stage.host.world.bin("trusted");
    stage.permit(&permit(PEERS[1].uid, "db/orders", &trusted));
    let enter = stage.host.world.compile("hostile.c", "enter");
    std::os::unix::fs::chown(&enter, Some(PEERS[0].uid), None).unwrap();
    std::fs::set_permissions(&enter, PermissionsExt::from_mode(0o4755)).unwrap();
    stage
}

const ANOTHERS_REQUESTER: Attack = Attack::new(
    "a_process_of_another_uid_is_not_the_requester",
    &["requester-same-uid", "uids-agree"],
    "does not run as the caller's uid",
    |stage| {
        let enter = stage.host.world.bin("enter").display().to_string();
        let trusted = stage.host.program(PEERS[1], stage.trusted());
        trusted.args(["run", &*enter, "enter", &jsi(stage), "get", "db/orders"]).run().stdout
    },
)
.on(of_the_second)
.twin(|stage| {
    let trusted = stage.host.program(PEERS[1], stage.trusted());
    stage.served(&trusted.args(["run", &jsi(stage), "get", "db/orders"]).run());
});

#[test]
fn a_process_of_another_uid_is_not_the_requester() {
    needs_root!();
    ANOTHERS_REQUESTER.is_refused();
}

/// Policy wants a requester whose code is known to be its own.
fn of_level_two(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let trusted = stage.host.world.bin("trusted");
    let permit = permit(PEERS[0].uid, "db/orders", &trusted);
    stage.permit(&permit.replace("context.assurance >= 1", "context.assurance >= 2"));
    stage
}

/// Whoever can start a program can stand below it, whatever it is.
const BELOW_A_SHELL: Attack = Attack::new(
    "a_requester_found_by_ancestry_never_exceeds_level_one",
    &["requester-level-cap"],
    "context.assurance >= 2 is false",
    |stage| {
        let trusted = stage.host.program(PEERS[0], stage.trusted());
        trusted.args(["run", &jsi(stage), "get", "db/orders"]).run().stdout
    },
)
.on(of_level_two);

#[test]
fn a_requester_found_by_ancestry_never_exceeds_level_one() {
    needs_root!();
    BELOW_A_SHELL.is_refused();
}

/// The shells of both peers may have the secret.
fn shells(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let shell = stage.host.world.bin("shell");
    stage.permit(&PEERS.map(|peer| permit(peer.uid, "db/orders", &shell)).concat());
    stage
}

/// A shell of the first peer that has a lease, and that lease's ID.
fn holder(stage: &Stage) -> (Talk, String) {
    let script =
        "jsi get db/orders >/dev/null; jsi leases -o json; echo; echo END; read x; jsi release $x";
    let mut owner = stage.host.shell(PEERS[0], script).talk();
    let mut listing = String::new();
    loop {
        let line = owner.line();
        if line == "END" {
            break;
        }
        listing.push_str(&line);
    }
    let id = jsi_tests::lease_ids(&listing, "db/orders").remove(0);
    (owner, id)
}

fn is_live(stage: &Stage, id: &str) -> bool {
    let live = stage.host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
    live.stdout.contains(id)
}

/// Whoever holds it releases it.
fn its_holder_releases_it(stage: &Stage) {
    let (mut owner, id) = holder(stage);
    owner.say(&id);
    assert!(owner.end().success());
    assert!(!is_live(stage, &id));
}

const FOREIGN_LEASE: Attack = Attack::new(
    "another_uid_can_do_nothing_with_a_lease_id",
    &["lease-holder"],
    "holds no lease of that ID",
    |stage| {
        let (_owner, id) = holder(stage);
        let other = |script: &str| {
            stage.host.shell(PEERS[1], &script.replace("ID", &id)).run().without(&stage.secret)
        };
        let renewed = other("jsi renew ID");
        let seen = other("jsi leases -o json").succeeded().stdout.contains(&id);
        let released = other("jsi release ID");
        let gone = !is_live(stage, &id);
        told(&format!("{renewed}{released}"), renewed.code == 0 || seen || gone)
    },
)
.on(shells)
.twin(its_holder_releases_it);

#[test]
fn another_uid_can_do_nothing_with_a_lease_id() {
    needs_root!();
    FOREIGN_LEASE.is_refused();
}

const PROGRAM_OF_THE_SAME_UID: Attack = Attack::new(
    "another_program_of_the_same_uid_can_do_nothing_with_a_lease_id",
    &["lease-holder"],
    "holds no lease of that ID",
    |stage| {
        let (_owner, id) = holder(stage);
        let stranger = stage.host.world.install(Path::new("/bin/dash"), "stranger");
        let script = format!("jsi release {id}; exit $?");
        let out = stage.host.program(PEERS[0], stranger).args(["-c", &script]).run();
        told(&out.to_string(), out.code == 0 || !is_live(stage, &id))
    },
)
.on(shells)
.twin(its_holder_releases_it);

#[test]
fn another_program_of_the_same_uid_can_do_nothing_with_a_lease_id() {
    needs_root!();
    PROGRAM_OF_THE_SAME_UID.is_refused();
}
