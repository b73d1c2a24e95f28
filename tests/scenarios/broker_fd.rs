//! `jsi exec --broker-fd`: asking where no Unix socket can be made.

use jsi_tests::{Host, Outcome, PEERS, Setup, needs_root, permit, random_secret};
use std::os::unix::fs::PermissionsExt;

fn started(setup: Setup) -> (Host, String) {
    let host = setup.start(|world| {
        world.compile("no_sockets.c", "no-sockets");
        vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]
    });
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret)
}

/// That script in a shell that may make no Unix socket.
fn sandboxed(host: &Host, flags: &str, script: &str) -> Outcome {
    let (sandbox, shell) = (host.world.bin("no-sockets"), host.world.bin("shell"));
    let (sandbox, shell) = (sandbox.display(), shell.display());
    host.shell(PEERS[0], &format!("jsi exec {flags} -- {sandbox} {shell} -c '{script}; exit $?'"))
        .run()
}

#[test]
fn a_sandbox_that_forbids_unix_sockets_gets_secrets_by_the_inherited_descriptor() {
    needs_root!();
    for setup in [Setup::host(), Setup::user(PEERS[0].uid)] {
        let (host, secret) = started(setup);
        let out = sandboxed(&host, "-e X=db/orders", "jsi get db/orders").without(&secret);
        out.coded(5).says("no agent answers");
        let get = "jsi get db/orders";
        sandboxed(&host, "--broker-fd", get).succeeded().printed(&secret);
        // More than one, beside each other, and by `jsi exec` below.
        let many = format!("for i in 1 2 3 4 5 6; do {get} & done; wait; {get}");
        let out = sandboxed(&host, "--broker-fd", &many).succeeded();
        assert_eq!(out.stdout.matches(&secret).count(), 7, "{out}");
        let exec = "jsi exec -e X=db/orders -- printenv X";
        sandboxed(&host, "--broker-fd", exec).succeeded().printed(&secret);
        let nested = "jsi exec --broker-fd -- jsi get db/orders; exit $?";
        sandboxed(&host, "--broker-fd -e X=db/orders", nested).succeeded();
    }
}

#[test]
fn who_asks_by_the_descriptor_reaches_level_one_and_is_told_why() {
    needs_root!();
    let (host, _) = started(Setup::host());
    let seen = sandboxed(&host, "--broker-fd", "jsi whoami -o json").succeeded().json();
    let seen = &seen["attestation"];
    for who in ["caller", "requester"] {
        assert_eq!(seen[who]["assurance"], 1, "{seen}");
        assert!(seen[who]["shortfalls"].to_string().contains("JSI_AUTH_FD"), "{seen}");
    }
    assert_eq!(seen["requester"]["uid"], PEERS[0].uid, "{seen}");
    // Operators' calls do not come by it.
    sandboxed(&host, "--broker-fd", "jsi status").coded(5);
}

#[test]
fn the_variable_without_its_descriptor_is_no_hindrance() {
    needs_root!();
    let (host, secret) = started(Setup::host());
    let get = host.shell(PEERS[0], "jsi get db/orders");
    get.env("JSI_AUTH_FD", "7").run().succeeded().printed(&secret);
    let closed = host.shell(PEERS[0], "jsi exec --broker-fd -- shell -c 'eval \"exec $JSI_AUTH_FD>&-\"; jsi get db/orders; exit $?'");
    closed.run().succeeded().printed(&secret);
}

#[test]
fn the_bootstrap_socket_has_the_agent_sockets_mode_and_goes_with_it() {
    needs_root!();
    for (setup, mode) in [(Setup::host(), 0o666), (Setup::user(PEERS[0].uid), 0o600)] {
        let (mut host, _) = started(setup);
        let path = host.world.socket().with_file_name("bootstrap.sock");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        let doctor = host.admin(["doctor", "-o", "json"]).run();
        assert!(doctor.stdout.contains("bootstrap socket"), "{doctor}");
        host.stop();
        assert!(!path.exists(), "it was left behind");
    }
}

#[test]
fn an_agent_without_a_bootstrap_socket_is_an_error_that_says_so() {
    needs_root!();
    let (host, _) = started(Setup::host());
    std::fs::remove_file(host.world.socket().with_file_name("bootstrap.sock")).unwrap();
    let out = host.shell(PEERS[0], "jsi exec --broker-fd -- /bin/true").run().coded(125);
    out.says("bootstrap.sock").says("an older agent has none");
}
