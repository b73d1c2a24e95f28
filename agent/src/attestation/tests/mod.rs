//! Real processes before a real attestor, which runs on threads of the test.

mod level;
mod link;
mod mapped;
mod refused;
mod requester;

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
        identity: none.clone(),
        pinentry: none,
        plugin_dirs: Vec::new(),
        lock_after_idle: None,
        genuine_clients: vec![],
        enrolled_clients: vec![],
        isolated_uids: std::collections::BTreeSet::new(),
        enforced_labels: std::collections::BTreeSet::new(),
        enforced_ima: false,
        listed_libraries: std::collections::BTreeSet::new(),
        reflection: false,
        stop_timeout: Duration::from_secs(1),
        lifetimes: Lifetimes {
            default_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(1),
        },
        issuers: std::collections::BTreeMap::new(),
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

async fn attest(attestor: &Attestor, pid: u32) -> Result<Arc<Attestation>, AttestError> {
    attestor.attest(open(attestor, pid).await.unwrap()).await
}

/// Address randomisation may be off for the whole test run.
fn randomised() -> bool {
    let text = std::fs::read("/proc/self/stat").unwrap();
    generation::Stat::parse(&text).unwrap().randomised()
}
