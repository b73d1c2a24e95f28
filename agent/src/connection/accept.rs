//! The accept loop: sockets become sessions, beside each other, so that one
//! slow peer or attestor holds up nobody else.

use super::limits::{AcceptLimits, Slot};
use super::state::State;
use super::{
    Channel, Connection, ImageId, Peer, Refusal, Refused, Session, Witness, bootstrap, peer,
};
use crate::process::peer::{hung_up, name_senders, names_senders};
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

/// Sessions that wait for the server to take them.
const READY: usize = 64;
/// Connections that are accepted before others have a turn: a queue that is full
/// must be emptied faster than one uid can fill it, since whoever comes to a full
/// one waits, or is refused by the kernel.
const BATCH: usize = 128;
/// How long accepting rests when the kernel has no descriptor or no memory for it.
const PAUSE: Duration = Duration::from_millis(50);

/// Numbers connections of both sockets.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Accepts on `listener` for as long as the stream lives, for tonic's
/// `serve_with_incoming`. An item is an error only when the listener cannot be
/// used at all. To be called inside tokio.
///
/// Each refused peer is told to `refused`, once. A peer over the limits is
/// accepted for one answer, which [`Connection::answered`] turns into its
/// refusal; too many of those are just closed.
///
/// `bootstrap` listens for packets by which programs that may make no socket
/// themselves ask for one; these sockets come out of the same stream.
pub fn accept_loop(
    listener: StdListener,
    bootstrap: Option<StdListener>,
    channel: Channel,
    witness: Arc<dyn Witness>,
    limits: Arc<AcceptLimits>,
    refused: Refused,
) -> impl Stream<Item = io::Result<Session>> + Send + 'static {
    let (sessions, stream) = mpsc::channel(READY);
    let door = Door { channel, witness, limits, refused, sessions, bootstrapped: false };
    if let Some(listener) = bootstrap {
        let door = Door { bootstrapped: true, ..door.clone() };
        tokio::spawn(async move {
            if let Err(error) = bootstrap::run(&door, listener).await {
                tracing::error!(%error, "the bootstrap socket is closed");
            }
        });
    }
    tokio::spawn(async move {
        if let Err(error) = door.run(listener).await {
            let _ = door.sessions.send(Err(error)).await;
        }
    });
    ReceiverStream::new(stream)
}

#[derive(Clone)]
pub(super) struct Door {
    channel: Channel,
    witness: Arc<dyn Witness>,
    pub(super) limits: Arc<AcceptLimits>,
    pub(super) refused: Refused,
    sessions: mpsc::Sender<io::Result<Session>>,
    /// Its guests have asked for their socket by a packet.
    bootstrapped: bool,
}

impl Door {
    async fn run(&self, listener: StdListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let mut spare = Spare::new(listener.try_clone()?);
        let more = listener.try_clone()?;
        let listener = UnixListener::from_std(listener)?;
        loop {
            let mut accepted = tokio::select! {
                accepted = listener.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
                () = self.sessions.closed() => return Ok(()),
            };
            for left in (0..BATCH).rev() {
                match accepted {
                    Ok(stream) => self.greet(stream),
                    Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::EAGAIN) => break,
                        Some(Errno::EMFILE | Errno::ENFILE) => {
                            spare.turn_away(&self.refused);
                            sleep(PAUSE).await;
                            break;
                        }
                        Some(Errno::ENOMEM | Errno::ENOBUFS) => {
                            sleep(PAUSE).await;
                            break;
                        }
                        Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPERM) => {}
                        _ => return Err(error),
                    },
                }
                if left == 0 {
                    break;
                }
                // Without the runtime's part in it, which costs more than the rest.
                accepted = more.accept().map(|(stream, _)| stream);
            }
            self.limits.forget_rested();
            tokio::task::yield_now().await;
        }
    }

    /// What needs no waiting; the rest in a task of its own, which the limits bound.
    fn greet(&self, stream: StdStream) {
        let nobody = Peer { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let peer = match peer::name(&stream) {
            Ok(peer) => peer,
            Err(refusal) => return (self.refused)(nobody, &refusal),
        };
        let limits = &self.limits;
        let admitted = limits.admits(peer.uid, self.channel);
        let slot = admitted.and_then(|()| limits.take(peer.uid, self.channel));
        if let Err(refusal) = &slot
            && (hung_up(stream.as_fd()) || !limits.may_be_told(peer.uid))
        {
            return (self.refused)(peer, refusal);
        }
        let guest = match self.hold(stream, peer) {
            Ok(guest) => guest,
            Err(refusal) => return (self.refused)(peer, &refusal),
        };
        // It asked nothing, and an answer would reach nobody.
        if hung_up(guest.stream.as_fd()) {
            return;
        }
        match slot {
            Ok(slot) => {
                let door = self.clone();
                tokio::spawn(async move { door.admit(guest, slot).await });
            }
            Err(refusal) => {
                if let Some(session) = self.turn_down(guest, refusal) {
                    // Where the server is behind, this one is closed instead.
                    let _ = self.sessions.try_send(Ok(session));
                }
            }
        }
    }

    /// Resolves when nobody takes sessions any more.
    pub(super) async fn closed(&self) {
        self.sessions.closed().await;
    }

    fn hold(&self, stream: StdStream, peer: Peer) -> Result<Guest, Refusal> {
        let deadline = Instant::now() + self.limits.challenge_timeout;
        let pidfd = Arc::new(peer::hold(&stream, peer)?);
        watch_senders(&stream)?;
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let stream = stream
            .map_err(|error| Refusal::Unverified(format!("the socket cannot be used: {error}")))?;
        Ok(Guest { stream, peer, pidfd, deadline })
    }

    /// Has the witness look at the peer, and hands the session over.
    async fn admit(&self, guest: Guest, slot: Slot) {
        let image = self.look(&guest).await;
        self.hand_over(guest, image, slot).await;
    }

    /// Notes the peer's image.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) async fn look(&self, guest: &Guest) -> Result<ImageId, Refusal> {
        let image = timeout_at(guest.deadline, async {
            self.witness.open(guest.peer, guest.pidfd.as_fd()).await
        });
        image.await.unwrap_or(Err(Refusal::NoAttestor))
    }

    /// The image is not wanted after all.
    pub(super) fn forget(&self, image: ImageId) {
        self.witness.forget(image);
    }

    pub(super) async fn hand_over(
        &self,
        guest: Guest,
        image: Result<ImageId, Refusal>,
        slot: Slot,
    ) {
        let session = match image {
            Ok(image) => self.session(guest, Ok(image), slot),
            Err(refusal) => {
                drop(slot);
                self.turn_down(guest, refusal)
            }
        };
        if let Some(session) = session {
            // The server is gone if this fails, and so is the session.
            let _ = self.sessions.send(Ok(session)).await;
        }
    }

    /// A session that only says why it is refused; `None`: closed without a word.
    fn turn_down(&self, mut guest: Guest, refusal: Refusal) -> Option<Session> {
        if matches!(refusal, Refusal::NoPid | Refusal::Gone) {
            (self.refused)(guest.peer, &refusal);
            return None;
        }
        let Some(slot) = self.limits.take_reserve(guest.peer.uid) else {
            (self.refused)(guest.peer, &refusal);
            return None;
        };
        // Time anew: the attestor may have used it all up.
        guest.deadline = Instant::now() + self.limits.challenge_timeout;
        self.session(guest, Err(refusal), slot)
    }

    fn session(
        &self,
        guest: Guest,
        image: Result<ImageId, Refusal>,
        slot: Slot,
    ) -> Option<Session> {
        let Guest { stream, peer, pidfd, deadline } = guest;
        let state = State::new(peer, deadline, Arc::clone(&self.refused));
        let (image, witness) = match image {
            Ok(image) => (image, Some(Arc::clone(&self.witness))),
            Err(refusal) => {
                state.refuse(refusal);
                (ImageId(0), None)
            }
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(state);
        let connection = Connection {
            id,
            channel: self.channel,
            bootstrapped: self.bootstrapped,
            peer,
            pidfd,
            image,
            session,
            witness,
        };
        let timeout = self.limits.write_timeout;
        let made = Session::new(stream, Arc::new(connection), deadline, timeout, slot);
        made.inspect_err(|error| {
            let text = format!("the challenge cannot be made: {error}");
            (self.refused)(peer, &Refusal::Unverified(text));
        })
        .ok()
    }
}

/// An accepted socket that is not a session yet.
pub(super) struct Guest {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) deadline: Instant,
}

/// Sees to it that senders are named. The socket inherits that at connect, so
/// one that connected to an inherited listener before it was set lacks it.
fn watch_senders(stream: &StdStream) -> Result<(), Refusal> {
    let set = match names_senders(stream) {
        Ok(true) => Ok(()),
        Ok(false) => name_senders(stream),
        Err(error) => Err(error),
    };
    set.map_err(|error| Refusal::Unverified(format!("the kernel names no senders: {error}")))
}

/// A descriptor kept back, so that a peer can be turned away when there is no
/// other: it would wait in the backlog for ever otherwise, and wake the loop.
struct Spare {
    listener: StdListener,
    kept: Option<File>,
}

impl Spare {
    fn new(listener: StdListener) -> Self {
        Self { listener, kept: keep() }
    }

    fn turn_away(&mut self, refused: &Refused) {
        self.kept = None;
        if let Ok((stream, _)) = self.listener.accept() {
            let refusal = peer::out_of_descriptors();
            if let Ok(peer) = peer::name(&stream) {
                refused(peer, &refusal);
            }
        }
        self.kept = keep();
    }
}

fn keep() -> Option<File> {
    File::open("/dev/null").ok()
}
