//! Attacks on the socket's path, from both ends.

use jsi_tests::{PEERS, Peer, Setup, needs_root, permit, random_secret};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

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
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
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
    assert!(said.contains("long"), "{said}");
}

/// A server with another uid than root, one's own or the host agent's is not
/// talked to, wherever it listens.
#[test]
fn a_forged_server_gets_no_request() {
    needs_root!();
    let host = Setup::host()
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    let place = host.world.home(PEERS[1]).join("agent.sock");
    let script = "import os,socket,sys\n\
                  s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.chmod(sys.argv[1],0o666)\n\
                  s.listen(); print('READY',flush=True); s.settimeout(20)\n\
                  c,_=s.accept(); c.settimeout(5)\n\
                  try: got=c.recv(65536)\n\
                  except OSError: got=b''\n\
                  print('GOT',len(got),flush=True)\n";
    let mut forged = host
        .program(Peer { uid: PEERS[1].uid }, "/usr/bin/python3")
        .args(["-c", script, &place.display().to_string()])
        .talk();
    forged.expect("READY");
    let asked = format!("JSI_AUTH_SOCK={} jsi get db/orders", place.display());
    host.shell(PEERS[0], &asked).run().coded(5).says(&PEERS[1].uid.to_string());
    // It may have seen the connection, but no request.
    forged.expect("GOT 0");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}
