//! Sockets for programs that may make none: a sandbox that refuses
//! `socket(AF_UNIX)` leaves descriptors alone that were inherited, and one
//! HTTP/2 connection cannot be shared. So what `jsi exec --broker-fd` hands down
//! is a connection for packets. One packet with a nonce asks for a socket; the
//! answer is that nonce and one end of a fresh pair.
//!
//! Whoever shares the connection can read another's answer. That gives it
//! nothing: the kernel names the sender of the packet, which alone may speak on
//! the socket, and must answer the challenge on it.

use super::accept::{Door, Guest};
use super::limits::Slot;
use super::{Channel, Peer, Refusal, peer};
use crate::mutants::{Check, on};
use crate::process::peer::{
    Chunk, has_ended, hold_senders, name_senders, open_pidfd, receive_held, refuse_descriptors,
    unread_by_peer,
};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

/// What each packet begins with.
const MAGIC: [u8; 4] = *b"jsi1";
/// Bytes of a nonce.
const NONCE: usize = 16;
/// Bytes of a packet that asks: the beginning and the nonce.
const ASKING: usize = MAGIC.len() + NONCE;
/// Bytes of a refusal's text.
const LONGEST_REASON: usize = 400;
/// A socket comes with it.
const GIVEN: u8 = 0;
/// The reason comes with it.
const REFUSED: u8 = 1;
/// The same, where waiting may help.
const LIMIT: u8 = 2;
/// How long accepting rests when the kernel has no descriptor or no memory for it.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes of answers, as the kernel counts them, that may lie unread: about ten.
/// Each holds a descriptor that counts against the agent's own limit
/// (`ETOOMANYREFS`, unix(7)), which nobody's neglect may use up.
const UNREAD: usize = 8 * 1024;

type Nonce = [u8; NONCE];

/// Accepts connections for packets for as long as somebody takes sessions.
///
/// # Errors
/// The listener cannot be used.
pub(super) async fn run(door: &Door, listener: StdListener) -> io::Result<()> {
    hold_senders(&listener)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = door.closed() => return Ok(()),
        };
        match accepted {
            Ok((socket, _)) => greet(door, socket),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                    sleep(PAUSE).await;
                }
                Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPERM) => {}
                _ => return Err(error),
            },
        }
    }
}

/// A connection takes a place of its uid like any other, and one task.
fn greet(door: &Door, socket: UnixStream) {
    let refuse = |peer, why: Refusal| (door.refused)(peer, &why);
    let owner = match peer::name(&socket) {
        Ok(owner) => owner,
        Err(why) => return refuse(Peer { pid: 0, uid: u32::MAX, gid: u32::MAX }, why),
    };
    let slot = match door.limits.take_bootstrap(owner.uid) {
        Ok(slot) => slot,
        Err(why) => return refuse(owner, why),
    };
    // Set on the listener too; what was accepted inherits it on most kernels.
    let set = name_senders(&socket)
        .and_then(|()| hold_senders(&socket))
        .and_then(|_| refuse_descriptors(&socket));
    if let Err(error) = set {
        return refuse(owner, unverified(&format!("the kernel names no senders: {error}")));
    }
    let door = door.clone();
    let bootstrap = Bootstrap { door, socket, owner, _slot: slot };
    tokio::spawn(async move {
        if let Err((peer, why)) = bootstrap.serve().await {
            (bootstrap.door.refused)(peer, &why);
        }
    });
}

/// A connection for packets.
struct Bootstrap {
    door: Door,
    socket: UnixStream,
    /// Whoever connected. It may have ended long since.
    owner: Peer,
    _slot: Slot,
}

/// A packet, and who sent it.
struct Asked {
    nonce: Nonce,
    peer: Peer,
    pidfd: OwnedFd,
}

impl Bootstrap {
    /// Answers packets until the last holder has closed the other end.
    ///
    /// # Errors
    /// A packet after which the connection is not to be trusted any more.
    async fn serve(&self) -> Result<(), (Peer, Refusal)> {
        loop {
            let received = tokio::select! {
                received = self.receive() => received,
                () = self.door.closed() => return Ok(()),
            };
            let Some((bytes, chunk, pidfd)) =
                received.map_err(|error| (self.owner, unverified(&error.to_string())))?
            else {
                return Ok(());
            };
            let asked = match self.asked(&bytes, &chunk, pidfd) {
                Ok(asked) => asked,
                // It has ended, and nobody waits for an answer.
                Err((_, Refusal::Gone)) => continue,
                Err(refused) => return Err(refused),
            };
            // Whoever asks too often waits, and with it who shares the connection.
            let wait = self.door.limits.next_bootstrap(self.owner.uid, std::time::Instant::now());
            if !wait.is_zero() {
                sleep(wait).await;
            }
            self.until_read().await;
            self.answer(asked).await;
        }
    }

    /// Waits until the holders have taken what they asked for before.
    async fn until_read(&self) {
        while unread_by_peer(self.socket.as_fd()) > UNREAD && on(Check::BootstrapUnread) {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.door.closed() => return,
            }
        }
    }

    /// One packet; `None`: the end.
    async fn receive(&self) -> io::Result<Option<(Vec<u8>, Chunk, Option<OwnedFd>)>> {
        // One byte more, so that what is too long is seen to be.
        let mut bytes = [0; ASKING + 1];
        loop {
            self.socket.readable().await?;
            let socket = &self.socket;
            let read =
                socket.try_io(Interest::READABLE, || receive_held(socket.as_fd(), &mut bytes));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The last holder is gone with answers unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
                Ok((chunk, _)) if chunk.len == 0 => return Ok(None),
                Ok((chunk, pidfd)) => {
                    return Ok(Some((bytes[..chunk.len].to_vec(), chunk, pidfd)));
                }
            }
        }
    }

    /// Who asks. What does not fit was not sent by a client of ours.
    fn asked(
        &self,
        bytes: &[u8],
        chunk: &Chunk,
        pidfd: Option<OwnedFd>,
    ) -> Result<Asked, (Peer, Refusal)> {
        let refuse = |peer, text: &str| Err((peer, unverified(text)));
        if chunk.foreign || chunk.truncated {
            return refuse(self.owner, "a packet came with descriptors or other control data");
        }
        let Some(sender) = chunk.sender.filter(|sender| sender.pid != 0) else {
            return refuse(self.owner, "a packet came without its sender's credentials");
        };
        // The group is no badge here: SCM_CREDENTIALS has the real one.
        let peer = Peer { pid: sender.pid, uid: sender.uid, gid: u32::MAX };
        if sender.uid != self.owner.uid && on(Check::BootstrapUid) {
            let text = format!(
                "a packet came from uid {}, but the descriptor was connected by uid {}",
                sender.uid, self.owner.uid
            );
            return refuse(peer, &text);
        }
        let nonce = bytes.strip_prefix(&MAGIC).and_then(|nonce| Nonce::try_from(nonce).ok());
        let Some(nonce) = nonce else {
            return refuse(peer, "a packet is none that asks for a socket");
        };
        // Without SCM_PIDFD (before Linux 6.5) whoever has the pid now is taken:
        // it is that one which must send every byte.
        let pidfd = pidfd.map_or_else(|| open_pidfd(peer.pid), Ok);
        let pidfd = pidfd.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ESRCH | Errno::EINVAL) => (peer, Refusal::Gone),
            _ => (peer, unverified(&format!("the sender cannot be held: {error}"))),
        })?;
        if has_ended(pidfd.as_fd()) {
            return Err((peer, Refusal::Gone));
        }
        Ok(Asked { nonce, peer, pidfd })
    }

    /// A socket for the sender, or why it gets none.
    async fn answer(&self, asked: Asked) {
        let Asked { nonce, peer, pidfd } = asked;
        let slot = match self.door.limits.take(peer.uid, Channel::Agent) {
            Ok(slot) => slot,
            Err(why) => return self.refuse(nonce, peer, &why),
        };
        let (ours, theirs) = match pair() {
            Ok(pair) => pair,
            Err(error) => {
                let why = Refusal::Limit(format!("no socket can be made: {error}"));
                return self.refuse(nonce, peer, &why);
            }
        };
        let deadline = Instant::now() + self.door.limits.challenge_timeout;
        let guest = Guest { stream: ours, peer, pidfd: Arc::new(pidfd), deadline };
        // Noted before it has the socket, so that it is this one which must speak.
        let image = match self.door.look(&guest).await {
            Ok(image) => image,
            Err(why) => return self.refuse(nonce, peer, &why),
        };
        match self.send(nonce, GIVEN, "", Some(&theirs)) {
            Ok(()) => self.door.hand_over(guest, Ok(image), slot).await,
            // Nobody reads the answers.
            Err(_) => self.door.forget(image),
        }
    }

    fn refuse(&self, nonce: Nonce, peer: Peer, why: &Refusal) {
        (self.door.refused)(peer, why);
        let status = if matches!(why, Refusal::Limit(_)) { LIMIT } else { REFUSED };
        let _ = self.send(nonce, status, &why.to_string(), None); // nobody reads
    }

    fn send(
        &self,
        nonce: Nonce,
        status: u8,
        reason: &str,
        socket: Option<&StdStream>,
    ) -> io::Result<()> {
        let mut text: Vec<u8> = [&MAGIC[..], &nonce, &[status], reason.as_bytes()].concat();
        text.truncate(ASKING + 1 + LONGEST_REASON);
        let fds: Vec<i32> = socket.iter().map(|socket| socket.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&text)], control, flags, None)?;
        Ok(())
    }
}

/// Ours, which names all senders, and the other end.
fn pair() -> io::Result<(UnixStream, StdStream)> {
    let (ours, theirs) = StdStream::pair()?;
    name_senders(&ours)?;
    refuse_descriptors(&ours)?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

fn unverified(text: &str) -> Refusal {
    Refusal::Unverified(format!("bootstrap: {text}"))
}
