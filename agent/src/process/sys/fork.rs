//! fork(2) before any thread exists, and the environment likewise.

use nix::unistd::{ForkResult, Pid, fork};
use std::ffi::{CString, OsStr};
use std::io;

/// Forks. `None`: this is the child.
///
/// # Errors
/// At a limit; and where this process has more than one thread already, since
/// the child of such a one may do next to nothing.
pub fn split() -> io::Result<Option<Pid>> {
    only_thread()?;
    // SAFETY: there is one thread, as just seen, so no lock can be held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Ends a forked child at once, without the parent's exit handlers and buffers.
pub fn leave(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Becomes that program, found as execvp(3) finds it, with the present
/// environment and those variables.
///
/// # Errors
/// Returns only when the program cannot be executed.
pub fn become_command(
    argv: &[CString],
    variables: &[(&str, &OsStr)],
) -> io::Result<std::convert::Infallible> {
    only_thread()?;
    for (name, value) in variables {
        // SAFETY: there is one thread, as just seen.
        unsafe { std::env::set_var(name, value) };
    }
    let program = argv.first().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(nix::unistd::execvp(program, argv)?)
}

fn only_thread() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        n => Err(io::Error::other(format!("{n} threads exist already: a bug in jsi-agent"))),
    }
}
