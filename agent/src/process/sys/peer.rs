//! Who is on the other end of a Unix socket, and who sent each chunk of bytes
//! (unix(7), `SO_PEERCRED`, `SO_PEERPIDFD`, `SO_PASSCRED`).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `SO_PASSRIGHTS` (Linux 6.16): whether descriptors may be sent to a socket.
const SO_PASSRIGHTS: libc::c_int = 83;

/// `SO_PASSPIDFD` (Linux 6.5): whether a datagram comes with a pidfd of its sender.
const SO_PASSPIDFD: libc::c_int = 76;

/// Room for control messages. Credentials take 32 bytes; what does not fit is
/// cut off by the kernel, which says so, and the connection is refused anyway.
const CONTROL_WORDS: usize = 16;

/// `SO_PEERCRED`, as the kernel gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Pid at connect; 0 where it has none in this pid namespace.
    pub pid: u32,
    /// Effective uid at connect.
    pub uid: u32,
    /// Effective gid at connect.
    pub gid: u32,
}

/// Who sent a chunk (`SCM_CREDENTIALS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Pid; 0 where the kernel did not note one.
    pub pid: u32,
    /// Real uid, unless a privileged sender named another.
    pub uid: u32,
}

/// What one `recvmsg` brought beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes read; 0 is the end.
    pub len: usize,
    /// Who sent them; one call never mixes senders. `None`: not said.
    pub sender: Option<Sender>,
    /// Control data was cut off (`MSG_CTRUNC`).
    pub truncated: bool,
    /// There was a control message that is not credentials. Descriptors that
    /// came with it are closed already.
    pub foreign: bool,
}

/// Asks that every chunk received on `socket` names its sender. Accepted sockets
/// inherit it as it stood on the listener when the peer connected.
///
/// # Errors
/// As setsockopt(2).
pub fn name_senders(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::PassCred, &true)?)
}

/// Whether [`name_senders`] is in force.
///
/// # Errors
/// As getsockopt(2).
pub fn names_senders(socket: &impl AsFd) -> io::Result<bool> {
    Ok(getsockopt(socket, sockopt::PassCred)?)
}

/// Forbids sending descriptors to `socket`, where the kernel can; `false` where it cannot.
///
/// # Errors
/// As setsockopt(2), except that an unknown option is no error.
pub fn refuse_descriptors(socket: &impl AsFd) -> io::Result<bool> {
    set(socket, SO_PASSRIGHTS, 0)
}

/// Asks that every datagram received on `socket` brings a pidfd of its sender,
/// where the kernel can; `false` where it cannot.
///
/// # Errors
/// As setsockopt(2), except that an unknown option is no error.
pub fn hold_senders(socket: &impl AsFd) -> io::Result<bool> {
    set(socket, SO_PASSPIDFD, 1)
}

fn set(socket: &impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<bool> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the pointer and the size describe `value`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size,
        )
    };
    match Errno::result(done) {
        Ok(_) => Ok(true),
        Err(Errno::ENOPROTOOPT | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// `SO_PEERCRED`.
///
/// # Errors
/// As getsockopt(2).
pub fn credentials(socket: &impl AsFd) -> io::Result<Credentials> {
    let cred = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(Credentials {
        pid: u32::try_from(cred.pid()).unwrap_or(0),
        uid: cred.uid(),
        gid: cred.gid(),
    })
}

/// `SO_PEERPIDFD` (Linux 6.5); `None` where the kernel lacks it.
///
/// # Errors
/// As getsockopt(2); `ESRCH` or `EINVAL` when the peer has been reaped.
pub fn peer_pidfd(socket: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    match getsockopt(socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// `pidfd_open(2)`; the descriptor is close-on-exec.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(Errno::ESRCH))?;
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the process behind `pidfd` has ended (a zombie has). An error of
/// poll(2) counts as ended.
#[must_use]
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

/// Whether the peer has closed its end altogether, so that no answer can reach it.
#[must_use]
pub fn hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let answered = poll(&mut fds, PollTimeout::ZERO);
    answered.is_ok_and(|found| found > 0)
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// Bytes sent on `socket` that the peer has not read yet (`SIOCOUTQ`; the
/// kernel's count includes its own overhead). 0 where it cannot be told.
#[must_use]
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> usize {
    let mut unread: libc::c_int = 0;
    // SAFETY: the request writes one int, to `unread`, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    if done == 0 { usize::try_from(unread).unwrap_or(0) } else { 0 }
}

/// One `recvmsg(2)` that does not block. Descriptors that come along are closed.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` when there is nothing to read.
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Chunk> {
    let (mut chunk, pidfd) = receive_held(socket, into)?;
    chunk.foreign |= pidfd.is_some(); // nobody asked for it
    Ok(chunk)
}

/// The same with a pidfd of the sender, where [`hold_senders`] is in force: it
/// names the process that sent, whoever has its pid by now.
///
/// # Errors
/// As [`receive`].
pub fn receive_held(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
) -> io::Result<(Chunk, Option<OwnedFd>)> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut bytes = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all zeroes is a valid msghdr (null pointers, no lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let len = loop {
        // SAFETY: `message` points at `into` and `control`, with their true
        // lengths; both are borrowed exclusively until the call returns.
        let got = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut message,
                libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
            )
        };
        match Errno::result(got) {
            Err(Errno::EINTR) => {}
            Err(other) => return Err(other.into()),
            Ok(got) => break usize::try_from(got).unwrap_or(0),
        }
    };
    let mut chunk = Chunk {
        len,
        sender: None,
        truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
        foreign: false,
    };
    let mut pidfd = None;
    // SAFETY: `message` describes what the kernel wrote to `control`.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR only give headers that lie
        // within `control`, which is aligned for them.
        let header = unsafe { std::ptr::read_unaligned(next) };
        // SAFETY: the data of a header lies behind it, within `control`.
        let data = unsafe { libc::CMSG_DATA(next) };
        note(&header, data, &mut chunk, &mut pidfd);
        // SAFETY: `next` is a header of `message`.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    Ok((chunk, pidfd))
}

/// Notes one control message; `data` is readable for as long as the header says.
fn note(
    header: &libc::cmsghdr,
    data: *const libc::c_uchar,
    chunk: &mut Chunk,
    pidfd: &mut Option<OwnedFd>,
) {
    // SAFETY: CMSG_LEN only computes.
    let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
    let len = header.cmsg_len.saturating_sub(overhead);
    match (header.cmsg_level, header.cmsg_type) {
        (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
            // SAFETY: at least one ucred lies at `data`, checked above.
            let cred: libc::ucred = unsafe { std::ptr::read_unaligned(data.cast()) };
            let pid = u32::try_from(cred.pid).unwrap_or(0);
            chunk.sender = Some(Sender { pid, uid: cred.uid });
        }
        (libc::SOL_SOCKET, kind @ (libc::SCM_RIGHTS | SCM_PIDFD)) => {
            chunk.foreign |= kind == libc::SCM_RIGHTS;
            for at in 0..len / size_of::<RawFd>() {
                // SAFETY: `at` is below the count of descriptors at `data`.
                let fd: RawFd = unsafe { std::ptr::read_unaligned(data.cast::<RawFd>().add(at)) };
                if fd >= 0 {
                    // SAFETY: the kernel has just installed it for us; nobody else knows it.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                    if kind == SCM_PIDFD {
                        *pidfd = Some(fd);
                    }
                }
            }
        }
        _ => chunk.foreign = true,
    }
}

/// `SCM_PIDFD` (Linux 6.5).
const SCM_PIDFD: libc::c_int = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{IoSlice, Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn each_chunk_names_its_sender() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        name_senders(&theirs).unwrap();
        assert!(names_senders(&theirs).unwrap());
        ours.write_all(b"hello").unwrap();
        let mut buf = [0; 16];
        let chunk = receive(theirs.as_fd(), &mut buf).unwrap();
        let uid = nix::unistd::getuid().as_raw();
        assert_eq!(chunk.sender, Some(Sender { pid: std::process::id(), uid }));
        assert_eq!((chunk.len, chunk.truncated, chunk.foreign), (5, false, false));
    }

    #[test]
    fn descriptors_that_come_along_are_closed_even_when_control_data_is_cut_off() {
        for count in [1_usize, 20, 200] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            name_senders(&theirs).unwrap();
            let (mut reader, writer) = std::io::pipe().unwrap();
            let fds = vec![writer.as_raw_fd(); count];
            let rights = [ControlMessage::ScmRights(&fds)];
            let bytes = [IoSlice::new(b"x")];
            sendmsg::<()>(ours.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
            drop(writer);
            let chunk = receive(theirs.as_fd(), &mut [0; 16]).unwrap();
            assert!(chunk.foreign);
            assert_eq!(chunk.truncated, count > 20);
            // End of file, at once: no writer is left anywhere.
            assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
        }
    }

    #[test]
    fn a_process_that_has_ended_is_seen_through_its_pidfd() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pidfd = open_pidfd(child.id()).unwrap();
        assert!(!has_ended(pidfd.as_fd()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(has_ended(pidfd.as_fd()));
    }
}
