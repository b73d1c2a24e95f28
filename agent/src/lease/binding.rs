//! What ends leases besides time: one watch for each process (or connection),
//! however many leases are bound to it.

use super::Engine;
use super::terms::{BindingKey, Bound};
use crate::attestation::{BoundProcess, ProcessIdentity};
use crate::process;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

/// A task that waits for a process or connection to end. Dropping it stops it.
pub(super) struct Watch {
    /// Active leases that are bound to it.
    pub(super) leases: usize,
    /// Shared by them.
    pub(super) process: Option<Arc<ProcessIdentity>>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Watches `bound`, and tells the engine when it has ended.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new(engine: &Arc<Engine>, bound: Bound) -> io::Result<Option<Self>> {
        let key = bound.key();
        let engine = Arc::downgrade(engine);
        let (task, process) = match bound {
            Bound::Process(BoundProcess { pidfd, identity }) => {
                let pidfd = process::readable(pidfd)?;
                (tokio::spawn(exited(engine, key, pidfd)), Some(Arc::new(identity)))
            }
            Bound::Connection { closed, .. } => {
                let waiting = async move {
                    closed.await;
                    tell(&engine, key);
                };
                (tokio::spawn(waiting), None)
            }
            Bound::None => return Ok(None),
        };
        Ok(Some(Self { leases: 0, process, task: task.abort_handle() }))
    }
}

/// A pidfd is readable once the process has ended (pidfd_open(2)).
async fn exited(engine: Weak<Engine>, key: BindingKey, pidfd: AsyncFd<Arc<OwnedFd>>) {
    loop {
        // An error means that the runtime is going, and the agent with it.
        let Ok(mut ready) = pidfd.readable().await else { return };
        if alive(pidfd.get_ref()) {
            ready.clear_ready();
        } else {
            return tell(&engine, key);
        }
    }
}

fn tell(engine: &Weak<Engine>, key: BindingKey) {
    if let Some(engine) = engine.upgrade() {
        engine.bound_ended(key);
    }
}

/// Whether the process behind a pidfd has not ended. What cannot be told counts as ended.
pub(super) fn alive(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match nix::poll::poll(&mut polled, PollTimeout::ZERO) {
            Ok(ready) => return ready == 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}
