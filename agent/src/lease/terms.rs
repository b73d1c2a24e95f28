//! What goes into the lease stage, and how it says no.

use crate::attestation::BoundProcess;
use crate::issuer::Capabilities;
use crate::log::HolderRecord;
use crate::names::{CredentialName, IssuerName, LeaseId, RequestId};
use crate::policy::{Delivery, Limits, RequesterKey};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

/// What a permit says, as far as the lease keeps it.
#[derive(Clone)]
pub struct Terms {
    /// What for.
    pub credential: CredentialName,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// Limits of policy.
    pub limits: Limits,
    /// To whom it belongs.
    pub requester: RequesterKey,
    /// The same, for the log.
    pub holder: HolderRecord,
    /// The policies that permitted it.
    pub policies: Vec<String>,
}

/// A lease that is to be granted.
pub struct Grant {
    /// Its name, chosen before anything is minted.
    pub id: LeaseId,
    /// The request that it is for.
    pub request: RequestId,
    /// What the permit says.
    pub terms: Terms,
    /// Its issuer's name in configuration.
    pub issuer: IssuerName,
    /// What its issuer can do.
    pub capabilities: Capabilities,
    /// How long; clamped to the permit's and the issuer's maximum, with a warning.
    pub ttl: Duration,
    /// What ends it besides time.
    pub binding: Bound,
    /// How it is delivered first.
    pub delivery: Delivery,
    /// The holder's note.
    pub note: String,
    /// What [`Engine::rotations`](super::Engine::rotations) said before the secret
    /// was opened.
    pub rotations: u64,
}

/// What a lease is bound to.
pub enum Bound {
    /// A process: it ends the lease when it ends.
    Process(BoundProcess),
    /// A connection.
    Connection {
        /// [`Connection::id`](crate::connection::Connection::id).
        id: u64,
        /// Resolves when it has closed.
        closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    },
    /// Time alone.
    None,
}

/// Names a binding, to tell whether a lease fits another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindingKey {
    /// A process by pid and start time.
    Process {
        /// Its pid.
        pid: u32,
        /// Clock ticks since boot.
        start_time: u64,
    },
    /// A connection by its number.
    Connection(u64),
    /// Time alone.
    None,
}

impl Bound {
    /// Its name.
    #[must_use]
    pub fn key(&self) -> BindingKey {
        match self {
            Self::Process(process) => BindingKey::Process {
                pid: process.identity.pid,
                start_time: process.identity.start_time,
            },
            Self::Connection { id, .. } => BindingKey::Connection(*id),
            Self::None => BindingKey::None,
        }
    }
}

/// Which leases are listed. Everything that is set must match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of any of these requesters; `None`: everybody's.
    pub keys: Option<Vec<RequesterKey>>,
    /// Only IDs that begin with it.
    pub prefix: String,
    /// Ended ones that are still remembered, too.
    pub ended: bool,
}

/// Which leases are revoked. Everything that is set must match; a selector of
/// which nothing is set selects nothing unless `all` is.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Lease IDs that begin with this; a whole ID names one, `db/` a subtree.
    pub prefix: String,
    /// Leases on exactly this credential.
    pub credential: Option<CredentialName>,
    /// Holders whose executable has this SHA-256, lower-case hex.
    pub digest: Option<String>,
    /// Holders of this uid.
    pub uid: Option<u32>,
    /// Holders in this systemd unit.
    pub unit: Option<String>,
    /// Holders in this container.
    pub container: Option<String>,
    /// Every lease.
    pub all: bool,
}

/// Why the lease stage refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease, or it is another's: the two are not told apart.
    #[error("there is no such lease")]
    NotFound,
    /// A limit is reached; the text names it. The requester's fault, or the operator's.
    #[error("{0}")]
    Limit(String),
    /// The agent is locked.
    #[error("the agent is locked")]
    Locked,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// The log cannot be written, so nothing is issued or lengthened.
    #[error("{0}")]
    Journal(#[from] super::JournalError),
    /// What the lease was to be bound to has ended: the secret is withheld.
    #[error("the {0} that the lease was to be bound to has ended")]
    HolderGone(&'static str),
    /// The lease ended meanwhile.
    #[error("the lease has ended")]
    Ended,
    /// Its uses are spent.
    #[error("all uses of the lease are spent")]
    UsesSpent,
    /// Nothing is held of its secret (`hold none`).
    #[error("the secret is not kept after delivery; ask for a new lease")]
    NotHeld,
    /// The secret is not in memory (the agent was started anew): open it at the
    /// issuer again, [`attach`](super::Engine::attach) it, and ask once more.
    #[error("the secret is not in memory")]
    NeedsReopen,
    /// It cannot be lengthened.
    #[error("a lease on {0} cannot be renewed; ask for a new one")]
    NotRenewable(CredentialName),
    /// A TTL or increment of nothing.
    #[error("the time asked for is zero")]
    Zero,
    /// The backend did not renew.
    #[error("the issuer did not renew: {0}")]
    Issuer(String),
    /// A bug or a broken kernel promise.
    #[error("{0}")]
    Internal(String),
}
