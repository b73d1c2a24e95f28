//! What a protocol may ask of the agent, in plain types.

use super::{BackupPiece, Exported, Failure, Importing, Returned, Rotated, SecretRotation};
use crate::attestation::{Anchor, Attestation};
use crate::clock::WallTime;
use crate::connection::Connection;
use crate::issuer::{Class, EarlyRevocation, KeySet, Rotation};
use crate::lease::{LeaseView, Selector, Watcher};
use crate::memory::Secret;
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{BindingKind, Delivery, Limits, Step, Supposed, Target};
use crate::store::{RestoreHow, StoredInfo};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A request for a credential, well formed.
pub struct Ask {
    /// Which.
    pub credential: CredentialName,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// How long; `None`: the default.
    pub ttl: Option<Duration>,
    /// What ends it besides time; `None`: what policy demands, else the requester.
    pub binding: Option<BindingAsk>,
    /// How the secret will reach the program.
    pub delivery: Delivery,
    /// A lease of its own.
    pub new_lease: bool,
    /// What the caller will become.
    pub target: Option<Target>,
    /// Only these fields; empty: all.
    pub fields: Vec<String>,
    /// Why, for the log.
    pub note: String,
}

/// The binding that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingAsk {
    /// A process.
    Process(Anchor),
    /// The connection.
    Connection,
    /// Nothing but time.
    None,
}

/// A lease and what it is for, on its way out.
pub struct Delivered {
    /// The lease.
    pub lease: LeaseView,
    /// The material.
    pub secret: Secret,
    /// Names the decision.
    pub request: RequestId,
    /// The same requester held it already.
    pub reused: bool,
}

/// What a credential is, as far as the asker may know.
pub struct CredentialInfo {
    /// Its name.
    pub name: CredentialName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// The issuer's kind.
    pub issuer: String,
    /// Static or dynamic.
    pub class: Class,
    /// What can be done before expiry.
    pub revocation: EarlyRevocation,
    /// Longest TTL.
    pub max_ttl: Duration,
    /// TTL where none is asked for.
    pub default_ttl: Duration,
    /// Scope keys that its issuer takes.
    pub scope_keys: Vec<String>,
}

/// Which leases to list or watch.
#[derive(Clone, Debug, Default)]
pub struct LeaseFilter {
    /// Everybody's; admin socket only.
    pub all: bool,
    /// Only IDs that begin with this.
    pub prefix: String,
    /// Ended ones that are remembered, too.
    pub ended: bool,
}

/// A secret to store.
pub struct NewSecret {
    /// The credential's name.
    pub name: CredentialName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Replace one that exists.
    pub replace: bool,
    /// The material.
    pub secret: Secret,
}

/// How a request was decided, or would be.
#[derive(Clone)]
pub struct Explained {
    /// The request; empty: nobody made it.
    pub request: RequestId,
    /// When.
    pub at: WallTime,
    /// `request`, `renew`, …
    pub action: String,
    /// The credential.
    pub credential: String,
    /// It was permitted.
    pub permitted: bool,
    /// The whole reason.
    pub reason: String,
    /// Who asked.
    pub attestation: Arc<Attestation>,
    /// Policy by policy.
    pub steps: Vec<Step>,
    /// The limits that held.
    pub limits: Option<Limits>,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// How it was to be delivered.
    pub delivery: Delivery,
    /// What it was to be bound to.
    pub binding: Option<BindingKind>,
    /// What the caller was to become.
    pub target: Option<Target>,
}

/// What is in force after a reload.
pub struct Reloaded {
    /// Policies.
    pub policies: usize,
    /// Credentials.
    pub credentials: usize,
    /// What to know.
    pub warnings: Vec<String>,
}

/// How the agent is.
pub struct StatusReport {
    /// The broker's pid.
    pub pid: u32,
    /// The attestor's.
    pub attestor_pid: u32,
    /// The launcher's.
    pub launcher_pid: u32,
    /// When it started.
    pub started: WallTime,
    /// Why it is locked; `None`: it is not.
    pub locked: Option<String>,
    /// What that means, and what opens it.
    pub lock: LockReport,
    /// Why it is advisory; empty: it is not.
    pub advisory: Vec<String>,
    /// `host` or `user`.
    pub mode: &'static str,
    /// Live leases.
    pub leases_active: usize,
    /// Leases whose revocation was refused.
    pub leases_stuck: usize,
    /// Policies in force.
    pub policies: usize,
    /// Credentials defined.
    pub credentials: usize,
    /// Records in the log.
    pub log_records: u64,
    /// Tree head over them, hex.
    pub log_head: String,
    /// Why the log cannot be written; `None`: it can.
    pub log_fault: Option<String>,
    /// Name, used, limit.
    pub limits: Vec<(&'static str, u64, u64)>,
    /// The agent socket.
    pub socket: String,
    /// `memfd_secret` or `mlock`.
    pub guarded_memory: &'static str,
    /// What an operator should know.
    pub notices: Vec<String>,
    /// Where policies are read from.
    pub policy_dir: String,
    /// Where the log is.
    pub log_dir: String,
    /// Every place on disk that the agent uses: what it is, and its path.
    pub places: Vec<(&'static str, String)>,
    /// What the broker may use, and uses.
    pub resources: Resources,
    /// `key file` or `encrypted`.
    pub identity_kind: &'static str,
}

/// What the broker may use, and uses; `u64::MAX`: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// RLIMIT_MEMLOCK, in bytes.
    pub memlock: u64,
    /// RLIMIT_NOFILE.
    pub descriptors: u64,
    /// Descriptors that are kept free of connections and bound processes.
    pub descriptors_kept: u64,
    /// Guarded memory that is mapped, in bytes.
    pub guarded_mapped: u64,
    /// Of that, pages that hold something, in bytes.
    pub guarded_used: u64,
}

/// What the lock means now.
pub struct LockReport {
    /// Since when; `None`: it is not locked.
    pub since: Option<WallTime>,
    /// The kind of the store's identity, in words.
    pub identity: String,
    /// `passphrase`, `nothing`, `plugin` or `systemd`.
    pub unlock_with: &'static str,
    /// When it locks by itself, if nothing is used until then.
    pub auto_lock_at: Option<WallTime>,
    /// What is refused.
    pub stopped: Vec<&'static str>,
    /// What goes on.
    pub working: Vec<&'static str>,
}

/// What a protocol may ask. Every call attests the connection's peer anew and
/// asks policy (but for public keys); the admin calls are refused on other sockets.
#[tonic::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Who the agent thinks is asking.
    async fn who_am_i(&self, on: &Connection) -> Result<Attestation, Failure>;
    /// The credentials that the requester may list.
    async fn credentials(
        &self,
        on: &Connection,
        prefix: &str,
    ) -> Result<Vec<CredentialInfo>, Failure>;
    /// A lease with its secret.
    async fn request(&self, on: &Arc<Connection>, ask: Ask) -> Result<Delivered, Failure>;
    /// More time; `None`: the TTL that it was granted with.
    async fn renew(
        &self,
        on: &Connection,
        lease: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<(LeaseView, Vec<String>), Failure>;
    /// The end of one's own lease.
    async fn release(&self, on: &Connection, lease: &LeaseId) -> Result<LeaseView, Failure>;
    /// One lease.
    async fn lease(&self, on: &Connection, lease: &LeaseId) -> Result<LeaseView, Failure>;
    /// Leases.
    async fn leases(
        &self,
        on: &Connection,
        filter: &LeaseFilter,
    ) -> Result<Vec<LeaseView>, Failure>;
    /// Leases as they are, and their changes; the subscription is older than
    /// the list, so that none is missed.
    async fn watch(&self, on: &Connection, filter: &LeaseFilter) -> Result<Watch, Failure>;

    /// Stores a secret. Returns what was stored, and whether it replaced another.
    async fn put_secret(
        &self,
        on: &Connection,
        new: NewSecret,
    ) -> Result<(StoredInfo, bool), Failure>;
    /// New values for a stored secret.
    async fn rotate(&self, on: &Connection, order: SecretRotation) -> Result<Rotated, Failure>;
    /// Stores secrets as they come, and answers each.
    async fn import(&self, on: &Connection, importing: Importing) -> Result<(), Failure>;
    /// The age files of those secrets (`None`: of all).
    async fn export(
        &self,
        on: &Connection,
        names: Option<Vec<CredentialName>>,
    ) -> Result<mpsc::Receiver<Exported>, Failure>;
    /// The whole store as an archive.
    async fn backup(
        &self,
        on: &Connection,
    ) -> Result<mpsc::Receiver<Result<BackupPiece, Failure>>, Failure>;
    /// A store from an archive; an empty piece is its end.
    async fn restore(
        &self,
        on: &Connection,
        how: RestoreHow,
        pieces: mpsc::Receiver<Vec<u8>>,
    ) -> Result<Returned, Failure>;
    /// Removes a secret and ends its leases; returns how many.
    async fn remove_secret(&self, on: &Connection, name: &CredentialName)
    -> Result<usize, Failure>;
    /// The stored secrets.
    async fn secrets(&self, on: &Connection, prefix: &str) -> Result<Vec<StoredInfo>, Failure>;
    /// Ends leases.
    async fn revoke(
        &self,
        on: &Connection,
        which: &Selector,
        note: &str,
    ) -> Result<Vec<LeaseView>, Failure>;
    /// How a request was decided.
    async fn explain(&self, on: &Connection, request: &RequestId) -> Result<Explained, Failure>;
    /// The public keys of one issuer of tokens, or of all: for everybody who may
    /// connect, so nobody is attested.
    async fn key_sets(&self, issuer: Option<&str>) -> Result<Vec<KeySet>, Failure>;
    /// Brings the next signing key of an issuer into use.
    async fn rotate_keys(
        &self,
        on: &Connection,
        issuer: &str,
        how: Rotation,
    ) -> Result<KeySet, Failure>;
    /// How a request that nobody makes would be decided.
    async fn suppose(
        &self,
        on: &Connection,
        name: &CredentialName,
        supposed: Supposed,
    ) -> Result<Explained, Failure>;
    /// Stops issue, renewal and reads. With a passphrase, only that one undoes it.
    async fn lock(
        &self,
        on: &Connection,
        passphrase: crate::memory::SecretBuf,
    ) -> Result<(), Failure>;
    /// Undoes it.
    async fn unlock(
        &self,
        on: &Connection,
        passphrase: crate::memory::SecretBuf,
    ) -> Result<(), Failure>;
    /// Reads configuration and policy again.
    async fn reload(&self, on: &Connection) -> Result<Reloaded, Failure>;
    /// How the agent is.
    async fn status(&self, on: &Connection) -> Result<StatusReport, Failure>;
}

/// A watch on leases.
pub struct Watch {
    /// As they are.
    pub present: Vec<LeaseView>,
    /// Their changes, everybody's.
    pub changes: Watcher,
    /// Which of them the watcher may see.
    pub may_see: Box<dyn Fn(&LeaseView) -> bool + Send + Sync>,
    /// Whether the watcher is who it was when the watch began; to be asked
    /// before each change is told.
    pub still: Box<dyn Fn() -> Checked + Send + Sync>,
}

/// What [`Watch::still`] answers.
pub type Checked = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
