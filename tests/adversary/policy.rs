//! Attacks on policy and what it rests on: by facts that cannot be read, by
//! conditions that cannot be judged, by words that are nobody's.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{PEERS, Setup, Stage, digest, needs_root, permit};
use std::os::unix::fs::chown;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    FORBID_EVADED,
    PERMIT_BY_HIDING,
    UNDECIDABLE,
    ADMINISTERED,
    CLAIMED_TARGET,
    OWN_POLICY,
    NAMES_AS_STRUCTURE,
    OWN_AGENT,
];

/// Whoever has the first peer's uid may have it, and of these not the hostile
/// program; nothing but its digest is named.
fn blocking(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::user(PEERS[0].uid)));
    let hostile = digest(&stage.host.world.bin("hostile"));
    stage.permit(&format!(
        "permit(principal in User::\"{uid}\", action in Action::\"use\", resource);\n\
         forbid(principal, action in Action::\"use\", resource)\n  \
         when {{ principal has digest && principal.digest == \"{hostile}\" }};\n",
        uid = PEERS[0].uid
    ));
    stage
}

/// A program that is not dumpable shows a user agent nothing.
const FORBID_EVADED: Attack = Attack::new(
    "a_block_is_not_evaded_by_a_fact_that_cannot_be_read",
    &["unreadable-forbid"],
    "cannot be judged: the requester's digest could not be read",
    |stage| {
        let shown = stage.run(&stage.hostile(), "get", &[]);
        stage.refuses_because(&shown.stdout, "forbidden by");
        stage.run(&stage.hostile(), "hidden", &[]).stdout
    },
)
.on(blocking);

#[test]
fn a_block_is_not_evaded_by_a_fact_that_cannot_be_read() {
    needs_root!();
    FORBID_EVADED.is_refused();
}

/// All but the hostile program may have it.
fn unless(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::user(PEERS[0].uid)));
    let hostile = digest(&stage.host.world.bin("hostile"));
    stage.permit(&format!(
        "permit(principal in User::\"{uid}\", action in Action::\"use\", resource)\n  \
         unless {{ principal has digest && principal.digest == \"{hostile}\" }};\n",
        uid = PEERS[0].uid
    ));
    stage
}

const PERMIT_BY_HIDING: Attack = Attack::new(
    "a_permit_does_not_hold_because_a_fact_cannot_be_read",
    &["unreadable-permit"],
    "every permit rests on a fact that could not be read",
    |stage| stage.run(&stage.hostile(), "hidden", &[]).stdout,
)
.on(unless);

#[test]
fn a_permit_does_not_hold_because_a_fact_cannot_be_read() {
    needs_root!();
    PERMIT_BY_HIDING.is_refused();
}

/// Cedar goes on without a policy that it cannot evaluate; here a forbid that
/// overflows for every pid but small ones.
fn overflowing(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    stage.permit(&format!(
        "permit(principal in User::\"{uid}\", action in Action::\"use\", resource);\n\
         @id(\"blocked\") forbid(principal, action in Action::\"use\", resource)\n  \
         when {{ principal.pid * 9223372036854775807 != 5 }};\n",
        uid = PEERS[0].uid
    ));
    stage
}

const UNDECIDABLE: Attack = Attack::new(
    "a_block_that_cannot_be_evaluated_blocks",
    &["evaluation-error"],
    "policy blocked cannot be evaluated",
    |stage| stage.run(&stage.hostile(), "get", &[]).stdout,
)
.on(overflowing)
.twin(|stage| {
    let trusted = stage.host.world.bin("trusted");
    stage.permit(&permit(PEERS[0].uid, "db/orders", &trusted));
    stage.serves_the_twin();
});

#[test]
fn a_block_that_cannot_be_evaluated_blocks() {
    needs_root!();
    UNDECIDABLE.is_refused();
}

/// A policy that says more than its author thought.
fn everything(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    stage.permit("permit(principal, action, resource);\n");
    stage
}

/// The agent socket does not serve operators' calls; if it did, policy would
/// refuse them there.
const ADMINISTERED: Attack = Attack::new(
    "nobody_administers_on_the_agent_socket",
    &["admin-channel", "admin-service", "admin-socket"],
    "",
    |stage| {
        let out = stage.run(&stage.hostile(), "administer", &[]);
        told(&out.stdout, out.stdout.contains("DELIVERED"))
    },
)
.on(everything)
.twin(|stage| drop(stage.host.admin(["status"]).run().succeeded()));

#[test]
fn nobody_administers_on_the_agent_socket() {
    needs_root!();
    ADMINISTERED.is_refused();
}

/// What becomes `/usr/bin/psql` by the word of a client may have it.
fn for_psql(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    stage.permit(&format!(
        "permit(principal in User::\"{uid}\", action in Action::\"use\", resource)\n  \
         when {{ context has target && context.target has exe &&\n         \
         context.target.exe == \"/usr/bin/printenv\" }};\n",
        uid = PEERS[0].uid
    ));
    stage
}

const CLAIMED_TARGET: Attack = Attack::new(
    "a_target_is_not_believed_of_a_program_that_asks_for_itself",
    &["target-by-client"],
    "context.target is not there",
    |stage| stage.run(&stage.trusted(), "claim", &["/usr/bin/printenv"]).stdout,
)
.on(for_psql)
.twin(|stage| {
    let exec = "jsi exec -e ORDERS=db/orders -- /usr/bin/printenv ORDERS";
    stage.served(&stage.host.shell(PEERS[0], exec).run());
});

#[test]
fn a_target_is_not_believed_of_a_program_that_asks_for_itself() {
    needs_root!();
    CLAIMED_TARGET.is_refused();
}

/// An operator's mistake gives the file to the first peer, who names a program
/// of theirs in it.
const OWN_POLICY: Attack = Attack::new(
    "a_policy_that_its_subject_could_write_is_not_taken",
    &["trusted-files"],
    "no permit applies",
    |stage| {
        let hostile = stage.host.world.bin("hostile");
        let file =
            stage.host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &hostile));
        chown(&file, Some(PEERS[0].uid), None).unwrap();
        let reloaded = stage.host.admin(["reload"]).run();
        let said = stage.run(&stage.hostile(), "get", &[]).stdout;
        // Nobody else can tell the operator.
        assert!(said.contains(&stage.secret) || reloaded.code != 0, "{reloaded}");
        said
    },
);

#[test]
fn a_policy_that_its_subject_could_write_is_not_taken() {
    needs_root!();
    OWN_POLICY.is_refused();
}

/// A socket's name, a process's name and its words are the peer's own, and parsed
/// by nobody (CVE-2019-7304).
const NAMES_AS_STRUCTURE: Attack = Attack::new(
    "a_name_that_says_who_somebody_is_says_nothing",
    &[],
    "no permit applies",
    |stage| {
        let words = ["trusted) S 1 1 1", "uid=0;pid=1", "\nUid:\t0\t0\t0\t0\n"];
        let said = stage.run(&stage.hostile(), "named", &words).stdout;
        let record = stage.host.await_record("denied", "no permit applies");
        assert_eq!(record["who"]["uid"], PEERS[0].uid, "{record}");
        said
    },
);

#[test]
fn a_name_that_says_who_somebody_is_says_nothing() {
    needs_root!();
    NAMES_AS_STRUCTURE.is_refused();
}

/// A user's own agent, which is in that user's hands: policy, key and client.
fn of_its_user(alter: Alter<'_>) -> Stage {
    Stage::with(alter(Setup::user(PEERS[0].uid)))
}

/// The first peer edits the policy of their own agent and has it read: they get
/// what it holds, at the level that says what that is worth, and no more.
const OWN_AGENT: Attack = Attack::new(
    "an_agent_in_its_users_hands_never_says_more_than_level_one",
    &["advisory-cap"],
    "context.assurance >= 2 is false",
    |stage| {
        let edit = stage.host.program(PEERS[0], "/bin/sh");
        let demanding = permit(PEERS[0].uid, "db/orders", &stage.host.world.bin("hostile"))
            .replace("context.assurance >= 1", "context.assurance >= 2");
        let policy = stage.host.world.policy_dir().join("orders.cedar");
        let (broker, reload) = (stage.host.pids().broker, "cat >$1 && kill -HUP $2");
        let edit = edit.args(["-c", reload, "sh"]).args([policy.display().to_string()]);
        drop(edit.args([broker.to_string()]).input(demanding).run().succeeded());
        stage.host.await_record("admin", "reload");
        let whoami = stage.host.shell(PEERS[0], "jsi whoami -o json").run().succeeded();
        for said in ["\"advisory\": true", "policy directory", "identity key file"] {
            assert!(whoami.stdout.contains(said), "it does not say {said}: {whoami}");
        }
        stage.run(&stage.hostile(), "get", &[]).stdout
    },
)
.on(of_its_user)
.twin(|stage| {
    let trusted = permit(PEERS[0].uid, "db/orders", &stage.host.world.bin("trusted"));
    stage.permit(&trusted);
    stage.serves_the_twin();
});

#[test]
fn an_agent_in_its_users_hands_never_says_more_than_level_one() {
    needs_root!();
    OWN_AGENT.is_refused();
}
