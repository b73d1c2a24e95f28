//! Attacks on "no process of the same uid could have tampered".

use crate::attack::{Alter, Attack};
use jsi_tests::{PEERS, Peer, Setup, Stage, needs_root, permit};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[HIDDEN, WITHOUT_GROUP, COPIED_CLIENT, NOT_ENFORCED];

/// A program that hides itself, but whose memory was opened before.
const HIDDEN: Attack = Attack::new(
    "a_program_that_hides_itself_gives_no_level_three",
    &["isolation"],
    "it is not dumpable, which earns nothing",
    |stage| {
        let out = stage.run(&stage.host.world.bin("mapped").display().to_string(), "hide", &[]);
        assert!(out.stdout.contains("READ"), "its memory could not be read: {out}");
        out.stdout
    },
)
.on(|alter| {
    let setup = Setup::host().agent("isolated_uids", &format!("[{}]", PEERS[1].uid));
    Stage::installed(alter(setup), |world| {
        world.compile("mapped.c", "mapped");
        let level_3 = |peer: Peer| {
            permit(peer.uid, "db/orders", &world.bin("mapped"))
                .replace("context.assurance >= 1", "context.assurance >= 3")
        };
        world.write_policy("orders", &PEERS.map(level_3).concat());
    })
})
.twin(|stage| {
    // Nobody else runs anything under the second peer's uid: root says so.
    let mapped = stage.host.program(PEERS[1], stage.host.world.bin("mapped"));
    stage.served(&mapped.args(["get", &stage.socket(), "db/orders"]).run());
});

#[test]
fn a_program_that_hides_itself_gives_no_level_three() {
    needs_root!();
    HIDDEN.is_refused();
}

/// What `jsi exec` becomes, by the word of a client that must reach level 3.
fn measured_target(alter: Alter<'_>) -> Stage {
    Stage::installed(alter(Setup::host()), |world| {
        world.install_setgid_client();
        let target = "context has target && context.target has exe && \
                      context.target.exe == \"/usr/bin/printenv\" && \
                      context.target.assurance >= 3 && context.assurance >= 1";
        let policy = permit(PEERS[0].uid, "db/orders", &world.bin("shell"))
            .replace("context.assurance >= 1", target);
        world.write_policy("orders", &policy);
    })
}

/// A shell of the first peer, which runs a client behind that.
fn exec_behind(stage: &Stage, before: &str) -> String {
    let script = format!("{before} exec -e X=db/orders -- printenv X");
    stage.host.shell(PEERS[0], &script).run().stdout
}

fn exec(stage: &Stage) {
    let said = exec_behind(stage, "jsi");
    assert!(said.contains(&stage.secret), "the twin was not served: {said}");
}

/// Whoever keeps the client from its group could have opened its memory.
const WITHOUT_GROUP: Attack = Attack::new(
    "a_client_without_its_group_vouches_for_no_target_at_level_three",
    &["isolation"],
    "the caller does not reach 3: it is not dumpable, which earns nothing",
    |stage| exec_behind(stage, "setpriv --no-new-privs jsi"),
)
.on(measured_target)
.twin(exec);

#[test]
fn a_client_without_its_group_vouches_for_no_target_at_level_three() {
    needs_root!();
    WITHOUT_GROUP.is_refused();
}

/// The same bytes, in a file that the requester could write.
const COPIED_CLIENT: Attack = Attack::new(
    "a_copied_client_vouches_for_no_target_at_level_three",
    &["isolation", "library-writable"],
    "jsi is writable by uid 20001",
    |stage| {
        let copy = stage.host.world.home(PEERS[0]).join("jsi");
        // Another process writes it: see World::install.
        let mut install = std::process::Command::new("/usr/bin/install");
        let uid = PEERS[0].uid.to_string();
        install.args(["-m", "0755", "-o", &uid, "--"]).arg(stage.host.world.bin("jsi")).arg(&copy);
        assert!(install.status().unwrap().success());
        exec_behind(stage, &copy.display().to_string())
    },
)
.on(measured_target)
.twin(exec);

#[test]
fn a_copied_client_vouches_for_no_target_at_level_three() {
    needs_root!();
    COPIED_CLIENT.is_refused();
}

/// Out of reach of its uid, but nothing that the kernel enforces.
const NOT_ENFORCED: Attack = Attack::new(
    "an_isolated_program_that_no_kernel_enforces_gives_no_level_four",
    &["enforced"],
    "its executable has no fs-verity digest",
    |stage| asks(stage, PEERS[1]),
)
.on(|alter| {
    let uids = format!("{:?}", PEERS.map(|peer| peer.uid));
    Stage::installed(alter(Setup::host().agent("isolated_uids", &uids)), |world| {
        world.compile("mapped.c", "mapped");
        let at = |peer: Peer, level: &str| {
            permit(peer.uid, "db/orders", &world.bin("mapped"))
                .replace("context.assurance >= 1", &format!("context.assurance >= {level}"))
        };
        world.write_policy("orders", &(at(PEERS[0], "3") + &at(PEERS[1], "4")));
    })
})
.twin(|stage| assert!(asks(stage, PEERS[0]).contains(&stage.secret), "level 3 is served"));

fn asks(stage: &Stage, peer: Peer) -> String {
    let program = stage.host.program(peer, stage.host.world.bin("mapped"));
    program.args(["get", &stage.socket(), "db/orders"]).run().stdout
}

#[test]
fn an_isolated_program_that_no_kernel_enforces_gives_no_level_four() {
    needs_root!();
    NOT_ENFORCED.is_refused();
}
