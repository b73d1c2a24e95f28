//! Something else stands where the socket should.

use jsi_tests::{PEERS, Setup};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
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
