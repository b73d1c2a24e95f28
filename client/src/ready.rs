//! Descriptors that are waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that says when it can be read. Reading must not block: its
/// flags, or its kind, see to that.
pub(crate) struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// Where it is nothing that epoll takes: a regular file, for one.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // Deprecated because a type could give another descriptor each time. This
        // one does not, and what took its place is unsafe.
        #[expect(deprecated, reason = "an OwnedFd stays open, and the same, until it is dropped")]
        AsyncFd::with_interest(fd, Interest::READABLE).map(Self)
    }

    /// Until there is something to read, or the end.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.readable().await.map(|mut ready| ready.retain_ready())
    }

    /// The same, once what was there has been read.
    pub(crate) async fn wait_fresh(&self) -> io::Result<()> {
        // Cleared first: epoll tells of an edge, and reading found nothing.
        self.0.readable().await.map(|mut ready| ready.clear_ready())
    }

    /// Reads when there is something. Loses nothing when dropped halfway.
    pub(crate) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match nix::unistd::read(&self.0, into) {
                Ok(count) => return Ok(count),
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
