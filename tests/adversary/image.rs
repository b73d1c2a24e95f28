//! Attacks on "this process runs that file".

use crate::attack::Attack;
use jsi_tests::{PEERS, Stage, needs_root, permit_digest};
use std::process::Command;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[MEMFD, DELETED, MOUNTED_OVER];

/// Policy knows the trusted program by its digest alone.
fn by_digest(stage: &Stage) {
    let digest = jsi_tests::digest(&stage.host.world.bin("trusted"));
    stage.permit(&permit_digest(PEERS[0].uid, "db/orders", &digest));
}

const MEMFD: Attack = Attack::new(
    "a_memfd_with_the_trusted_name_and_bytes_is_not_the_trusted_program",
    &["deleted"],
    "it was deleted, or is a memfd",
    |stage| {
        by_digest(stage);
        stage.run(&stage.hostile(), "memfd", &[&stage.trusted()]).stdout
    },
);

#[test]
fn a_memfd_with_the_trusted_name_and_bytes_is_not_the_trusted_program() {
    needs_root!();
    MEMFD.is_refused();
}

/// Its name reads "… (deleted)", which a careless reader strips.
const DELETED: Attack = Attack::new(
    "a_deleted_copy_of_the_trusted_program_is_not_the_trusted_program",
    &["deleted"],
    "it was deleted, or is a memfd",
    |stage| {
        by_digest(stage);
        stage.run(&stage.hostile(), "deleted", &[&copy(stage)]).stdout
    },
)
.twin(|stage| stage.served(&stage.run(&copy(stage), "get", &[])));

/// A copy of the trusted program that belongs to the first peer.
fn copy(stage: &Stage) -> String {
    let copy = stage.host.world.home(PEERS[0]).join("copy");
    // Another process writes it: see World::install.
    let mut install = Command::new("/usr/bin/install");
    let (uid, gid) = (PEERS[0].uid.to_string(), PEERS[0].uid.to_string());
    install.args(["-m", "0755", "-o", &uid, "-g", &gid, "--"]).arg(stage.trusted()).arg(&copy);
    assert!(install.status().unwrap().success());
    copy.display().to_string()
}

#[test]
fn a_deleted_copy_of_the_trusted_program_is_not_the_trusted_program() {
    needs_root!();
    DELETED.is_refused();
}

#[test]
fn a_copy_at_another_path_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&copy(&stage), "get", &[]);
    stage.refuses_because(&out.stdout, "no permit applies");
    stage.serves_the_twin();
}

/// A path means something else in another mount namespace: a hostile file
/// bound over the trusted path there.
const MOUNTED_OVER: Attack = Attack::new(
    "a_file_mounted_over_the_trusted_path_is_not_the_trusted_program",
    &["own-view-of-path"],
    "the agent's own view of its path is another file",
    |stage| {
        let script = format!(
            "mount --bind {hostile} {trusted} && exec {trusted} get {socket} db/orders",
            hostile = stage.hostile(),
            trusted = stage.trusted(),
            socket = stage.socket()
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
        assert!(out.stdout.contains("ED "), "it did not ask: {out}");
        out.stdout
    },
);

#[test]
fn a_file_mounted_over_the_trusted_path_is_not_the_trusted_program() {
    needs_root!();
    MOUNTED_OVER.is_refused();
}

/// Level 1 says so: LD_PRELOAD leaves path and digest as they are. What keeps
/// a preloaded program out is a policy that demands level 2.
#[test]
fn a_preloaded_library_never_reaches_more_than_level_one() {
    needs_root!();
    let stage = Stage::new();
    // The requester's own: what root has installed passes.
    let library = stage.host.world.home(PEERS[0]).join("preloaded.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/adversary/programs/preloaded.c");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(cc.unwrap().success());
    std::os::unix::fs::chown(&library, Some(PEERS[0].uid), None).unwrap();
    let preloaded = |stage: &Stage| {
        stage.program(&stage.trusted(), "get", &[]).env("LD_PRELOAD", &library).run()
    };
    let out = preloaded(&stage);
    assert!(out.stdout.contains("INSIDE"), "the library was not loaded:\n{out}");
    let lease = stage.host.await_record("granted", "db/orders");
    assert!(lease["lease"]["holder"]["assurance"].as_u64().unwrap() <= 1, "{lease}");

    let trusted = stage.host.world.bin("trusted");
    let demanding = jsi_tests::permit(PEERS[0].uid, "db/orders", &trusted)
        .replace("context.assurance >= 1", "context.assurance >= 2");
    stage.permit(&demanding);
    let out = preloaded(&stage);
    assert!(!out.stdout.contains(&stage.secret), "{out}");
}
