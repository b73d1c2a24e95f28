//! Stage 3: may this requester have this credential in this scope? Pure: no
//! clock, no I/O, no async. Cedar decides; limits are annotations on permits.

use crate::attestation::{Assurance, Attestation};
use crate::clock::Moment;
use crate::names::{CredentialName, RequestId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A lease.
    Request,
    /// More time for one.
    Renew,
    /// The end of one's own; permitted to every holder unless forbidden.
    Release,
    /// To see that a credential exists.
    List,
    /// A single-use token for it.
    Wrap,
    /// To approve another's request.
    Approve,
    /// The end of others' leases.
    Revoke,
    /// Secrets, lock, reload, status.
    Administer,
}

/// How the secret will reach the program; `context.delivery` in policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// To the caller itself.
    Caller,
    /// To an environment variable: `exposed`.
    Environment,
    /// To an inherited descriptor.
    Descriptor,
    /// To a file.
    File,
}

/// What a lease is bound to; `context.binding` in policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindingKind {
    /// A process.
    Process,
    /// The connection.
    Connection,
    /// Nothing but time.
    None,
}

/// A program that the caller says it will become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Absolute path.
    pub exe: String,
    /// SHA-256, lower-case hex.
    pub digest: String,
}

/// One question to policy.
#[derive(Clone)]
pub struct Question<'a> {
    /// Names the decision.
    pub request_id: &'a RequestId,
    /// Who asks.
    pub attestation: &'a Attestation,
    /// What for.
    pub action: Action,
    /// Which credential; `None` for [`Action::Administer`].
    pub credential: Option<&'a CredentialName>,
    /// The narrowing.
    pub scope: &'a BTreeMap<String, String>,
    /// How it will be delivered.
    pub delivery: Delivery,
    /// What it will be bound to.
    pub binding: BindingKind,
    /// What the caller will become.
    pub target: Option<&'a Target>,
    /// The connection came in on the admin socket.
    pub admin_socket: bool,
    /// TTL that was asked for; `None`: the default.
    pub ttl: Option<Duration>,
    /// Now, for time windows and the permit's expiry.
    pub now: Moment,
}

/// Limits that hold for one permit: the strictest of all permits that counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest life of the lease, renewals included.
    pub max_ttl: Duration,
    /// TTL where none was asked for.
    pub default_ttl: Duration,
    /// Deliveries; `None`: any number.
    pub max_uses: Option<u32>,
    /// Who must approve, all of them.
    pub approvals: Vec<String>,
    /// The binding that policy demands; `None`: the requester's choice.
    pub bind: Option<BindingKind>,
    /// Wipe once delivered.
    pub hold_none: bool,
}

/// Proof that policy allowed one request. Only this stage makes one.
///
/// It names requester, credential and scope, and dies at its expiry.
#[derive(Clone)]
pub struct Permit {
    request_id: RequestId,
    credential: CredentialName,
    scope: BTreeMap<String, String>,
    limits: Limits,
    requester: RequesterKey,
    assurance: Assurance,
    policies: Vec<String>,
    expires: crate::clock::BootTime,
}

/// The process that a permit (and later a lease) belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequesterKey {
    /// Its pid.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// Its uid.
    pub uid: u32,
    /// SHA-256 of its executable, hex, where known.
    pub digest: Option<String>,
}

/// How long a permit may be used: long enough for a slow backend, too short to keep.
pub const PERMIT_LIFE: Duration = Duration::from_secs(30);

/// A refusal, with everything an operator wants to know.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Names the decision.
    pub request_id: RequestId,
    /// The whole reason, for operators.
    pub reason: String,
    /// Policy by policy.
    pub steps: Vec<Step>,
}

/// One policy that played a part in a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its @id, or file and place.
    pub policy: String,
    /// It is a permit (else a forbid).
    pub permit: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// What it saw, in words.
    pub detail: String,
}

/// What came of one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It applies.
    Satisfied,
    /// It does not.
    NotSatisfied,
    /// It could not be evaluated, so the decision is a denial.
    Error,
    /// It names a fact that could not be read, so the decision is a denial.
    Unreadable,
}

/// What policy says. Output of this stage.
pub enum Decision {
    /// Yes, within limits; the steps are for `jsi explain`.
    Permit(Box<Permit>, Vec<Step>),
    /// No.
    Deny(Denial),
}
