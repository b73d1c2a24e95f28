//! Attacks on "this process runs that file".

use jsi_tests::{PEERS, Stage, needs_root};
use std::process::Command;

#[test]
fn a_memfd_with_the_trusted_name_and_bytes_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.run(&stage.hostile(), "memfd", &[&stage.trusted()]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

#[test]
fn a_deleted_copy_of_the_trusted_program_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    // Policy names the copy, so that only its deletion stands in the way: its
    // name reads "… (deleted)", which a careless reader strips.
    let copy = stage.host.world.home(PEERS[0]).join("copy");
    stage.host.world.write_policy("copy", &jsi_tests::permit(PEERS[0].uid, "db/orders", &copy));
    stage.host.admin(["reload"]).run().succeeded();
    let install = || std::fs::copy(stage.trusted(), &copy).unwrap();
    install();
    let name = copy.display().to_string();
    let out = stage.run(&stage.hostile(), "deleted", &[&name]);
    stage.refuses(&out.stdout);
    install();
    stage.served(&stage.run(&name, "get", &[]));
}

#[test]
fn a_copy_at_another_path_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    let copy = stage.host.world.home(PEERS[0]).join("trusted");
    std::fs::copy(stage.trusted(), &copy).unwrap();
    let out = stage.run(&copy.display().to_string(), "get", &[]);
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

/// A path means something else in another mount namespace: a hostile file
/// bound over the trusted path there.
#[test]
fn a_file_mounted_over_the_trusted_path_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    let script = format!(
        "mount --bind {hostile} {trusted} && exec {trusted} get {socket} db/orders",
        hostile = stage.hostile(),
        trusted = stage.trusted(),
        socket = stage.socket()
    );
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
    assert!(out.stdout.contains("REFUSED") || out.stdout.contains("CLOSED"), "{out}");
    stage.refuses(&out.stdout);
    stage.serves_the_twin();
}

/// Level 1 says so: LD_PRELOAD leaves path and digest as they are. What keeps
/// a preloaded program out is a policy that demands level 2.
#[test]
fn a_preloaded_library_never_reaches_more_than_level_one() {
    needs_root!();
    let stage = Stage::new();
    let library = stage.host.world.bin("preloaded.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/adversary/programs/preloaded.c");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(cc.unwrap().success());
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
    stage.host.world.write_policy("orders", &demanding);
    stage.host.admin(["reload"]).run().succeeded();
    let out = preloaded(&stage);
    assert!(!out.stdout.contains(&stage.secret), "{out}");
}
