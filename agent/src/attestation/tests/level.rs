//! Which processes reach level 1, and why others do not.

use super::*;

fn level_1_reason(facts: &ProcessFacts) -> &str {
    assert_eq!(facts.assurance, Assurance::Uid, "{facts:?}");
    &facts.shortfalls.iter().find(|s| s.level == Assurance::Executable).unwrap().reason
}

#[tokio::test]
async fn a_plain_process_reaches_level_2_with_its_path_digest_and_ancestors() {
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert_eq!(seen.via, Via::Direct);
    let exe = seen.caller.exe.known().unwrap();
    let real = Path::new("/bin/sleep").canonicalize().unwrap();
    assert_eq!(exe.path.as_deref(), real.to_str());
    assert_eq!(exe.digest, executable::digest_of(&real).unwrap().1.digest);
    assert_eq!(seen.requester, seen.caller);
    assert_eq!(seen.requester_image, seen.caller_image);
    assert_eq!(seen.ancestry[0].pid, std::process::id());
    assert!(seen.ancestry.len() > 1);
    if randomised() {
        assert_eq!(seen.assurance, Assurance::Image, "{:?}", seen.caller.shortfalls);
        assert_eq!(seen.assurance_with_jit, Assurance::Image);
    }
    attestor.recheck(&seen).await.unwrap();
    let again = attestor.attest(seen.caller_image).await.unwrap();
    assert_eq!((&again.caller, &again.ancestry), (&seen.caller, &seen.ancestry));
    assert!(Arc::ptr_eq(&again, &seen), "one attestation is shared while nothing changes");
}

#[tokio::test]
async fn a_deleted_executable_is_level_0() {
    let attestor = start(config(), &[]);
    let dir = tempfile::tempdir().unwrap();
    // The name is the attacker's: it must not be read as a mark of the kernel's.
    for (name, delete) in [("tool (deleted)", false), ("tool", true)] {
        let file = dir.path().join(name);
        std::fs::copy("/bin/sleep", &file).unwrap();
        let peer = Peers::start(Command::new(&file).arg("60"));
        wait_until(name, || {
            std::fs::read_link(format!("/proc/{}/exe", peer.pid())).is_ok_and(|exe| exe == file)
                && started(peer.pid())
        });
        if delete {
            std::fs::remove_file(&file).unwrap();
        }
        let seen = attest(&attestor, peer.pid()).await.unwrap();
        if delete {
            assert!(level_1_reason(&seen.caller).contains("deleted"));
            assert_eq!(seen.caller.exe.known().unwrap().path, None);
        } else {
            assert_eq!(seen.caller.exe.known().unwrap().path.as_deref(), file.to_str());
            assert_eq!(seen.assurance.level(), u8::from(randomised()));
        }
    }
}

#[tokio::test]
async fn a_memfd_executable_is_level_0() {
    let attestor = start(config(), &[]);
    let memfd =
        nix::sys::memfd::memfd_create(c"usr/bin/trusted", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
            .unwrap();
    let mut file = std::fs::File::from(memfd);
    file.write_all(&std::fs::read("/bin/sleep").unwrap()).unwrap();
    let path =
        format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    // A program that is open for writing cannot be run.
    let reading = std::fs::File::open(&path).unwrap();
    drop(file);
    let path = path.rsplit_once('/').unwrap().0.to_owned()
        + &format!("/{}", std::os::fd::AsRawFd::as_raw_fd(&reading));
    let peer = Peers::start(Command::new(path).arg("60"));
    wait_until("exec", || {
        std::fs::read_link(format!("/proc/{}/exe", peer.pid()))
            .is_ok_and(|exe| exe.starts_with("/memfd:usr"))
            && started(peer.pid())
    });
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert!(level_1_reason(&seen.caller).contains("memfd"), "{:?}", seen.caller);
}

#[tokio::test]
async fn a_process_without_address_randomisation_is_level_0() {
    let attestor = start(config(), &[]);
    for size in [1, 100_000] {
        let mut command = Command::new("setarch");
        command.args(["-R", "/bin/sleep", "60"]).env("LARGE", "x".repeat(size));
        let peer = Peers::start(&mut command);
        wait_for(&peer, "sleep");
        let seen = attest(&attestor, peer.pid()).await.unwrap();
        assert!(
            level_1_reason(&seen.caller).contains("randomisation"),
            "environment of {size} bytes"
        );
    }
}

#[tokio::test]
async fn a_process_in_a_pid_namespace_of_its_own_user_namespace_is_level_0() {
    let attestor = start(config(), &[]);
    let script = "sleep 60 & wait";
    let peer = Peers::start(Command::new("unshare").args([
        "-Urpf",
        "--kill-child",
        "/bin/sh",
        "-c",
        script,
    ]));
    let inner = |pid: u32| -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    let began = Instant::now();
    let pid = loop {
        if let Some(pid) = inner(peer.pid()).and_then(inner) {
            break pid;
        }
        if began.elapsed() > Duration::from_secs(3) {
            return eprintln!("skipped: unshare -Urpf is not permitted here");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    wait_for_pid(pid, "sleep");
    let seen = attest(&attestor, pid).await.unwrap();
    assert!(level_1_reason(&seen.caller).contains("pid namespace"), "{:?}", seen.caller);
}

#[tokio::test]
async fn an_executable_beyond_the_limits_is_not_hashed() {
    let mut small = config();
    small.limits.hash_bytes = 100;
    let attestor = start(small, &[]);
    let peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert!(level_1_reason(&seen.caller).contains("limits.hash_bytes"));

    let mut few = config();
    few.limits.hashes_per_minute = 1;
    let attestor = start(few, &[]);
    let Err(AttestError::Limit(reason)) = attest(&attestor, peer.pid()).await else {
        panic!("served")
    };
    assert!(reason.contains("limits.hashes_per_minute"), "{reason}");
}

#[tokio::test]
async fn a_process_that_this_agent_may_not_look_into_is_level_0_and_still_answered() {
    use std::os::unix::fs::PermissionsExt;
    if nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: root may look into every process");
    }
    let attestor = start(config(), &[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("closed");
    std::fs::copy("/bin/sleep", &file).unwrap();
    // Who may run a file but not read it is not dumpable from its first instruction.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o111)).unwrap();
    let peer = Peers::start(Command::new(&file).arg("60"));
    wait_for(&peer, "closed");
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert!(level_1_reason(&seen.caller).contains("may not"), "{:?}", seen.caller);
    assert!(seen.caller.shortfalls.iter().any(|s| s.reason.contains("hidden")));
    assert!(matches!(seen.caller.exe, Fact::Unreadable(_)));
    assert_eq!(seen.caller.uid, nix::unistd::geteuid().as_raw());
    attestor.recheck(&seen).await.unwrap();
}
