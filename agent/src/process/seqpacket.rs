//! SOCK_SEQPACKET between the agent's own processes: one datagram, one message.

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroizing;

/// Bytes of the largest datagram.
pub const MAX_DATAGRAM: usize = 128 * 1024;
/// Descriptors in one datagram, at most.
const MAX_FDS: usize = 8;

/// What one datagram brings; `None` at the end of the stream.
type Received = Option<(Vec<u8>, Vec<OwnedFd>)>;

/// A blocking link.
pub struct SeqPacket(OwnedFd);

impl SeqPacket {
    /// Takes a connected SOCK_SEQPACKET socket.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// EPIPE when the other side has ended; EMSGSIZE above [`MAX_DATAGRAM`].
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.0, bytes, fds, MsgFlags::empty())
    }

    /// Waits for one datagram; `None`: the other side has closed.
    ///
    /// # Errors
    /// When it was cut short, or the socket fails.
    pub fn recv(&self) -> io::Result<Received> {
        recv(&self.0, MsgFlags::empty())
    }

    /// The same for a datagram with something secret and no descriptors: no
    /// copy of it stays behind. Waits at most that long.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and when nothing came in time.
    pub fn recv_secret(&self, patience: Duration) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let micros = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
        setsockopt(&self.0, sockopt::ReceiveTimeout, &TimeVal::microseconds(micros))?;
        let mut bytes = Zeroizing::new(vec![0; MAX_DATAGRAM]);
        let len = loop {
            // One that is too long is cut, and then does not parse.
            match nix::sys::socket::recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                len => break len?,
            }
        };
        bytes.truncate(len);
        Ok((len > 0).then_some(bytes))
    }
}

/// The same for tokio.
pub struct AsyncSeqPacket(AsyncFd<OwnedFd>);

impl AsyncSeqPacket {
    /// Takes a connected SOCK_SEQPACKET socket.
    ///
    /// # Errors
    /// When it cannot be registered with the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` drops it.
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }

    /// See [`SeqPacket::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(done) =
                ready.try_io(|fd| send(fd.get_ref(), bytes, fds, MsgFlags::MSG_DONTWAIT))
            {
                return done;
            }
        }
    }

    /// See [`SeqPacket::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&self) -> io::Result<Received> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(done) = ready.try_io(|fd| recv(fd.get_ref(), MsgFlags::MSG_DONTWAIT)) {
                return done;
            }
        }
    }
}

fn send(fd: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: MsgFlags) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > MAX_DATAGRAM || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(
            fd.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn recv(fd: &OwnedFd, flags: MsgFlags) -> io::Result<Received> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; MAX_DATAGRAM]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let (len, truncated, fds) = loop {
            let mut slices = [IoSliceMut::new(buffer)];
            match recvmsg::<()>(fd.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
                Ok(got) => {
                    let mut fds = Vec::new();
                    for message in got.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = message {
                            // SAFETY: the kernel has just installed these for us.
                            fds.extend(
                                raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                            );
                        }
                    }
                    let truncated =
                        got.flags.intersects(MsgFlags::MSG_CTRUNC | MsgFlags::MSG_TRUNC);
                    break (got.bytes, truncated, fds);
                }
            }
        };
        if truncated {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message between the agent's processes was cut short",
            ));
        }
        if len == 0 {
            return Ok(None);
        }
        Ok(Some((buffer[..len].to_vec(), fds)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn messages_keep_their_borders_and_their_descriptors() {
        let (a, b) = pair();
        let (a, b) = (SeqPacket::new(a), SeqPacket::new(b));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        a.send(b"first", &[file.as_fd()]).unwrap();
        a.send(&vec![7; 100_000], &[]).unwrap();
        let (bytes, mut fds) = b.recv().unwrap().unwrap();
        assert_eq!(bytes, b"first");
        let received = fds.remove(0);
        let flags = nix::fcntl::fcntl(&received, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let mut text = String::new();
        std::fs::File::from(received).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        assert_eq!(b.recv().unwrap().unwrap().0.len(), 100_000);
        drop(a);
        assert!(b.recv().unwrap().is_none());
    }

    #[test]
    fn too_long_a_message_and_one_to_nobody_are_not_sent() {
        let (a, b) = pair();
        let a = SeqPacket::new(a);
        assert!(a.send(&vec![0; MAX_DATAGRAM + 1], &[]).is_err());
        assert!(a.send(b"", &[]).is_err());
        drop(b);
        assert!(a.send(b"x", &[]).is_err());
    }

    #[test]
    fn more_descriptors_than_there_is_room_for_are_an_error() {
        let (a, b) = pair();
        let fds: Vec<RawFd> = vec![b.as_raw_fd(); MAX_FDS + 3];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(a.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)
            .unwrap();
        assert!(SeqPacket::new(b).recv().is_err());
    }

    #[tokio::test]
    async fn the_async_link_speaks_with_the_blocking_one() {
        let (a, b) = pair();
        let far = std::thread::spawn(move || {
            let b = SeqPacket::new(b);
            while let Some((bytes, _)) = b.recv().unwrap() {
                b.send(&bytes, &[]).unwrap();
            }
        });
        // What tokio registers must not block.
        let a = AsyncSeqPacket::new(a).unwrap();
        for round in 0..100_u32 {
            a.send(&round.to_le_bytes(), &[]).await.unwrap();
            assert_eq!(a.recv().await.unwrap().unwrap().0, round.to_le_bytes());
        }
        drop(a);
        far.join().unwrap();
    }
}
