//! Attacks on "what runs is what its executable says": code that somebody else
//! wrote, in a process that policy names.

use crate::attack::{Alter, Attack};
use crate::swaps::SlowLog;
use jsi_tests::{Outcome, PEERS, Setup, Stage, World, needs_root, permit};
use std::path::Path;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    FORGED,
    FORGED_BY_HELPER,
    FORGED_USER,
    COMPILED,
    PATCHED,
    POKED,
    WRITTEN,
    FORKED,
    PATCHED_LATER,
    WRITABLE,
];

/// The first peer's programs may have the secret, where they reach that level.
fn policy(world: &World, programs: &[&str], level: u8) {
    let demanding = |name: &&str| {
        permit(PEERS[0].uid, "db/orders", &world.bin(name))
            .replace("context.assurance >= 1", &format!("context.assurance >= {level}"))
    };
    let all: String = programs.iter().map(demanding).collect();
    world.write_policy("orders", &all);
}

/// A stage where `trusted`, and one more program, must reach that level.
fn demanding(setup: Setup, level: u8) -> Stage {
    Stage::installed(setup, |world| {
        world.compile("mapped.c", "mapped");
        policy(world, &["trusted", "mapped"], level);
    })
}

fn level_1(alter: Alter<'_>) -> Stage {
    Stage::installed(alter(Setup::host()), |world| {
        world.compile("mapped.c", "mapped");
        policy(world, &["trusted"], 1);
    })
}

pub(crate) fn level_2(alter: Alter<'_>) -> Stage {
    demanding(alter(Setup::host()), 2)
}

/// Runs what changes mappings, by the first peer.
pub(crate) fn mapped(stage: &Stage, args: &[&str]) -> Outcome {
    stage.host.program(PEERS[0], stage.host.world.bin("mapped")).args(args).run()
}

/// A program of the first peer, whose exe link it makes name the trusted one.
fn forge(stage: &Stage, how: &str) -> String {
    let out = mapped(stage, &[how, &stage.socket(), "db/orders", &stage.trusted()]);
    assert!(out.stdout.contains("FORGED"), "{out}");
    out.stdout
}

const NOT_WHAT_IT_RUNS: &str = "its executable is not what it runs";

const FORGED: Attack = Attack::new(
    "an_exe_link_that_was_forged_is_not_the_trusted_program",
    &["executable-mapped"],
    NOT_WHAT_IT_RUNS,
    |stage| forge(stage, "forge"),
)
.on(level_1);

#[test]
fn an_exe_link_that_was_forged_is_not_the_trusted_program() {
    needs_root!();
    FORGED.is_refused();
}

/// The caller itself keeps its user namespace, and no capability.
const FORGED_BY_HELPER: Attack = Attack::new(
    "an_exe_link_that_a_helper_forged_is_not_the_trusted_program",
    &["executable-mapped"],
    NOT_WHAT_IT_RUNS,
    |stage| forge(stage, "forge-by-helper"),
)
.on(level_1);

#[test]
fn an_exe_link_that_a_helper_forged_is_not_the_trusted_program() {
    needs_root!();
    FORGED_BY_HELPER.is_refused();
}

const FORGED_USER: Attack = Attack::new(
    "an_exe_link_that_was_forged_is_not_believed_by_a_user_agent",
    &["executable-mapped"],
    NOT_WHAT_IT_RUNS,
    |stage| forge(stage, "forge-by-helper"),
)
.on(|alter| {
    Stage::installed(alter(Setup::user(PEERS[0].uid)), |world| {
        world.compile("mapped.c", "mapped");
        policy(world, &["trusted"], 1);
    })
});

#[test]
fn an_exe_link_that_was_forged_is_not_believed_by_a_user_agent() {
    needs_root!();
    FORGED_USER.is_refused();
}

/// It has the trusted program mapped as well, where its code is said to begin:
/// as good as what LD_PRELOAD does, and no better.
#[test]
fn a_forged_exe_link_with_the_trusted_program_mapped_never_exceeds_level_one() {
    needs_root!();
    let stage = level_2(&|setup| setup);
    let out = forge(&stage, "forge-mapped-by-helper");
    stage.refuses_because(&out, "executable memory that no file backs");
    stage.serves_the_twin();
}

const COMPILED: Attack = Attack::new(
    "executable_memory_that_no_file_backs_gives_no_level_two",
    &["anonymous-code"],
    "executable memory that no file backs",
    |stage| stage.run(&stage.host.world.bin("mapped").display().to_string(), "compile", &[]).stdout,
)
.on(level_2)
.twin(|stage| {
    stage.serves_the_twin();
    let mapped = stage.host.world.bin("mapped").display().to_string();
    stage.served(&stage.run(&mapped, "get", &[]));
    // And where policy lets it by name, what compiles is served.
    let jit = permit(PEERS[0].uid, "db/orders", Path::new(&mapped))
        .replace("context.assurance >= 1", "context.assurance_with_jit >= 2");
    stage.permit(&jit);
    stage.served(&stage.run(&mapped, "compile", &[]));
});

#[test]
fn executable_memory_that_no_file_backs_gives_no_level_two() {
    needs_root!();
    COMPILED.is_refused();
}

/// The trusted program, whose text was written in that way before it ran.
fn patch(stage: &Stage, how: &str, mode: &str) -> String {
    let (trusted, socket) = (stage.trusted(), stage.socket());
    let out = mapped(stage, &["patch", how, &trusted, mode, &socket, "db/orders"]);
    assert!(out.stdout.contains("PATCHED"), "{out}");
    out.stdout
}

const MODIFIED: &str = "text page modified: ";

const PATCHED: Attack = Attack::new(
    "text_that_was_written_by_proc_mem_gives_no_level_two",
    &["modified-page"],
    MODIFIED,
    |stage| patch(stage, "mem", "get"),
)
.on(level_2);

#[test]
fn text_that_was_written_by_proc_mem_gives_no_level_two() {
    needs_root!();
    PATCHED.is_refused();
}

const POKED: Attack = Attack::new(
    "text_that_was_written_by_ptrace_gives_no_level_two",
    &["modified-page"],
    MODIFIED,
    |stage| patch(stage, "poke", "get"),
)
.on(level_2);

#[test]
fn text_that_was_written_by_ptrace_gives_no_level_two() {
    needs_root!();
    POKED.is_refused();
}

const WRITTEN: Attack = Attack::new(
    "text_that_was_written_by_process_vm_writev_gives_no_level_two",
    &["modified-page"],
    MODIFIED,
    |stage| patch(stage, "vm", "get"),
)
.on(level_2);

#[test]
fn text_that_was_written_by_process_vm_writev_gives_no_level_two() {
    needs_root!();
    if cfg!(not(target_arch = "x86_64")) {
        return jsi_tests::not_run(module_path!(), line!(), "it is written for x86-64");
    }
    WRITTEN.is_refused();
}

/// smaps shows nothing private of a forked copy; its pages show it.
const FORKED: Attack = Attack::new(
    "a_copy_of_a_patched_program_gives_no_level_two",
    &["modified-page"],
    MODIFIED,
    |stage| patch(stage, "mem", "child"),
)
.on(level_2)
.twin(|stage| stage.served(&stage.run(&stage.trusted(), "child", &[])));

#[test]
fn a_copy_of_a_patched_program_gives_no_level_two() {
    needs_root!();
    FORKED.is_refused();
}

/// It had reached level 2 when policy was asked, and the log is slow.
const PATCHED_LATER: Attack = Attack::new(
    "text_that_is_written_before_the_delivery_withholds_it",
    &["level-kept"],
    "had reached level 2 and does not any more: text page modified: ",
    |stage| {
        let _slow = SlowLog::of(stage);
        let (trusted, socket) = (stage.trusted(), stage.socket());
        mapped(stage, &["patch-later", &trusted, "get", &socket, "db/orders"]).stdout
    },
)
.on(level_2);

#[test]
fn text_that_is_written_before_the_delivery_withholds_it() {
    needs_root!();
    PATCHED_LATER.is_refused();
}

/// Nothing was written yet: it could be between the look and the delivery.
const WRITABLE: Attack = Attack::new(
    "text_that_can_be_written_gives_no_level_two",
    &["writable-code"],
    "is mapped writable and executable",
    |stage| patch(stage, "writable", "get"),
)
.on(level_2);

#[test]
fn text_that_can_be_written_gives_no_level_two() {
    needs_root!();
    if cfg!(not(target_arch = "x86_64")) {
        return jsi_tests::not_run(module_path!(), line!(), "it is written for x86-64");
    }
    WRITABLE.is_refused();
}
