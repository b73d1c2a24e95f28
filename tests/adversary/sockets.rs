//! Attacks on the socket's path, from both ends.

use jsi_tests::{PEERS, Setup, needs_root, permit, random_secret};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

#[test]
fn a_symlink_in_the_sockets_place_is_not_followed() {
    let mut host = Setup::user(PEERS[0].uid).install();
    let victim = host.world.path().join("victim");
    std::fs::write(&victim, "keep me").unwrap();
    symlink(&victim, host.world.socket()).unwrap();
    let (code, said) = host.start_refused();
    assert_ne!(code, 0);
    assert!(said.contains("symbolic link") || said.contains("symlink"), "{said}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "keep me");
}

#[test]
fn a_file_in_the_sockets_place_is_not_removed() {
    let mut host = Setup::user(PEERS[0].uid).install();
    std::fs::write(host.world.socket(), "keep me").unwrap();
    let (code, said) = host.start_refused();
    assert_ne!(code, 0);
    assert!(said.contains("agent.sock"), "{said}");
    assert_eq!(std::fs::read_to_string(host.world.socket()).unwrap(), "keep me");
}

#[test]
fn a_socket_that_is_served_is_not_taken_over() {
    let mut host = Setup::user(PEERS[0].uid).install();
    let other = UnixListener::bind(host.world.socket()).unwrap();
    let mode = Permissions::from_mode(0o777);
    std::fs::set_permissions(host.world.socket(), mode).unwrap();
    let (code, said) = host.start_refused();
    assert_ne!(code, 0);
    assert!(said.contains("already"), "{said}");
    drop(other);
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut host = Setup::user(PEERS[0].uid).install();
    drop(UnixListener::bind(host.world.socket()).unwrap());
    host.world.give(&host.world.socket());
    host.start();
}

#[test]
fn a_socket_path_that_is_too_long_is_refused_in_words() {
    let long = format!("\"/tmp/{}/agent.sock\"", "x".repeat(120));
    let mut host = Setup::user(PEERS[0].uid).agent("socket", &long).install();
    let (code, said) = host.start_refused();
    assert_ne!(code, 0);
    assert!(said.contains("136 bytes") && said.contains("at most 107"), "{said}");
}

/// Binds, and says at a word how many bytes a client has sent.
const FORGED: &str = "import os,socket,sys\n\
    s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1],0o666)\n\
    s.listen(); print('READY',flush=True); sys.stdin.readline(); s.setblocking(False)\n\
    try: c,_=s.accept()\n\
    except BlockingIOError: print('GOT 0',flush=True); sys.exit()\n\
    c.settimeout(1)\n\
    try: got=c.recv(65536)\n\
    except OSError: got=b''\n\
    print('GOT',len(got),flush=True)\n";

/// A server with another uid than root, one's own or the host agent's is not
/// talked to, wherever it listens.
#[test]
fn a_forged_server_gets_no_request() {
    needs_root!();
    let host = Setup::host()
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    let serve = |place: &Path| {
        let forged = host.program(PEERS[1], "/usr/bin/python3");
        let mut forged = forged.args(["-c", FORGED, &place.display().to_string()]).talk();
        forged.expect("READY");
        forged
    };
    let asked = |place: &Path| format!("JSI_AUTH_SOCK={} jsi get db/orders", place.display());
    let forger = PEERS[1].uid.to_string();

    // In a directory of its own it is not even connected to; where everybody
    // may put a socket, its uid is seen before anything is sent.
    let shared = host.world.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    for place in [host.world.home(PEERS[1]), shared.clone()] {
        let place = place.join("agent.sock");
        let mut forged = serve(&place);
        host.shell(PEERS[0], &asked(&place)).run().coded(5).says(&forger);
        forged.say("how much was it?");
        forged.expect("GOT 0");
    }
    // A directory that is open and not sticky is not used at all.
    let open = host.world.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let mut forged = serve(&open.join("agent.sock"));
    host.shell(PEERS[0], &asked(&open.join("agent.sock"))).run().coded(5);
    forged.say("how much was it?");
    forged.expect("GOT 0");

    // The attack is real: where root names that uid, it gets the first bytes.
    let twin = shared.join("named.sock");
    let mut forged = serve(&twin);
    std::fs::write("/etc/jsi/client.toml", format!("owner = {forger}\n")).unwrap();
    let mut client = host.shell(PEERS[0], &asked(&twin)).talk();
    // It goes on waiting for an answer: it has asked.
    std::thread::sleep(std::time::Duration::from_millis(500));
    forged.say("how much was it?");
    let said = forged.line();
    assert!(said.starts_with("GOT ") && said != "GOT 0", "{said}");
    client.kill();
}
