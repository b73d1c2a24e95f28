//! Stage 1: bytes on a socket become a [`Connection`]: a peer that the kernel
//! names, whose every chunk is its own, and which has answered the challenge.
//!
//! This stage knows nothing of /proc: what must be read there at accept is
//! asked of a [`Witness`], which the attestation stage provides.

mod accept;
mod bootstrap;
mod challenge;
mod framing;
mod limits;
mod listener;
mod peer;
mod session;
mod state;
#[cfg(test)]
mod tests;

pub use accept::accept_loop;
pub use limits::AcceptLimits;
pub use listener::{
    BindError, BoundSocket, SocketFile, bind, bind_packets, inherited, inherited_packets,
};
pub use session::Session;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;

/// Which socket a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The agent socket.
    Agent,
    /// The admin socket.
    Admin,
}

/// `SO_PEERCRED` at accept (unix(7)): who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// In the agent's pid namespace; never 0.
    pub pid: u32,
    /// Effective uid at connect.
    pub uid: u32,
    /// Effective gid at connect.
    pub gid: u32,
}

/// Names a process image that the attestor holds for as long as the
/// connection (or lease) that opened it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub u64);

/// Why a peer is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer's pid is not visible here.
    #[error("the peer has no pid in the agent's pid namespace")]
    NoPid,
    /// The peer ended before it could be looked at.
    #[error("the peer ended before it was verified")]
    Gone,
    /// Something about it cannot be true, or was not proved.
    #[error("{0}")]
    Unverified(String),
    /// A limit is reached; the text names it.
    #[error("{0}")]
    Limit(String),
    /// The attestor does not answer.
    #[error("the attestor does not answer")]
    NoAttestor,
}

/// Boxed future of a [`Witness`].
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// Told of each peer that is refused, once, for the log. `Peer::pid` is 0 for
/// one that has no pid here.
pub type Refused = Arc<dyn Fn(Peer, &Refusal) + Send + Sync>;

/// What the connection stage asks about a peer at accept.
pub trait Witness: Send + Sync + 'static {
    /// Notes the exec generation of the process behind `pidfd` and holds its
    /// /proc files. Called once for each accepted socket, before the first byte
    /// is handed on.
    fn open<'a>(&'a self, peer: Peer, pidfd: BorrowedFd<'a>) -> Answer<'a, ImageId>;
    /// The connection is over; the image may be dropped.
    fn forget(&self, image: ImageId);
}

/// A peer that may be served.
///
/// Dropping the last reference closes the image at the witness.
pub struct Connection {
    /// A number of its own, never reused.
    pub id: u64,
    /// Which socket it came in on.
    pub channel: Channel,
    /// Its socket was asked for by a packet on an inherited descriptor, and is
    /// not one that the peer has connected.
    pub bootstrapped: bool,
    /// Who connected.
    pub peer: Peer,
    /// That process; readable when it has ended.
    pub pidfd: Arc<OwnedFd>,
    /// Its image at accept, held by the attestor; without meaning where
    /// [`Connection::answered`] refuses.
    pub image: ImageId,
    session: Arc<state::State>,
    /// `None` where no image was opened: the connection was refused before.
    witness: Option<Arc<dyn Witness>>,
}

impl Connection {
    /// Waits until the peer has answered the challenge in its own bytes. To be
    /// asked before anything is served, and again before a secret is delivered:
    /// a connection can be refused at any time.
    ///
    /// # Errors
    /// The connection was refused, or no answer came in time.
    pub async fn answered(&self) -> Result<(), Refusal> {
        self.session.answered().await
    }

    /// Refuses everything that comes later, and closes once what is being
    /// written has been written. Used after a call whose bytes held a secret.
    pub fn close_soon(&self) {
        self.session.close_soon();
    }

    /// Whether the process that connected has ended (a zombie has).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        crate::process::peer::has_ended(self.pidfd.as_fd())
    }

    /// Resolves when the connection has closed.
    pub async fn closed(&self) {
        self.session.closed().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(witness) = &self.witness {
            witness.forget(self.image);
        }
    }
}
