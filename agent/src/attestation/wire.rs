//! Messages between broker and attestor: postcard, one to a datagram.

use super::{Anchor, Assurance, AttestError, ProcessFacts, ProcessIdentity, TargetView, Via};
use serde::{Deserialize, Serialize};

/// Broker to attestor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Comes back in the reply.
    pub(super) id: u64,
    pub(super) op: Op,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Op {
    /// With the peer's pidfd.
    Open {
        pid: u32,
        uid: u32,
        gid: u32,
    },
    /// Has no reply.
    Forget {
        image: u64,
    },
    /// `serial`: of the facts that the broker has from the last time; 0: nothing.
    /// `bind`: resolve [`Anchor::Requester`] in the same turn.
    Attest {
        image: u64,
        serial: u64,
        bind: bool,
    },
    /// Each with what it had reached.
    Recheck {
        caller: (u64, Reached),
        requester: (u64, Reached),
    },
    Resolve {
        image: u64,
        anchor: Anchor,
    },
    /// What a client says that it will become: path, and device and inode.
    Target {
        image: u64,
        path: String,
        file: Option<(u64, u64)>,
    },
    Find {
        identity: ProcessIdentity,
    },
    /// Configuration is read again, by the attestor itself.
    Reload,
    Ping,
}

/// The levels that an attestation gave a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    pub(super) assurance: Assurance,
    pub(super) with_jit: Assurance,
}

impl Reached {
    /// None that could be lost: the process alone is asked for.
    pub(super) const NOTHING: Self = Self { assurance: Assurance::Uid, with_jit: Assurance::Uid };

    /// The lower of each.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            assurance: self.assurance.min(other.assurance),
            with_jit: self.with_jit.min(other.with_jit),
        }
    }

    pub(super) fn of(facts: &ProcessFacts) -> Self {
        Self { assurance: facts.assurance, with_jit: facts.assurance_with_jit }
    }
}

/// Attestor to broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) id: u64,
    pub(super) body: Body,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    Opened(Result<u64, Refused>),
    /// With the pidfd of `bound`, where it is Some.
    Attested(Result<Attested, AttestError>),
    Rechecked(Result<(), AttestError>),
    /// With a pidfd, where it is Ok.
    Resolved(Result<ProcessIdentity, AttestError>),
    Target(Result<TargetView, AttestError>),
    /// With a pidfd, where it is Some.
    Found(Option<ProcessIdentity>),
    Reloaded(Result<(), String>),
    Pong,
}

/// Why a peer is not held.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refused {
    NoPid,
    Gone,
    Unverified(String),
    Limit(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attested {
    /// Names the facts: the same serial, the same facts.
    pub(super) serial: u64,
    pub(super) requester: u64,
    /// `None`: as the broker has them.
    pub(super) facts: Option<Box<Facts>>,
    /// What [`Anchor::Requester`] means; `None`: not asked for, or none was
    /// found, and asking for it alone says why.
    pub(super) bound: Option<ProcessIdentity>,
}

/// What an attestation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) caller: ProcessFacts,
    /// `None`: the caller.
    pub(super) requester: Option<ProcessFacts>,
    pub(super) ancestry: Vec<ProcessFacts>,
    pub(super) via: Via,
    pub(super) assurance: Assurance,
    pub(super) assurance_with_jit: Assurance,
    pub(super) advisory: Vec<String>,
}
