//! Stage 5: what mints, renews and revokes. One trait, one file or folder for
//! each issuer.

mod catalogue;
#[cfg(test)]
pub(crate) mod fakes;
mod jwt;
mod sealing;
mod store;

pub use catalogue::{Catalogue, Entry};
pub use jwt::{JwtIssuer, KeyRings, KeySet, PublishedKey, Rotation};
pub use sealing::{AtRest, Sealing, SealingError};
pub use store::{SecretSource, SourceError, StoreIssuer};

use crate::attestation::Attestation;
use crate::clock::Moment;
use crate::memory::{Secret, SecretBuf};
use crate::names::{CredentialName, LeaseId};
use crate::policy::{Permit, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Whether a credential was minted for its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A stored secret, the same for every lease.
    Static,
    /// Minted for the lease.
    Dynamic,
}

/// What an issuer can do before a credential expires by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyRevocation {
    /// Ends this credential and no other.
    Exact,
    /// Ends it together with others.
    Coarse,
    /// Cannot end it.
    None,
}

/// How what a crash left behind is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanCleanup {
    /// Nothing is minted at a backend, so nothing can be left there.
    NotNeeded,
    /// The agent chose the name before minting.
    Named,
    /// The backend lists what carries the agent's mark.
    Listable,
    /// Only the backend's own expiry ends it.
    Bounded,
}

/// What an issuer can do, said before it does anything.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// `store`, `jwt`, …
    pub kind: &'static str,
    /// Static or dynamic.
    pub class: Class,
    /// Early revocation.
    pub revocation: EarlyRevocation,
    /// Orphan clean-up.
    pub cleanup: OrphanCleanup,
    /// Whether a lease on it can be lengthened.
    pub renewable: bool,
    /// Shortest TTL that it can issue.
    pub min_ttl: Duration,
    /// Longest TTL that it can issue; `None`: any.
    pub max_ttl: Option<Duration>,
}

/// What is to be issued.
pub struct Order<'a> {
    /// Policy allowed it.
    pub permit: &'a Permit,
    /// The lease that it is for: chosen before minting.
    pub lease: &'a LeaseId,
    /// Who asks.
    pub attestation: &'a Attestation,
    /// What the caller says it will become.
    pub target: Option<&'a Target>,
    /// How long, within the permit and the capabilities.
    pub ttl: Duration,
    /// Now.
    pub now: Moment,
}

/// What was issued. Output of this stage.
pub struct Issued {
    /// The material.
    pub secret: Secret,
    /// The same, shielded, where the issuer shares it among the leases on one
    /// stored secret; `None`: the lease stage seals a copy of its own.
    pub at_rest: Option<Arc<dyn AtRest>>,
    /// What revocation needs.
    pub handle: RevocationHandle,
    /// How long the backend lets it live; `None`: as long as the lease.
    pub backend_ttl: Option<Duration>,
}

/// What revocation needs, kept with the lease and in the log.
pub struct RevocationHandle {
    /// Not secret: a role name, a backend's lease ID.
    pub public: BTreeMap<String, String>,
    /// Secret: goes into the log sealed only.
    pub sealed: Option<SecretBuf>,
}

/// Why an issuer failed, and whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The store or the agent is locked.
    #[error("the secret store is locked")]
    Locked,
    /// The credential is defined, but there is no secret.
    #[error("no secret is stored for {0}")]
    Missing(CredentialName),
    /// What is stored is cut short, tampered with or under another identity.
    #[error("the stored secret of {0} cannot be used: {1}")]
    Damaged(CredentialName, String),
    /// The backend did not answer or refused for now.
    #[error("the backend is not available: {0}")]
    Unavailable(String),
    /// Refused for good.
    #[error("the backend refused: {0}")]
    Refused(String),
    /// Guarded memory or another limit is exhausted.
    #[error("{0}")]
    Limit(String),
    /// A scope key's value is not one of those that are allowed; the requester's.
    #[error("scope: {0}: {1}")]
    Scope(&'static str, String),
    /// A fact that is to be said of the requester is absent or could not be read.
    #[error("{0}")]
    Fact(String),
    /// The signing keys of that issuer are missing, cut short or tampered with.
    #[error("the signing keys of the issuer {0} cannot be used: {1}")]
    Keys(String, String),
}

/// Boxed future of an [`Issuer`].
pub type IssuerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, IssuerError>> + Send + 'a>>;

/// Mints, renews and revokes credentials of one kind.
pub trait Issuer: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// The scope keys that it takes for that credential.
    fn scope_keys(&self, _: &CredentialName) -> Vec<String> {
        Vec::new()
    }
    /// Whether what was minted for a lease that lives is still what `order`
    /// (which names that lease) would mint; asked before the lease is handed out
    /// again. `held` is the public part of its revocation handle.
    fn fits(&self, _order: &Order<'_>, _held: &BTreeMap<String, String>) -> bool {
        true
    }
    /// Issues. Locally minted credentials do no I/O that outlives the call.
    fn issue<'a>(&'a self, order: Order<'a>) -> IssuerFuture<'a, Issued>;
    /// Opens the same secret again for a lease that lives: only for issuers of
    /// class static; others answer [`IssuerError::Refused`].
    fn reopen<'a>(&'a self, credential: &'a CredentialName) -> IssuerFuture<'a, Secret>;
    /// Lengthens what was issued to `ttl` from now. Returns what the backend granted.
    fn renew<'a>(
        &'a self,
        handle: &'a RevocationHandle,
        ttl: Duration,
    ) -> IssuerFuture<'a, Duration>;
    /// Ends what was issued. Ending what has ended is no error.
    fn revoke<'a>(&'a self, handle: &'a RevocationHandle) -> IssuerFuture<'a, ()>;
}
