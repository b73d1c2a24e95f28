//! The first word on a link: a companion has given up what it does not need.
//! No agent is ready before, and none of this reaches the protocol that
//! follows on the same link.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const WORD: &[u8] = b"settled";

/// How long a companion may take: executing and a few system calls.
const PATIENCE_MS: u16 = 10_000;

/// A companion tells the broker.
pub(super) fn tell(link: &OwnedFd) -> io::Result<()> {
    send(link.as_raw_fd(), WORD, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// The broker waits for it.
pub(super) fn wait(link: &OwnedFd, name: &str) -> io::Result<()> {
    let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(0) => return Err(io::Error::other(format!("the {name} does not start"))),
            polled => {
                polled?;
                break;
            }
        }
    }
    let mut word = [0; 16];
    let n = recv(link.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT)?;
    if word.get(..n) == Some(WORD) {
        return Ok(());
    }
    Err(io::Error::other(format!("the {name} ended before the agent was ready")))
}

/// Waits a little for companions whose links are closed, so that no zombie of
/// theirs is left to whoever inherits the broker's children.
pub(super) fn reap(companions: &[Pid]) {
    let begin = Instant::now();
    for pid in companions {
        while begin.elapsed() < Duration::from_secs(1)
            && matches!(waitpid(*pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
