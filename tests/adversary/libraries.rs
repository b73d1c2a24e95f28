//! Attacks by a library: code that the trusted program runs and does not have in
//! its own file.

use crate::attack::Attack;
use crate::mapped::{level_2, mapped};
use jsi_tests::{PEERS, Peer, Stage, needs_root};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] =
    &[PRELOADED, AUDITED, IN_PLACE, IN_ITS_DIRECTORY, OF_ANOTHER, MEMFD, MOUNTED];

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
        "library-directory",
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

/// Whoever runs the agent learns what was wrong, and where.
#[test]
fn the_reason_for_a_level_that_was_missed_is_not_hidden_from_operators() {
    needs_root!();
    let stage = level_2(&|setup| setup);
    let said = loaded(&stage, "LD_PRELOAD", &own_library(&stage));
    assert!(!said.contains(&stage.secret), "{said}");
    let denied = stage.host.await_record("denied", "db/orders");
    let why = "libfoo.so is writable by uid 20001";
    assert!(denied["who"]["missed"].to_string().contains(why), "{denied}");
    let request = denied["request"].as_str().unwrap();
    let told = stage.host.admin(["explain", request]).run().succeeded();
    assert!(told.stdout.contains("context.assurance is 1") && told.stdout.contains(why), "{told}");
    let who = stage.host.admin(["explain", request, "--verbose"]).run().succeeded();
    assert!(who.stdout.contains("2 (image): ") && who.stdout.contains("3 (isolated): "), "{who}");
}
