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
    AsyncFd::with_interest(pidfd, Interest::READABLE)?.readable().await?.retain_ready();
    Ok(())
}
