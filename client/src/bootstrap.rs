//! Reaching the agent where a sandbox lets no program make a Unix socket: a
//! connection for packets that was made before is inherited, and one packet on
//! it asks the agent for a fresh socket. `$JSI_AUTH_FD` has its number.

use crate::discovery::{Socket, agent_socket_by_path, bootstrap_beside};
use crate::error::{Error, Refusal};
use crate::trust::Trust;
use jsi_proto::v1::Reason;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tonic::Code;

/// What each packet begins with.
const MAGIC: [u8; 4] = *b"jsi1";
/// Bytes of a nonce.
const NONCE: usize = 16;
/// Where an answer says what it is.
const STATUS: usize = MAGIC.len() + NONCE;
/// Bytes of the longest answer.
const LONGEST: usize = STATUS + 1 + 400;
/// A socket came with it.
const GIVEN: u8 = 0;
/// A limit was reached.
const LIMIT: u8 = 2;
/// How long to wait for an answer in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long until it is asked for again: another holder may have taken it.
const AGAIN: Duration = Duration::from_secs(1);
/// How long another's answer may stand in front of ours before it is taken
/// away: whoever asked for it may have ended.
const OTHERS: Duration = Duration::from_millis(50);
/// How long to look away meanwhile.
const PAUSE: Duration = Duration::from_millis(1);
/// How long to wait for a place in a full backlog, in seconds.
const CONNECT_TIMEOUT_S: i64 = 5;

type Nonce = [u8; NONCE];

/// Connects to the bootstrap socket beside the agent socket. The connection is
/// to be inherited, with its number in `JSI_AUTH_FD`; it is close-on-exec.
///
/// # Errors
/// As [`crate::Agent::connect`].
pub fn bootstrap() -> Result<OwnedFd, Error> {
    let at = bootstrap_beside(&agent_socket_by_path());
    let unreachable = |source| Error::Unreachable { socket: at.clone(), source };
    let trust = Trust::host();
    trust.check_directory(&at.path)?;
    let fd = dial_packets(&at).map_err(unreachable)?;
    let server = getsockopt(&fd, sockopt::PeerCredentials);
    trust.check_server(&at.path, server.map_err(|errno| unreachable(errno.into()))?.uid())?;
    Ok(fd)
}

fn dial_packets(at: &Socket) -> io::Result<OwnedFd> {
    let address = UnixAddr::new(&at.path)?;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(CONNECT_TIMEOUT_S, 0))?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd)
}

/// A fresh socket to the agent, by the inherited descriptor of that number.
/// Blocks the thread, at most [`PATIENCE`].
pub(crate) fn dial(at: &Socket, number: i32) -> Result<UnixStream, Error> {
    let unreachable = |source| Error::Unreachable { socket: at.clone(), source };
    let own = rustix::process::getpid();
    let fd = inherited(own, number).map_err(|errno| unreachable(errno.into()))?;
    let answer = Asking { fd, nonces: Vec::new() }.answer().map_err(unreachable)?;
    match answer.status {
        GIVEN => answer.socket.map(UnixStream::from).ok_or(Error::Protocol("no socket came")),
        status => Err(refused(status, answer.reason)),
    }
}

/// Another name for an inherited descriptor, which is the safe way to hold one.
fn inherited(own: Pid, number: i32) -> rustix::io::Result<OwnedFd> {
    let pidfd = pidfd_open(own, PidfdFlags::empty())?;
    pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty())
}

fn refused(status: u8, message: String) -> Error {
    let (reason, code) = match status {
        LIMIT => (Reason::LimitReached, Code::ResourceExhausted),
        _ => (Reason::CallerNotVerified, Code::PermissionDenied),
    };
    Error::Refused(Box::new(Refusal {
        reason: Some(reason),
        code,
        message,
        request_id: None,
        violations: Vec::new(),
        metadata: Vec::new(),
    }))
}

/// What was asked for on a connection that others may share.
struct Asking {
    fd: OwnedFd,
    /// An answer to any of them is ours.
    nonces: Vec<Nonce>,
}

struct Answer {
    nonce: Nonce,
    status: u8,
    reason: String,
    socket: Option<OwnedFd>,
}

impl Asking {
    fn answer(mut self) -> io::Result<Answer> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.ask(end)?;
            if let Some(answer) = self.wait(end.min(Instant::now() + AGAIN))? {
                return Ok(answer);
            }
        }
        Err(late())
    }

    fn ask(&mut self, end: Instant) -> io::Result<()> {
        let mut nonce = Nonce::default();
        let random = SystemRandom::new().fill(&mut nonce);
        random.map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
        self.nonces.push(nonce);
        let packet = [&MAGIC[..], &nonce].concat();
        loop {
            match send(&self.fd, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if ready(&self.fd, PollFlags::POLLOUT, end)? => {}
                Err(Errno::AGAIN) => return Err(late()),
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// The answer, where it comes in time and nobody else takes it.
    fn wait(&self, until: Instant) -> io::Result<Option<Answer>> {
        let mut others: Option<(Nonce, Instant)> = None;
        while ready(&self.fd, PollFlags::POLLIN, until)? {
            let Some(first) = self.peek()? else { continue };
            let seen = match others {
                Some((nonce, seen)) if nonce == first => seen,
                _ => Instant::now(),
            };
            others = Some((first, seen));
            if !self.nonces.contains(&first) && seen.elapsed() < OTHERS {
                std::thread::sleep(PAUSE);
                continue;
            }
            // Another's is closed here; its owner asks again.
            if let Some(answer) = self.take()?.filter(|answer| self.nonces.contains(&answer.nonce))
            {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Whose the first answer is; `None`: somebody has taken it.
    fn peek(&self) -> io::Result<Option<Nonce>> {
        let mut bytes = [0; LONGEST];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.fd, &mut bytes[..], flags) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
            Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((len, _)) => nonce(bytes.get(..len).unwrap_or_default()).map(Some),
        }
    }

    fn take(&self) -> io::Result<Option<Answer>> {
        let mut bytes = [0; LONGEST];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let len = match recvmsg(&self.fd, &mut into, &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
            Ok(got) if got.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => got.bytes,
        };
        let socket = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let text = bytes.get(..len).unwrap_or_default();
        let (nonce, rest) = (nonce(text)?, text.get(STATUS..).unwrap_or_default());
        let (status, reason) = rest.split_first().ok_or_else(malformed)?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        Ok(Some(Answer { nonce, status: *status, reason, socket }))
    }
}

fn nonce(text: &[u8]) -> io::Result<Nonce> {
    let nonce = text.strip_prefix(&MAGIC).and_then(|rest| rest.get(..NONCE));
    nonce.and_then(|nonce| Nonce::try_from(nonce).ok()).ok_or_else(malformed)
}

/// Whether it comes to that in time.
fn ready(fd: &impl AsFd, what: PollFlags, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(fd.as_fd(), what)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) => {}
            Ok(_) => return Ok(true),
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is no answer of an agent")
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it gave no socket within {PATIENCE:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    use std::io::{IoSlice, Read, Write};

    /// Two ends of a connection for packets.
    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    fn asked(agent: &OwnedFd) -> Nonce {
        let mut bytes = [0; 64];
        let (len, _) = recv(agent, &mut bytes[..], RecvFlags::empty()).unwrap();
        assert_eq!(len, STATUS);
        nonce(&bytes[..len]).unwrap()
    }

    /// Answers; gives the end of the socket that is the agent's.
    fn give(agent: &OwnedFd, nonce: Nonce) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = [theirs.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = [&MAGIC[..], &nonce, &[GIVEN]].concat();
        sendmsg(agent, &[IoSlice::new(&text)], &mut control, SendFlags::empty()).unwrap();
        ours
    }

    #[test]
    fn a_socket_that_was_asked_for_is_taken_and_anothers_is_left_a_while_and_then_closed() {
        let (agent, fd) = pair();
        let client = std::thread::spawn(move || Asking { fd, nonces: Vec::new() }.answer());
        let nonce = asked(&agent);
        let mut others = give(&agent, [7; NONCE]);
        let mut own = give(&agent, nonce);
        let answer = client.join().unwrap().unwrap();
        own.write_all(b"x").unwrap();
        drop(own);
        let mut text = String::new();
        UnixStream::from(answer.socket.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(others.read(&mut [0; 1]).unwrap(), 0, "the other's was not closed");
    }

    #[test]
    fn it_is_asked_for_again_where_another_has_taken_the_answer() {
        let (agent, fd) = pair();
        let client = std::thread::spawn(move || Asking { fd, nonces: Vec::new() }.answer());
        let (lost, again) = (asked(&agent), asked(&agent));
        assert_ne!(lost, again);
        let _ours = give(&agent, again);
        assert_eq!(client.join().unwrap().unwrap().nonce, again);
    }

    #[test]
    fn an_agent_that_is_gone_or_talks_nonsense_is_an_error() {
        let (agent, fd) = pair();
        drop(agent);
        assert!(Asking { fd, nonces: Vec::new() }.answer().is_err());
        let (agent, fd) = pair();
        send(&agent, b"nonsense", SendFlags::empty()).unwrap();
        let error = Asking { fd, nonces: Vec::new() }.answer().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
