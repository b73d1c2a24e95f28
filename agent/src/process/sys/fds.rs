//! Descriptors that pass from one process to the next.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Marks every descriptor above stderr close-on-exec (close_range(2)), so that
/// only those given to [`keep_over_exec`] after it get through.
///
/// # Errors
/// Kernels before 5.11.
pub fn close_all_on_exec() -> io::Result<()> {
    close_range(libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: closes nothing now; takes three integers.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, flags as libc::c_int) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this descriptor through the next execve(2).
///
/// # Errors
/// When it is not open.
pub fn keep_over_exec(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Takes a descriptor that this process inherited under that number, and lets
/// it through no further.
///
/// Call it once for each number: the process that executed this one says which
/// they are, and nothing else in this process uses them yet.
///
/// # Errors
/// When that number is not open, or is one of stdin, stdout and stderr.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only lent to fcntl, which answers EBADF where it is not open.
    fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: open, as just seen, and by the contract above nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
