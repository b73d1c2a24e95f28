//! Real processes before a real attestor, which runs on threads of the test.

use super::attestor::run_with;
use super::*;
use crate::config::{Config, Lifetimes, Limits, Mode};
use crate::connection::{Peer, Refusal, Witness};
use crate::process::pidfd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child that is ended with the test, whatever comes.
struct Peers(Child);

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peers {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn sleep() -> Self {
        let peer = Self::start(Command::new("/bin/sleep").arg("60"));
        wait_for(&peer, "sleep");
        peer
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The next line that it prints, as a pid.
    fn printed_pid(&mut self) -> u32 {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_for(peer: &Peers, name: &str) {
    wait_for_pid(peer.pid(), name);
}

fn wait_for_pid(pid: u32, name: &str) {
    wait_until(name, || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
            && started(pid)
    });
}

/// Its exec is over: name and exe are set before the addresses are.
fn started(pid: u32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|text| generation::Stat::parse(&text));
    stat.is_some_and(|stat| !stat.generation.hidden() || stat.state == b'S')
}

fn config() -> Config {
    let none = PathBuf::from("/nonexistent");
    Config {
        dedicated_uid: false,
        mode: Mode::Host,
        source: None,
        run_as: None,
        socket: none.clone(),
        admin_socket: none.clone(),
        admin_gid: None,
        policy_dir: none.clone(),
        store_dir: none.clone(),
        log_dir: none.clone(),
        identity: none,
        genuine_clients: vec![],
        enrolled_clients: vec![],
        isolated_uids: std::collections::BTreeSet::new(),
        reflection: false,
        stop_timeout: Duration::from_secs(1),
        lifetimes: Lifetimes {
            default_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(1),
        },
        credentials: std::collections::BTreeMap::new(),
        limits: Limits::default(),
    }
}

fn start(config: Config, advisory: &[&str]) -> Attestor {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let advisory: Vec<String> = advisory.iter().map(|&reason| reason.to_owned()).collect();
    std::thread::spawn(move || {
        let (again, reasons) = (config.clone(), advisory.clone());
        run_with(theirs, &config, advisory, Box::new(move || Ok((again.clone(), reasons.clone()))))
    });
    nix::fcntl::fcntl(&ours, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    Attestor::connect(ours).unwrap()
}

async fn open(attestor: &Attestor, pid: u32) -> Result<ImageId, Refusal> {
    let pidfd = pidfd::open(pid).unwrap();
    let peer =
        Peer { pid, uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    attestor.open(peer, std::os::fd::AsFd::as_fd(&pidfd)).await
}

async fn attest(attestor: &Attestor, pid: u32) -> Result<Attestation, AttestError> {
    attestor.attest(open(attestor, pid).await.unwrap()).await
}

fn level_1_reason(facts: &ProcessFacts) -> &str {
    assert_eq!(facts.assurance, Assurance::Uid, "{facts:?}");
    &facts.shortfalls.iter().find(|s| s.level == Assurance::Executable).unwrap().reason
}

/// Address randomisation may be off for the whole test run.
fn randomised() -> bool {
    let text = std::fs::read("/proc/self/stat").unwrap();
    generation::Stat::parse(&text).unwrap().randomised()
}

#[tokio::test]
async fn a_plain_process_reaches_level_1_with_its_path_digest_and_ancestors() {
    let attestor = start(config(), &[]);
    let peer = Peers::sleep();
    let seen = attest(&attestor, peer.pid()).await.unwrap();
    assert_eq!(seen.via, Via::Direct);
    let exe = seen.caller.exe.known().unwrap();
    let real = Path::new("/bin/sleep").canonicalize().unwrap();
    assert_eq!(exe.path.as_deref(), real.to_str());
    assert_eq!(exe.digest, executable::digest_of(&real).unwrap().1);
    assert_eq!(seen.requester, seen.caller);
    assert_eq!(seen.requester_image, seen.caller_image);
    assert_eq!(seen.ancestry[0].pid, std::process::id());
    assert!(seen.ancestry.len() > 1);
    if randomised() {
        assert_eq!(seen.assurance, Assurance::Executable, "{:?}", seen.caller.shortfalls);
    }
    attestor.recheck(&seen).await.unwrap();
    let again = attestor.attest(seen.caller_image).await.unwrap();
    assert_eq!((again.caller, again.ancestry), (seen.caller, seen.ancestry));
    assert!(
        Arc::ptr_eq(&again.requester_pidfd, &seen.requester_pidfd),
        "one pidfd for each process"
    );
}

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
    assert_eq!(pidfd::pid(&seen.requester_pidfd).unwrap(), Some(peer.pid()));
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
