//! Attacks on "the bytes come from the program behind the socket".

use crate::await_exe;
use jsi_tests::{PEERS, Setup, Stage, needs_root};

#[test]
fn a_program_that_became_trusted_before_accept_is_not_served() {
    needs_root!();
    let stage = Stage::with(Setup::host().limit("challenge_timeout", "\"1s\""));
    let trusted = stage.trusted();
    // Its helper answers for it, or reads in silence.
    for mode in ["exec-before-accept", "exec-and-read"] {
        let mut attack = stage.while_stopped(|| {
            let mut attack = stage.program(&stage.hostile(), mode, &[&trusted]).talk();
            attack.expect("SENT");
            await_exe(&attack, &trusted);
            attack
        });
        stage.refuses(&attack.rest());
    }
    stage.host.await_record("refused", "which is not the peer");
    stage.host.await_record("refused", "did not answer the HTTP/2 PING");

    // Its twin sends just as early, and stays what it is.
    let mut twin = stage.while_stopped(|| {
        let mut twin = stage.program(&trusted, "get-early", &[]).talk();
        twin.expect("SENT");
        twin
    });
    let rest = twin.rest();
    assert!(rest.contains(&stage.secret), "{rest}");
}

#[test]
fn a_program_that_became_trusted_while_a_child_keeps_its_memory_is_not_served() {
    needs_root!();
    let stage = Stage::new();
    let trusted = stage.trusted();
    let hostile = stage.hostile();
    let mut attack = stage.program(&hostile, "exec-with-clone-vm", &[&trusted]).talk();
    attack.expect("READY");
    stage.while_stopped(|| {
        attack.say("go on");
        attack.expect("SENT");
        await_exe(&attack, &trusted);
    });
    stage.refuses(&attack.rest());

    let mut twin = stage.program(&trusted, "get-when-told", &[]).talk();
    twin.expect("READY");
    stage.while_stopped(|| {
        twin.say("go on");
        twin.expect("SENT");
    });
    let rest = twin.rest();
    assert!(rest.contains(&stage.secret), "{rest}");
}

#[test]
fn a_connection_of_another_program_does_not_become_trusted_by_exec() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.hostile(), "exec-after-connect", &[&stage.trusted()]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

#[test]
fn a_connection_is_not_inherited_by_another_program() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.trusted(), "hand-to-child", &[&stage.hostile()]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

#[test]
fn a_connection_is_not_inherited_by_a_forked_copy() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.trusted(), "hand-to-child", &[]);
    stage.refuses(&out.stdout);
    // A forked copy with a connection of its own is served.
    stage.served(&stage.run(&stage.trusted(), "child", &[]));
}

#[test]
fn a_connection_is_not_passed_on_by_scm_rights() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.trusted(), "pass-on", &[&stage.hostile()]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

#[test]
fn a_sender_forged_in_a_user_namespace_is_not_believed() {
    needs_root!();
    let stage = Stage::new();
    let inside =
        [&*stage.hostile(), "forged-sender", &stage.socket(), "db/orders", &stage.trusted()]
            .map(str::to_owned);
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let out = unshare.args(["-Urpf", "--kill-child"]).args(inside).run();
    assert!(out.stdout.contains("FORGED"), "the kernel did not let it be forged:\n{out}");
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

#[test]
fn a_descriptor_sent_to_the_agent_is_not_taken() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.hostile(), "send-descriptor", &[]);
    // Where the kernel has SO_PASSRIGHTS the sender itself is refused.
    assert!(!out.stdout.contains(&stage.secret), "{out}");
    assert!(out.stdout.contains("CLOSED"), "it was not cut off:\n{out}");
    stage.serves_the_twin();
}

#[test]
fn a_program_that_policy_does_not_name_is_not_served() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.hostile(), "get", &[]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}
