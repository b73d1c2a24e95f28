//! Callers that are not, or no longer, who they were.

use super::*;

#[tokio::test]
async fn a_caller_that_became_another_program_is_not_served() {
    let attestor = start(config(), &[]);
    let mut peer = Peers::start(Command::new("/bin/sh").args(["-c", "read x; exec sleep 60"]));
    wait_for(&peer, "sh");
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    peer.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_for(&peer, "sleep");
    for error in
        [attestor.attest(seen.caller_image).await.err(), attestor.recheck(&seen).await.err()]
    {
        let Some(AttestError::Caller(reason)) = error else { panic!("served: {error:?}") };
        assert!(reason.contains("another program") && reason.contains("startcode"), "{reason}");
    }
    // Its twin, which connected after the exec, is.
    assert!(attest(&attestor, peer.pid()).await.is_ok());
}

#[tokio::test]
async fn a_caller_that_has_ended_is_not_served() {
    let attestor = start(config(), &[]);
    let mut peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    let pidfd = pidfd::open(peer.pid()).unwrap();
    peer.0.kill().unwrap();
    wait_until("a zombie", || pidfd::ended(&pidfd).unwrap());
    assert!(matches!(attestor.attest(seen.caller_image).await.err(), Some(AttestError::Caller(_))));
    assert!(attestor.recheck(&seen).await.is_err());
    assert_eq!(open(&attestor, peer.pid()).await, Err(Refusal::Gone), "a zombie");
    peer.0.wait().unwrap();
    let of = Peer { pid: peer.pid(), uid: 0, gid: 0 };
    assert_eq!(
        attestor.open(of, std::os::fd::AsFd::as_fd(&pidfd)).await,
        Err(Refusal::Gone),
        "reaped"
    );
}

#[tokio::test]
async fn a_pidfd_of_another_process_than_the_credentials_name_is_refused() {
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let pidfd = pidfd::open(std::process::id()).unwrap();
    let of = Peer { pid: peer.pid(), uid: 0, gid: 0 };
    let refused = attestor.open(of, std::os::fd::AsFd::as_fd(&pidfd)).await;
    assert!(matches!(refused, Err(Refusal::Unverified(_))), "{refused:?}");
    let of = Peer { pid: 0, uid: 0, gid: 0 };
    assert_eq!(attestor.open(of, std::os::fd::AsFd::as_fd(&pidfd)).await, Err(Refusal::NoPid));
}

#[tokio::test]
async fn a_uid_that_is_not_the_peers_is_refused() {
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let pidfd = pidfd::open(peer.pid()).unwrap();
    let of = Peer { pid: peer.pid(), uid: 4711, gid: 0 };
    let image = attestor.open(of, std::os::fd::AsFd::as_fd(&pidfd)).await.unwrap();
    let Err(AttestError::Caller(reason)) = attestor.attest(image).await else { panic!("served") };
    assert!(reason.contains("uids do not agree"), "{reason}");
}
