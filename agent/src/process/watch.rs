//! Waiting for the end of another process.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Resolves when the process behind that pidfd has ended. Inside tokio.
///
/// # Errors
/// When it cannot be watched: treat it as ended.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` drops it.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    pidfd.readable().await?.retain_ready();
    Ok(())
}
