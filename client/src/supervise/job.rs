//! A child that is waited for, stopped and continued.

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a child came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, with that code.
    Code(u8),
    /// By a signal.
    Signal(Signal),
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Ended(Ended),
    Stopped(Signal),
}

/// A child of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pid: Pid,
}

impl Job {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid: Pid::from_raw(i32::try_from(pid).unwrap_or_default()) }
    }

    /// What has happened to it since it was asked last.
    pub(super) fn change(self) -> Option<Change> {
        if self.pid.as_raw() <= 0 {
            return None;
        }
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        match waitpid(self.pid, Some(flags)) {
            Ok(WaitStatus::Exited(_, code)) => {
                Some(Change::Ended(Ended::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))))
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Change::Ended(Ended::Signal(signal))),
            Ok(WaitStatus::Stopped(_, signal)) => Some(Change::Stopped(signal)),
            // It was waited for already, which nobody else does.
            Err(nix::errno::Errno::ECHILD) => Some(Change::Ended(Ended::Code(125))),
            _ => None,
        }
    }

    /// Sends it a signal. It may be gone, or be somebody else's by now (sudo).
    pub(super) fn send(self, signal: Signal) {
        if self.pid.as_raw() > 0 {
            let _ = kill(self.pid, signal); // see above
        }
    }
}

/// Stops this process as its child was stopped, until somebody lets it go on.
pub(super) fn stop_like(signal: Signal) {
    // Pending before it is let through: the key that stopped the child may have
    // left one, too, and both are to stop this process once.
    let _ = raise(signal);
    let only: SigSet = [signal].into_iter().collect();
    // Where the group is an orphan the kernel does not stop it, nor its child.
    let blocked = only.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_UNBLOCK);
    if let Ok(before) = blocked {
        let _ = before.thread_set_mask(); // of a mask that was in force
    }
}
