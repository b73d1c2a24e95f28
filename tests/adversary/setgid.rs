//! A user agent cannot look into a set-group-ID client, and takes its group
//! for it instead. Who else would have that group count?

use jsi_tests::{Host, Outcome, PEERS, Peer, Setup, needs_root, permit, random_secret};

struct Scene {
    host: Host,
    secret: String,
    gid: u32,
}

/// A user agent of the first peer, a set-group-ID client, and two programs
/// that policy names: a shell, and one that can hide itself.
fn scene() -> Scene {
    let mut host = Setup::user(PEERS[0].uid).install();
    let gid = host.world.install_setgid_client();
    host.world.compile("hostile.c", "hider");
    host.world.compile("hostile.c", "hostile");
    let uid = PEERS[0].uid;
    let permits = ["shell", "hider"].map(|name| permit(uid, "db/orders", &host.world.bin(name)));
    host.world.write_policy("orders", &permits.concat());
    host.start();
    let secret = random_secret();
    host.put("db/orders", &secret);
    Scene { host, secret, gid }
}

impl Scene {
    fn ask(&self, program: &str, mode: &str) -> jsi_tests::Program {
        let program = self.host.program(PEERS[0], self.host.world.bin(program));
        program.args([mode, &self.host.world.socket().display().to_string(), "db/orders"])
    }

    fn delivered(&self, outcome: &Outcome) -> bool {
        outcome.stdout.contains(&self.secret)
    }
}

#[test]
fn a_program_that_hides_itself_is_not_taken_for_a_client() {
    needs_root!();
    let scene = scene();
    let out = scene.ask("hider", "hidden").run();
    assert!(!scene.delivered(&out), "{out}");
    scene.host.await_record("denied", "");
    let out = scene.ask("hider", "get").run();
    assert!(scene.delivered(&out), "the twin that shows itself is served: {out}");
}

#[test]
fn a_program_with_the_clients_group_by_other_means_is_not_taken_for_a_client() {
    needs_root!();
    let scene = scene();
    let (uid, gid) = (PEERS[0].uid.to_string(), scene.gid.to_string());
    let hider = scene.host.world.bin("hider").display().to_string();
    let socket = scene.host.world.socket().display().to_string();
    // As its real group: somebody who was made a member would have it so.
    for groups in [&["--regid", &gid, "--clear-groups"][..], &["--regid", &uid, "--groups", &gid]] {
        let become_peer = scene.host.program(Peer { uid: 0 }, "/usr/bin/setpriv");
        let become_peer = become_peer.args(["--reuid", &uid]).args(groups);
        let out = become_peer.args([&*hider, "hidden", &socket, "db/orders"]).run();
        assert!(!scene.delivered(&out), "{groups:?}: {out}");
    }
    // A program of that group that is not hidden is what it shows, and no client.
    let become_peer = scene.host.program(Peer { uid: 0 }, "/usr/bin/setpriv");
    let become_peer = become_peer.args(["--reuid", &uid, "--regid", &gid, "--clear-groups"]);
    let hostile = scene.host.world.bin("hostile").display().to_string();
    let out = become_peer.args([&*hostile, "get", &socket, "db/orders"]).run();
    assert!(!scene.delivered(&out), "{out}");
}

#[test]
fn another_uids_client_is_not_served_by_a_user_agent() {
    needs_root!();
    let scene = scene();
    let out = scene.host.shell(PEERS[1], "jsi get db/orders").run();
    assert!(out.code == 5 && !scene.delivered(&out), "{out}");
    let out = scene.host.shell(PEERS[0], "jsi get db/orders").run();
    assert!(scene.delivered(&out), "{out}");
}

/// Its group says what it is, and nothing of who started it.
#[test]
fn a_client_speaks_for_whoever_started_it_and_for_nobody_better() {
    needs_root!();
    let scene = scene();
    let jsi = scene.host.world.bin("jsi").display().to_string();
    let shell = scene.host.world.bin("shell").display().to_string();
    let other = scene.host.program(PEERS[0], "/bin/sh");
    let out = other.args(["-c", &format!("{jsi} get db/orders; exit $?")]).run().coded(3);
    assert!(!scene.delivered(&out), "{out}");
    // An orphan of a double fork has lost the one who started it.
    let orphan = scene.host.program(PEERS[0], scene.host.world.bin("hostile"));
    let mut orphan = orphan.args(["orphan", &jsi, "db/orders", &shell]).talk();
    let said = orphan.rest();
    assert!(!said.contains(&scene.secret), "{said}");
    let out = scene.host.shell(PEERS[0], "jsi get db/orders").run();
    assert!(scene.delivered(&out), "{out}");
}
