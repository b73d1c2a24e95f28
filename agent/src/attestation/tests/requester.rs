//! Who asks behind a client, and which process a binding names.

use super::*;

fn with_clients(genuine: &[&Path], enrolled: &[&Path]) -> Config {
    let list = |paths: &[&Path]| paths.iter().map(|path| (*path).to_owned()).collect();
    Config { genuine_clients: list(genuine), enrolled_clients: list(enrolled), ..config() }
}

#[tokio::test]
async fn behind_a_genuine_client_the_requester_is_the_nearest_other_ancestor() {
    // Any program that root installed can stand for the client.
    let attestor = start(with_clients(&[Path::new("/bin/sleep")], &[]), &[]);
    let mut peer = Peers::start(Command::new("/bin/sh").args(["-c", "sleep 60 & echo $!; wait"]));
    let pid = peer.printed_pid();
    wait_for_pid(pid, "sleep");
    let seen = attest(&attestor, pid).await.unwrap();
    assert_eq!(seen.via, Via::GenuineClient);
    assert_eq!((seen.caller.pid, seen.requester.pid), (pid, peer.pid()));
    assert_ne!(seen.caller_image, seen.requester_image);
    assert!(seen.requester.shortfalls.iter().any(|s| s.reason.contains("ancestry")));
    attestor.recheck(&seen).await.unwrap();
    let bound = attestor.resolve(seen.caller_image, Anchor::Requester).await.unwrap();
    assert_eq!(bound.identity.pid, peer.pid());
    // The requester ends, and the client is adopted: nobody asks any more.
    peer.0.kill().unwrap();
    peer.0.wait().unwrap();
    assert!(matches!(attestor.recheck(&seen).await, Err(AttestError::Requester(_))));
    let orphan = attestor.attest(seen.caller_image).await.err();
    let adopter = std::fs::read(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|t| generation::Stat::parse(&t))
        .unwrap();
    if adopter.parent == 1 {
        assert!(matches!(orphan, Some(AttestError::Requester(_))), "{orphan:?}");
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn an_enrolled_client_counts_on_an_advisory_agent_only() {
    let dir = tempfile::tempdir().unwrap();
    let client = dir.path().join("jsi");
    std::fs::copy("/bin/sleep", &client).unwrap();
    let script = format!("{} 60 & echo $!; wait", client.display());
    let mut peer = Peers::start(Command::new("/bin/sh").args(["-c", &script]));
    let pid = peer.printed_pid();
    wait_for_pid(pid, "jsi");
    for (config, advisory, want) in [
        (with_clients(&[], &[&client]), vec!["the key can be read"], Via::EnrolledClient),
        (with_clients(&[], &[&client]), vec![], Via::Direct),
        // Not root-owned all the way: not genuine.
        (with_clients(&[&client], &[]), vec![], Via::Direct),
    ] {
        let attestor = start(config, &advisory);
        let seen = attest(&attestor, pid).await.unwrap();
        assert_eq!(seen.via, want, "{advisory:?}");
        assert_eq!(seen.advisory.len(), advisory.len());
        assert!(seen.assurance <= Assurance::Executable);
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn a_binding_skips_subshells_and_is_found_again() {
    let attestor = start(config(), &[]);
    let mut peer =
        Peers::start(Command::new("/bin/sh").args(["-c", "(sleep 60 & echo $!; wait; :); :"]));
    let pid = peer.printed_pid();
    wait_for_pid(pid, "sleep");
    let image = open(&attestor, pid).await.unwrap();
    let parent = attestor.resolve(image, Anchor::Parent).await.unwrap();
    assert_eq!(parent.identity.pid, peer.pid(), "the shell, not its subshell");
    let own = attestor.resolve(image, Anchor::Caller).await.unwrap();
    assert_eq!(own.identity.pid, pid);
    let named = attestor.resolve(image, Anchor::Pid(peer.pid())).await.unwrap();
    assert_eq!(named.identity, parent.identity);
    if let Ok(session) = attestor.resolve(image, Anchor::Session).await {
        assert!(session.identity.pid > 1);
    }
    let found = attestor.find(&parent.identity).await.unwrap();
    assert_eq!(pidfd::pid(&found.pidfd).unwrap(), Some(peer.pid()));
    let other = ProcessIdentity { start_time: 1, ..parent.identity.clone() };
    assert!(attestor.find(&other).await.is_none());
    assert!(matches!(attestor.resolve(image, Anchor::Pid(0)).await, Err(AttestError::Caller(_))));
    if nix::unistd::geteuid().is_root() {
        let mut foreign = Command::new("/bin/sleep");
        std::os::unix::process::CommandExt::uid(&mut foreign, 65534);
        let foreign = Peers::start(foreign.arg("60"));
        let refused = attestor.resolve(image, Anchor::Pid(foreign.pid())).await;
        assert!(matches!(refused, Err(AttestError::Caller(_))));
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}
