//! Attacks on "the bytes come from the program behind the socket".

use crate::attack::{Alter, Attack, told};
use crate::await_exe;
use jsi_tests::{PEERS, Setup, Stage, needs_root};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    HELPER_ANSWERS,
    NOBODY_ANSWERS,
    CLONE_VM,
    EXEC_AFTER_CONNECT,
    INHERITED_BY_PROGRAM,
    INHERITED_BY_COPY,
    PASSED_ON,
    FORGED_SENDER,
    DESCRIPTOR_SENT,
];

/// Sends, and becomes the trusted program before the agent accepts.
fn early(stage: &Stage, mode: &str) -> String {
    let trusted = stage.trusted();
    let mut attack = stage.while_stopped(|| {
        let mut attack = stage.program(&stage.hostile(), mode, &[&trusted]).talk();
        attack.expect("SENT");
        await_exe(&attack, &trusted);
        attack
    });
    attack.rest()
}

fn impatient(alter: Alter<'_>) -> Stage {
    Stage::with(alter(Setup::host().limit("challenge_timeout", "\"1s\"")))
}

/// Sends just as early, and stays what it is.
fn early_twin(stage: &Stage) {
    let mut twin = stage.while_stopped(|| {
        let mut twin = stage.program(&stage.trusted(), "get-early", &[]).talk();
        twin.expect("SENT");
        twin
    });
    let rest = twin.rest();
    assert!(rest.contains(&stage.secret), "{rest}");
}

const HELPER_ANSWERS: Attack = Attack::new(
    "a_program_that_became_trusted_before_accept_is_not_served",
    &["sender"],
    "which is not the peer",
    |stage| early(stage, "exec-before-accept"),
)
.on(impatient)
.twin(early_twin);

#[test]
fn a_program_that_became_trusted_before_accept_is_not_served() {
    needs_root!();
    HELPER_ANSWERS.is_refused();
}

const NOBODY_ANSWERS: Attack = Attack::new(
    "a_program_that_became_trusted_before_accept_and_is_silent_is_not_served",
    &["challenge"],
    "did not answer the HTTP/2 PING",
    |stage| early(stage, "exec-and-read"),
)
.on(impatient)
.twin(early_twin);

#[test]
fn a_program_that_became_trusted_before_accept_and_is_silent_is_not_served() {
    needs_root!();
    NOBODY_ANSWERS.is_refused();
}

const CLONE_VM: Attack = Attack::new(
    "a_program_that_became_trusted_while_a_child_keeps_its_memory_is_not_served",
    &["exec-generation", "executable-mapped"],
    "it has become another program since accept",
    |stage| {
        let trusted = stage.trusted();
        let mut attack = stage.program(&stage.hostile(), "exec-with-clone-vm", &[&trusted]).talk();
        attack.expect("READY");
        stage.while_stopped(|| {
            attack.say("go on");
            attack.expect("SENT");
            await_exe(&attack, &trusted);
        });
        attack.rest()
    },
)
.twin(|stage| {
    let mut twin = stage.program(&stage.trusted(), "get-when-told", &[]).talk();
    twin.expect("READY");
    stage.while_stopped(|| {
        twin.say("go on");
        twin.expect("SENT");
    });
    let rest = twin.rest();
    assert!(rest.contains(&stage.secret), "{rest}");
});

#[test]
fn a_program_that_became_trusted_while_a_child_keeps_its_memory_is_not_served() {
    needs_root!();
    CLONE_VM.is_refused();
}

const EXEC_AFTER_CONNECT: Attack = Attack::new(
    "a_connection_of_another_program_does_not_become_trusted_by_exec",
    &["exec-generation", "executable-mapped", "held-maps"],
    "it has become another program",
    |stage| stage.run(&stage.hostile(), "exec-after-connect", &[&stage.trusted()]).stdout,
);

#[test]
fn a_connection_of_another_program_does_not_become_trusted_by_exec() {
    needs_root!();
    EXEC_AFTER_CONNECT.is_refused();
}

const INHERITED_BY_PROGRAM: Attack = Attack::new(
    "a_connection_is_not_inherited_by_another_program",
    &["sender"],
    "which is not the peer",
    |stage| stage.run(&stage.trusted(), "hand-to-child", &[&stage.hostile()]).stdout,
);

#[test]
fn a_connection_is_not_inherited_by_another_program() {
    needs_root!();
    INHERITED_BY_PROGRAM.is_refused();
}

const INHERITED_BY_COPY: Attack = Attack::new(
    "a_connection_is_not_inherited_by_a_forked_copy",
    &["sender"],
    "which is not the peer",
    |stage| stage.run(&stage.trusted(), "hand-to-child", &[]).stdout,
)
// A forked copy with a connection of its own is served.
.twin(|stage| stage.served(&stage.run(&stage.trusted(), "child", &[])));

#[test]
fn a_connection_is_not_inherited_by_a_forked_copy() {
    needs_root!();
    INHERITED_BY_COPY.is_refused();
}

const PASSED_ON: Attack = Attack::new(
    "a_connection_is_not_passed_on_by_scm_rights",
    &["sender"],
    "which is not the peer",
    |stage| stage.run(&stage.trusted(), "pass-on", &[&stage.hostile()]).stdout,
);

#[test]
fn a_connection_is_not_passed_on_by_scm_rights() {
    needs_root!();
    PASSED_ON.is_refused();
}

const FORGED_SENDER: Attack = Attack::new(
    "a_sender_forged_in_a_user_namespace_is_not_believed",
    &["foreign-pid-namespace"],
    "a pid namespace that another user namespace owns",
    |stage| {
        let (hostile, trusted) = (stage.hostile(), stage.trusted());
        let inside = [&*hostile, "forged-sender", &stage.socket(), "db/orders", &trusted];
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let out = unshare.args(["-Urpf", "--kill-child"]).args(inside).run();
        assert!(out.stdout.contains("FORGED"), "the kernel did not let it be forged:\n{out}");
        out.stdout
    },
);

#[test]
fn a_sender_forged_in_a_user_namespace_is_not_believed() {
    needs_root!();
    FORGED_SENDER.is_refused();
}

/// Where the kernel has `SO_PASSRIGHTS` the sender itself is refused, and the log
/// has nothing to say.
const DESCRIPTOR_SENT: Attack = Attack::new(
    "a_descriptor_sent_to_the_agent_is_not_taken",
    &["control-messages", "pass-rights"],
    "",
    |stage| {
        let out = stage.run(&stage.hostile(), "send-descriptor", &[]);
        told(&out.stdout, !out.stdout.contains("CLOSED"))
    },
);

#[test]
fn a_descriptor_sent_to_the_agent_is_not_taken() {
    needs_root!();
    DESCRIPTOR_SENT.is_refused();
}

#[test]
fn a_program_that_policy_does_not_name_is_not_served() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.hostile(), "get", &[]);
    stage.refuses_because(&out.stdout, "no permit applies");
    stage.serves_the_twin();
}
