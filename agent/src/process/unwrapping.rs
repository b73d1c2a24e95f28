//! The fourth role: a process for one question, which the launcher starts and
//! the broker talks with over a socket of its own. It runs the age plugin or
//! systemd-creds: programs of others, that never run in the broker.

use super::handoff::{Handoff, Role};
use super::sys::{fork, signal};
use super::{SeqPacket, Settings};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, getpid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a plugin may take, a person's PIN and touch included.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Starts that process; gives our end of its socket.
///
/// `terminal`: it stays in the foreground of the caller's terminal.
///
/// # Errors
/// When it cannot be started.
pub fn start(settings: &Settings, terminal: bool) -> io::Result<(SeqPacket, Child)> {
    let kind = SockType::SeqPacket;
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((SeqPacket::new(ours), spawn(settings, theirs, terminal)?))
}

/// The same with a socket that somebody else holds the other end of.
pub(super) fn spawn(settings: &Settings, link: OwnedFd, terminal: bool) -> io::Result<Child> {
    let handoff = Handoff {
        settings: settings.clone(),
        report: None,
        link: None,
        parent: Some(getpid().as_raw()),
        broker: None,
    };
    let config = settings.load().map_err(io::Error::other)?;
    let path = std::env::join_paths(&config.plugin_dirs).map_err(io::Error::other)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("jsi-agent")
        .arg(Role::Unwrap.argument())
        .arg(serde_json::to_string(&handoff)?)
        .env("PATH", path)
        // Prints what goes over the pipe: keys.
        .env_remove("AGEDEBUG")
        .stdin(Stdio::from(link))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !terminal {
        command.process_group(0);
    }
    command.spawn()
}

/// Waits for its end, at most [`PATIENCE`] and a little, and ends whatever it
/// has started.
pub(super) fn supervise(mut child: Child, ended: impl FnOnce()) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let group = Pid::from_raw(pid);
    let begun = Instant::now();
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    while begun.elapsed() < PATIENCE + Duration::from_secs(5)
        && matches!(waitid(Id::Pid(group), flags), Ok(WaitStatus::StillAlive))
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Before it is reaped, so that the number is nobody else's.
    let _ = killpg(group, Signal::SIGKILL);
    ended();
    let _ = child.wait();
}

/// In that process: takes the socket from stdin.
pub(super) fn link() -> io::Result<OwnedFd> {
    signal::forget_inherited()?;
    let link = io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::OpenOptions::new().read(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    let watched = link.try_clone()?;
    std::thread::spawn(move || end_with(&watched));
    Ok(link)
}

/// Whoever asked has gone or given up: a plugin that waits for a device would
/// go on waiting.
fn end_with(link: &OwnedFd) {
    // POLLHUP is always among what is waited for.
    let mut gone = [PollFd::new(link.as_fd(), PollFlags::empty())];
    while poll(&mut gone, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
    if getpgrp() == getpid() {
        let _ = killpg(getpgrp(), Signal::SIGKILL); // ourselves among it
    }
    // In the group of a command that a person runs: the plugin sees the end of its input.
    fork::leave(1);
}
