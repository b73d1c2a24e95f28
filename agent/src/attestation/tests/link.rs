//! The link between broker and attestor.

use super::*;

#[tokio::test]
async fn connections_of_one_process_share_its_image_until_the_last_is_gone() {
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let image = open(&attestor, peer.pid()).await.unwrap();
    assert_eq!(open(&attestor, peer.pid()).await.unwrap(), image);
    attestor.forget(image);
    attestor.ping().await.unwrap();
    assert!(attestor.attest(image).await.is_ok());
    attestor.forget(image);
    let began = Instant::now();
    while attestor.attest(image).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_dead_attestor_fails_everything_and_is_told() {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let attestor = Attestor::connect(ours).unwrap();
    let waiting = tokio::spawn({
        let attestor = attestor.clone();
        async move { attestor.ping().await }
    });
    tokio::task::yield_now().await;
    drop(theirs);
    attestor.broken().await;
    assert_eq!(waiting.await.unwrap(), Err(AttestError::NoAttestor));
    assert_eq!(attestor.ping().await, Err(AttestError::NoAttestor));
    assert_eq!(open(&attestor, std::process::id()).await, Err(Refusal::NoAttestor));
}

#[tokio::test]
async fn the_attestor_ends_with_its_link() {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let thread = std::thread::spawn(move || attestor::run(theirs, config()));
    nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let attestor = Attestor::connect(ours).unwrap();
    attestor.ping().await.unwrap();
    assert!(attestor.reload().await.is_err(), "started without a way to");
    drop(attestor);
    tokio::task::spawn_blocking(move || thread.join().unwrap().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_reload_is_read_by_the_attestor_itself() {
    let attestor = start(config(), &["because"]);
    let peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    attestor.reload().await.unwrap();
    assert_eq!(attestor.attest(seen.caller_image).await.unwrap().advisory, ["because"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once_on_one_image_are_all_answered_with_the_same_facts() {
    let attestor = start(config(), &[]);
    for _ in 0..20 {
        let peer = Peers::sleep();
        let image = open(&attestor, peer.pid()).await.unwrap();
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..64 {
            let attestor = attestor.clone();
            asked.spawn(async move {
                if n % 2 == 0 {
                    return attestor.attest(image).await;
                }
                let (seen, bound) = attestor.attest_and_resolve(image).await?;
                let resolved = attestor.resolve(image, Anchor::Requester).await?;
                assert_eq!(bound.map(|found| found.identity), Some(resolved.identity));
                Ok(seen)
            });
        }
        let all = asked.join_all().await;
        let first = all[0].as_ref().unwrap();
        for seen in &all {
            let seen = seen.as_ref().unwrap();
            assert_eq!((&seen.caller, &seen.requester), (&first.caller, &first.requester));
        }
    }
}
