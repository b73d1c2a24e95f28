//! Signals.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sends a signal to exactly that process (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH when it has ended, EPERM when it is another's.
pub fn send(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    // SAFETY: three integers and a null pointer, which the call allows.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Forgets what the starter had ignored or blocked (nohup, a supervisor), so
/// that the agent's processes take every signal as documented.
///
/// # Errors
/// None is known.
pub fn forget_inherited() -> io::Result<()> {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE) {
            default(signal)?;
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// That signal's default action. Rust's start-up code has SIGPIPE ignored,
/// which would pass to programs that are executed.
///
/// # Errors
/// None is known.
pub fn default(signal: Signal) -> io::Result<()> {
    // SAFETY: installs no handler.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }?;
    Ok(())
}

/// Blocks what a terminal or a service manager sends to the whole group: only
/// the broker answers it, the other two end when the broker does.
///
/// # Errors
/// None is known.
pub fn leave_to_the_broker() -> io::Result<()> {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
    let set: SigSet =
        [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2].into_iter().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(())
}
