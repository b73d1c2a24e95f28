//! Who connected, as the kernel noted it at connect.

use super::{Peer, Refusal};
use crate::mutants::{Check, on};
use crate::process::peer::{credentials, has_ended, open_pidfd, peer_pidfd};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// `SO_PEERCRED`. The pid may be 0: then the peer is outside the agent's pid
/// namespace, and [`hold`] refuses it.
pub(super) fn name(socket: &impl AsFd) -> Result<Peer, Refusal> {
    let cred = credentials(socket).map_err(|e| cannot("tell who connected", &e))?;
    Ok(Peer { pid: cred.pid, uid: cred.uid, gid: cred.gid })
}

/// A pidfd of the process that connected, which is alive.
///
/// Where the kernel lacks `SO_PEERPIDFD` (before Linux 6.5) the process that
/// has the pid now is taken: if it is another, it is that one which must send
/// every byte and answer the challenge, and which is attested.
pub(super) fn hold(socket: &impl AsFd, peer: Peer) -> Result<OwnedFd, Refusal> {
    if peer.pid == 0 && on(Check::PidZero) {
        return Err(Refusal::NoPid);
    }
    let pidfd = match peer_pidfd(socket) {
        Ok(Some(pidfd)) => Ok(pidfd),
        Ok(None) => open_pidfd(peer.pid),
        Err(error) => Err(error),
    };
    let pidfd = pidfd.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => Refusal::Gone,
        Some(Errno::EMFILE | Errno::ENFILE) => out_of_descriptors(),
        _ => cannot("hold the process that connected", &error),
    })?;
    if has_ended(pidfd.as_fd()) && on(Check::PeerAlive) { Err(Refusal::Gone) } else { Ok(pidfd) }
}

/// The agent's own limit (`RLIMIT_NOFILE`) or the host's is reached.
pub(super) fn out_of_descriptors() -> Refusal {
    Refusal::Limit("the agent has no file descriptor left; raise its RLIMIT_NOFILE".to_owned())
}

fn cannot(what: &str, error: &io::Error) -> Refusal {
    Refusal::Unverified(format!("the kernel does not let the agent {what}: {error}"))
}
