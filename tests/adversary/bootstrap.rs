//! Attacks on sockets that are asked for by packet (`JSI_AUTH_FD`).

use jsi_tests::{Outcome, PEERS, Peer, Stage, needs_root, permit};

/// The stage, where policy names the one of two equal programs.
struct Scene {
    stage: Stage,
}

impl Scene {
    fn new() -> Self {
        let stage = Stage::new();
        let world = &stage.host.world;
        for name in ["packets", "others"] {
            world.compile("bootstrap.c", name);
        }
        let named = permit(PEERS[0].uid, "db/orders", &world.bin("packets"));
        world.write_policy("orders", &named);
        stage.host.admin(["reload"]).run().succeeded();
        Self { stage }
    }

    fn bin(&self, name: &str) -> String {
        self.stage.host.world.bin(name).display().to_string()
    }

    fn socket(&self) -> String {
        self.stage.host.world.socket().with_file_name("bootstrap.sock").display().to_string()
    }

    fn run(&self, peer: Peer, program: &str, mode: &str) -> Outcome {
        let program = self.stage.host.program(peer, self.bin(program));
        program.args([mode, &self.socket(), "db/orders", &self.bin("packets")]).run()
    }

    #[track_caller]
    fn serves_the_twin(&self) {
        self.stage.served(&self.run(PEERS[0], "packets", "get"));
    }

    #[track_caller]
    fn refused_because(&self, why: &str) {
        self.stage.host.await_record("refused", why);
    }
}

#[test]
fn an_answer_to_another_that_shares_the_connection_is_of_no_use() {
    needs_root!();
    let scene = Scene::new();
    let out = scene.run(PEERS[0], "others", "steal");
    assert!(!out.stdout.contains("NO ANSWER"), "the answer was not stolen:\n{out}");
    scene.stage.refuses(&out.stdout);
    scene.refused_because("which is not the peer");
    scene.serves_the_twin();
}

#[test]
fn a_program_that_asks_and_becomes_the_trusted_one_gets_nothing_by_it() {
    needs_root!();
    for mode in ["exec-at-once", "exec-after"] {
        let scene = Scene::new();
        let out = scene.run(PEERS[0], "others", mode);
        assert!(!out.stdout.contains("NO ANSWER"), "{mode}: {out}");
        scene.stage.refuses(&out.stdout);
        scene.refused_because("which is not the peer");
        scene.serves_the_twin();
    }
}

#[test]
fn a_sender_that_is_forged_in_a_namespace_reaches_no_level() {
    needs_root!();
    let scene = Scene::new();
    let unshare = scene.stage.host.program(PEERS[0], "/usr/bin/unshare");
    let words = ["forge", &scene.socket(), "db/orders", &scene.bin("packets")];
    let out = unshare.args(["-Urpf", &scene.bin("others")]).args(words).run();
    assert!(out.stdout.contains("FORGED\n") && !out.stdout.contains("NOT FORGED"), "{out}");
    scene.stage.refuses(&out.stdout);
    scene.serves_the_twin();
}

#[test]
fn a_connection_that_another_uid_made_is_not_served() {
    needs_root!();
    let scene = Scene::new();
    let pass = |by: Peer| {
        let program = scene.stage.host.program(Peer { uid: 0 }, scene.bin("others"));
        let (socket, by, to) = (scene.socket(), by.uid.to_string(), PEERS[0].uid.to_string());
        let words = ["pass", &socket, "db/orders", &scene.bin("packets"), &by, &to];
        program.args(words).run()
    };
    scene.stage.refuses(&pass(PEERS[1]).stdout);
    scene.refused_because("but the descriptor was connected by uid 20002");
    scene.stage.served(&pass(PEERS[0]));
}

#[test]
fn what_is_no_packet_of_ours_ends_the_connection_and_harms_nobody() {
    needs_root!();
    let scene = Scene::new();
    scene.stage.refuses(&scene.run(PEERS[0], "packets", "garbage").stdout);
    scene.refused_because("is none that asks for a socket");
    scene.serves_the_twin();
}

#[test]
fn a_flood_of_packets_whose_answers_nobody_reads_keeps_nobody_else_out() {
    needs_root!();
    let scene = Scene::new();
    let flood = |peer| {
        let program = scene.stage.host.program(peer, scene.bin("others"));
        program.args(["flood", &scene.socket()]).talk()
    };
    let mut floods = [flood(PEERS[1]), flood(PEERS[1])];
    for flood in &mut floods {
        flood.expect("FLOODING");
    }
    for _ in 0..20 {
        scene.serves_the_twin();
    }
    assert!(floods.iter_mut().all(|flood| flood.is_running()), "the flood was over");
    scene.refused_because("too many bootstrap connections");
    // Answers that lie unread are few, and so are the sockets in them.
    let fds = format!("/proc/{}/fd", scene.stage.host.pids().broker);
    let open = std::fs::read_dir(fds).unwrap().count();
    assert!(open < 3_000, "{open} descriptors of the broker");
}
