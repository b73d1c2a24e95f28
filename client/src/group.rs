//! The group of a `jsi` that root installed set-group-ID, as distributions
//! install ssh-agent: nothing but that file gives it, so that SO_PEERCRED
//! shows the agent a client that no program of the same uid could have traced.
//!
//! It is a badge and not a right. The program lays it down first of all, as
//! its saved group (credentials(7)), and takes it up for connect(2) alone: no
//! file is opened with it, and what is executed never has it, since execve(2)
//! makes the saved group from the effective one.

use nix::unistd::{Gid, getresgid, setresgid};
use std::io;
use std::sync::OnceLock;

/// The group that was laid down. The process's groups are the whole process's
/// too; a program that has not called [`lay_down`] is left as it is.
static LAID_DOWN: OnceLock<Gid> = OnceLock::new();

/// Lays down the group that the program's file gave it. Costs one system call
/// where there is none. To be called before anything else, by one thread.
///
/// # Errors
/// Where the kernel refuses, which it does to nobody (setresgid(2)).
pub fn lay_down() -> io::Result<()> {
    let groups = getresgid()?;
    if groups.effective == groups.real {
        return Ok(());
    }
    setresgid(groups.real, groups.real, groups.effective)?;
    let _ = LAID_DOWN.set(groups.effective); // called twice, it is the same one
    Ok(())
}

/// Gives it up for good: for a program that is about to become another one.
pub fn give_up() {
    if LAID_DOWN.get().is_some()
        && let Ok(groups) = getresgid()
    {
        let _ = setresgid(groups.real, groups.real, groups.real); // the real one is always allowed
    }
}

/// Runs `connect` with the group that was laid down, where there is one.
pub(crate) fn showing<T>(connect: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(&group) = LAID_DOWN.get() else { return connect() };
    let real = getresgid()?.real;
    if setresgid(real, group, group).is_err() {
        return connect(); // given up since
    }
    let connected = connect();
    setresgid(real, real, group)?;
    connected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_such_a_group_connects_as_it_is() {
        let before = getresgid().unwrap();
        lay_down().unwrap();
        assert_eq!(showing(|| Ok(7)).unwrap(), 7);
        give_up();
        assert_eq!(getresgid().unwrap(), before);
    }
}
