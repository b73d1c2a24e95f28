//! Waiting in tokio for a descriptor of any kind to become readable.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` (a pidfd, which others may hold too) to be waited for. Must be
/// called inside a tokio runtime.
///
/// # Errors
/// No descriptor is left, or it is of a kind that cannot be polled.
pub fn readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    match register(Arc::clone(&fd)) {
        // epoll refuses the same descriptor twice; another stage may watch this one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            register(Arc::new(fd.try_clone()?))
        }
        registered => registered,
    }
}

fn register(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the `Arc` that the `AsyncFd` keeps holds the descriptor open for as
    // long as it is registered, and always answers with the same one.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
