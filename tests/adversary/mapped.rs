//! Attacks on "what runs is what its executable says": code that somebody else
//! wrote, in a process that policy names.

use crate::attack::{Alter, Attack};
use jsi_tests::{Outcome, PEERS, Peer, Setup, Stage, World, needs_root, permit};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    WRITABLE,
    TRACED,
    PRELOADED,
    AUDITED,
    IN_PLACE,
    IN_ITS_DIRECTORY,
    OF_ANOTHER,
    MEMFD,
    MOUNTED,
    HIDDEN,
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

fn level_2(alter: Alter<'_>) -> Stage {
    demanding(alter(Setup::host()), 2)
}

/// Runs what changes mappings, by the first peer.
fn mapped(stage: &Stage, args: &[&str]) -> Outcome {
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

/// As gdb does. Nothing is served, at any level.
const TRACED: Attack = Attack::new(
    "a_program_that_is_traced_is_not_the_trusted_program",
    &["tracer"],
    "it is traced by pid ",
    |stage| {
        let (trusted, socket) = (stage.trusted(), stage.socket());
        mapped(stage, &["trace", &trusted, "get", &socket, "db/orders"]).stdout
    },
)
.on(level_1);

#[test]
fn a_program_that_is_traced_is_not_the_trusted_program() {
    needs_root!();
    TRACED.is_refused();
}

/// A library that says `INSIDE` when it is loaded.
fn library(into: &Path, owner: u32, group: u32, mode: u32) -> PathBuf {
    compiled("preloaded.c", into, owner, group, mode)
}

fn compiled(source: &str, into: &Path, owner: u32, group: u32, mode: u32) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("adversary/programs").join(source);
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(into).arg(source).status();
    assert!(cc.expect("cc runs").success());
    chown(into, Some(owner), Some(group)).unwrap();
    std::fs::set_permissions(into, std::fs::Permissions::from_mode(mode)).unwrap();
    into.to_owned()
}

/// The trusted program with that library in it.
fn loaded(stage: &Stage, variable: &str, library: &Path) -> String {
    let out = stage.program(&stage.trusted(), "get", &[]).env(variable, library).run();
    assert!(out.stdout.contains("INSIDE"), "the library was not loaded:\n{out}");
    out.stdout
}

/// A library that root has installed is as good as the program.
fn with_roots_library(stage: &Stage) {
    stage.serves_the_twin();
    let library = library(&stage.host.world.bin("good.so"), 0, 0, 0o755);
    assert!(loaded(stage, "LD_PRELOAD", &library).contains(&stage.secret));
}

fn own_library(stage: &Stage) -> PathBuf {
    let Peer { uid } = PEERS[0];
    library(&stage.host.world.home(PEERS[0]).join("libfoo.so"), uid, uid, 0o644)
}

const OWN_LIBRARY: &[&str] = &["library-writable", "library-owner", "library-directory"];

const PRELOADED: Attack = Attack::new(
    "a_library_of_the_requester_that_is_preloaded_gives_no_level_two",
    OWN_LIBRARY,
    "libfoo.so is writable by uid 20001",
    |stage| loaded(stage, "LD_PRELOAD", &own_library(stage)),
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_of_the_requester_that_is_preloaded_gives_no_level_two() {
    needs_root!();
    PRELOADED.is_refused();
}

const AUDITED: Attack = Attack::new(
    "a_library_of_the_requester_that_audits_gives_no_level_two",
    OWN_LIBRARY,
    "libfoo.so is writable by uid 20001",
    |stage| {
        let (home, Peer { uid }) = (stage.host.world.home(PEERS[0]), PEERS[0]);
        let library = compiled("auditing.c", &home.join("libfoo.so"), uid, uid, 0o644);
        loaded(stage, "LD_AUDIT", &library)
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_of_the_requester_that_audits_gives_no_level_two() {
    needs_root!();
    AUDITED.is_refused();
}

/// Nothing is modified in the process: what is written goes to the file itself.
const IN_PLACE: Attack = Attack::new(
    "a_library_that_is_written_in_place_gives_no_level_two",
    &["library-writable"],
    "libfoo.so is writable by a group",
    |stage| {
        let library = library(&stage.host.world.bin("libfoo.so"), 0, PEERS[0].uid, 0o664);
        let asks = stage.program(&stage.trusted(), "get-when-told", &[]);
        let mut asks = asks.env("LD_PRELOAD", &library).talk();
        asks.expect_eventually("READY");
        let write = "printf x | dd of=\"$0\" bs=1 seek=16 conv=notrunc status=none && echo WRITTEN";
        let shell = stage.host.program(PEERS[0], "/bin/sh");
        let wrote = shell.args(["-c", write, &library.display().to_string()]).run();
        assert!(wrote.stdout.contains("WRITTEN"), "{wrote}");
        asks.say("go");
        asks.rest()
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_that_is_written_in_place_gives_no_level_two() {
    needs_root!();
    IN_PLACE.is_refused();
}

/// Whoever may write the directory chooses which of root's files is there.
const IN_ITS_DIRECTORY: Attack = Attack::new(
    "a_library_in_a_directory_of_the_requester_gives_no_level_two",
    &["library-directory"],
    "which others than root may write",
    |stage| {
        let home = stage.host.world.home(PEERS[0]);
        loaded(stage, "LD_PRELOAD", &library(&home.join("libfoo.so"), 0, 0, 0o644))
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_in_a_directory_of_the_requester_gives_no_level_two() {
    needs_root!();
    IN_ITS_DIRECTORY.is_refused();
}

/// Nor does one that a third uid could write.
const OF_ANOTHER: Attack = Attack::new(
    "a_library_of_another_uid_gives_no_level_two",
    &["library-owner"],
    "libfoo.so belongs to uid 20002",
    |stage| {
        let Peer { uid } = PEERS[1];
        let library = library(&stage.host.world.bin("libfoo.so"), uid, uid, 0o644);
        loaded(stage, "LD_PRELOAD", &library)
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_of_another_uid_gives_no_level_two() {
    needs_root!();
    OF_ANOTHER.is_refused();
}

const MEMFD: Attack = Attack::new(
    "a_library_without_a_name_gives_no_level_two",
    &[
        "library-deleted",
        "library-writable",
        "library-owner",
        "library-file-system",
        "library-own-view",
    ],
    "is a memfd",
    |stage| {
        let library = own_library(stage).display().to_string();
        let (trusted, socket) = (stage.trusted(), stage.socket());
        let out = mapped(stage, &["memfd", &library, &trusted, "get", &socket, "db/orders"]);
        assert!(out.stdout.contains("INSIDE"), "{out}");
        out.stdout
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_without_a_name_gives_no_level_two() {
    needs_root!();
    MEMFD.is_refused();
}

/// Both files are root's; which of them is run was the requester's choice.
const MOUNTED: Attack = Attack::new(
    "a_library_mounted_over_another_gives_no_level_two",
    &["library-own-view"],
    "is another file where the agent looks for it",
    |stage| {
        let world = &stage.host.world;
        let old = library(&world.bin("old.so"), 0, 0, 0o644);
        let good = library(&world.bin("good.so"), 0, 0, 0o644);
        let script = format!(
            "mount --bind {} {good} && LD_PRELOAD={good} exec {} get {} db/orders",
            old.display(),
            stage.trusted(),
            stage.socket(),
            good = good.display(),
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
        assert!(out.stdout.contains("INSIDE"), "{out}");
        out.stdout
    },
)
.on(level_2)
.twin(with_roots_library);

#[test]
fn a_library_mounted_over_another_gives_no_level_two() {
    needs_root!();
    MOUNTED.is_refused();
}

/// An upgrade replaces what runs: that is said, and a new start mends it.
#[test]
fn a_library_that_was_replaced_is_told_and_gives_no_level_two() {
    needs_root!();
    let stage = level_2(&|setup| setup);
    let path = stage.host.world.bin("good.so");
    library(&path, 0, 0, 0o644);
    let asks = stage.program(&stage.trusted(), "get-when-told", &[]);
    let mut asks = asks.env("LD_PRELOAD", &path).talk();
    asks.expect_eventually("READY");
    std::fs::remove_file(&path).unwrap();
    library(&path, 0, 0, 0o644);
    asks.say("go");
    stage.refuses_because(
        &asks.rest(),
        "was deleted or replaced after it was mapped (link count 0)",
    );
    assert!(loaded(&stage, "LD_PRELOAD", &path).contains(&stage.secret));
}

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
