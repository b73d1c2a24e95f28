//! Descriptors that are waited for.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that says when it can be read. It may be shared with others and
/// block: it is read only when there is something.
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
            // Asked anew: what tokio remembers may be over, and reading would block.
            if !now(self.0.get_ref(), PollFlags::POLLIN) {
                ready.clear_ready();
                continue;
            }
            match nix::unistd::read(&self.0, into) {
                Ok(count) => return Ok(count),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
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

/// A descriptor that says when it can be written. It may be shared with others
/// and block: no more than what fits at once is to be written.
pub(crate) struct Writable(AsyncFd<OwnedFd>);

impl Writable {
    /// Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// Where it is nothing that epoll takes: a regular file, for one.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        #[expect(deprecated, reason = "an OwnedFd stays open, and the same, until it is dropped")]
        AsyncFd::with_interest(fd, Interest::WRITABLE).map(Self)
    }

    /// Writes when there is room. Loses nothing when dropped halfway.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            // Asked anew: what tokio remembers may be over, and the write would block.
            if !now(self.0.get_ref(), PollFlags::POLLOUT) {
                ready.clear_ready();
                continue;
            }
            match nix::unistd::write(self.0.get_ref(), bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// It is so, or has failed, at this moment.
fn now(fd: &OwnedFd, what: PollFlags) -> bool {
    let mut asked = [PollFd::new(fd.as_fd(), what)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
