//! The schema of the log, version 1. Audit and journal at once: the state of
//! all leases is a fold over it.
//!
//! One line is `{"leaf":H,"rec":{…}}`; H is the lower-case hex of
//! SHA-256(0x00 ‖ the exact bytes of `rec`) (RFC 6962, 2.1). `rec` is a
//! [`Record`]. Fields are only ever added; a reader refuses a higher `v`.

use crate::clock::{BootTime, WallTime};
use crate::names::{LeaseId, RequestId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema's version: raised with every kind of record or field that an
/// earlier agent does not know, so that it says that the log is of a newer one.
/// 2 brought `secret_rotated` and `signing_key`; 3 more of what was attested, and
/// the `target` of a holder.
pub const VERSION: u32 = 3;

/// One leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub v: u32,
    /// 0 for the first leaf of the log, one more for each later, across segments.
    pub seq: u64,
    /// RFC 6962 tree head over all earlier leaves, lower-case hex.
    pub root: String,
    /// RFC 3339, UTC; for people.
    pub at: String,
    /// Milliseconds of CLOCK_BOOTTIME.
    pub boot: BootTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The agent started.
    Started {
        /// Its version.
        version: String,
        /// boot ID (random(4)); leases of another boot have ended.
        boot_id: String,
        /// The broker's pid.
        pid: u32,
        /// `host` or `user`.
        mode: String,
        /// Why it is advisory; empty: it is not.
        advisory: Vec<String>,
    },
    /// An unterminated last line was moved aside at start (a crash in the middle of a write).
    Recovered {
        /// Name of the file beside the segment that holds it now.
        moved_to: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A lease is about to be minted at a backend. Synced before minting.
    Intent {
        /// In state pending.
        lease: LeaseRecord,
    },
    /// A lease was granted; its first delivery follows at once. Synced before it.
    Granted {
        /// Active.
        lease: LeaseRecord,
    },
    /// Minting failed; nothing was delivered.
    Failed {
        /// Which.
        lease: LeaseId,
        /// Why.
        error: String,
    },
    /// The secret of a live lease was delivered again. Synced before it.
    Delivered {
        /// The request that asked.
        request: RequestId,
        /// Which.
        lease: LeaseId,
        /// How: `caller`, `environment`, `descriptor`, `file`.
        delivery: String,
        /// Left after this delivery.
        uses_left: Option<u32>,
    },
    /// The lease's expiry moved. Synced before the answer.
    Renewed {
        /// Which.
        lease: LeaseId,
        /// Its expiry now.
        expires: BootTime,
        /// The same on the wall clock, for people.
        expires_at: String,
    },
    /// Revocation begins.
    Ending {
        /// Which.
        lease: LeaseId,
        /// Why.
        reason: EndReason,
    },
    /// The lease is over; where its issuer can revoke, that is confirmed.
    Ended {
        /// Which.
        lease: LeaseId,
        /// Why.
        reason: EndReason,
        /// What became of the credential itself: `revoked`, `static: not revoked`,
        /// `unconfirmed until …`.
        outcome: String,
    },
    /// The backend refused to revoke; tried again daily.
    Stuck {
        /// Which.
        lease: LeaseId,
        /// Why.
        reason: EndReason,
        /// What the backend said.
        error: String,
    },
    /// A request was refused.
    Denied {
        /// Names the decision.
        request: RequestId,
        /// `request`, `renew`, …
        action: String,
        /// What was asked for.
        credential: String,
        /// The narrowing.
        scope: BTreeMap<String, String>,
        /// Stable code (`jsi.v1.Reason` without its prefix).
        code: String,
        /// The whole reason, for operators.
        reason: String,
        /// Who asked; absent where nobody was verified.
        who: Option<HolderRecord>,
    },
    /// A connection was refused before any request was served.
    Refused {
        /// The peer's pid.
        pid: u32,
        /// The peer's uid.
        uid: u32,
        /// Why.
        reason: String,
    },
    /// Denials and refusals that were left out, because there were too many.
    Suppressed {
        /// Whose; absent: of several uids together.
        uid: Option<u32>,
        /// How many, since the last such record.
        count: u64,
    },
    /// A secret was stored.
    SecretPut {
        /// Its name.
        name: String,
        /// Who answers for it.
        owner: String,
        /// It replaced an earlier one.
        replaced: bool,
        /// By whom.
        by: HolderRecord,
    },
    /// A stored secret was given new values; owner, purpose and the other fields
    /// stay, and so do its leases unless they were ended.
    SecretRotated {
        /// Its name.
        name: String,
        /// The fields that were replaced.
        fields: Vec<String>,
        /// How often a secret was stored under that name, this one included.
        version: u64,
        /// Live leases that were told.
        leases_told: usize,
        /// Leases that were ended.
        leases_ended: usize,
        /// By whom.
        by: HolderRecord,
    },
    /// A secret was removed.
    SecretRemoved {
        /// Its name.
        name: String,
        /// By whom.
        by: HolderRecord,
    },
    /// A signing key of an issuer was made, was given the time from which it
    /// signs, or is published no more. A key does not sign before the log has it.
    SigningKey {
        /// The issuer's name in configuration.
        issuer: String,
        /// The key's thumbprint (RFC 7638).
        kid: String,
        /// `EdDSA`, `ES256` or `RS256`.
        algorithm: String,
        /// What became of it.
        change: KeyChange,
        /// When it begins to sign, RFC 3339; absent: not known yet, or past.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signs_from: Option<String>,
        /// By whom; absent: it was due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<HolderRecord>,
    },
    /// An administrative act: `lock`, `unlock`, `reload`, `revoke`, `import`,
    /// `export`, `backup`, `restore`.
    Admin {
        /// Which.
        act: String,
        /// In words: the selector, what changed.
        detail: String,
        /// By whom; absent: by signal.
        by: Option<HolderRecord>,
    },
    /// First record of every segment but the first: the leases that live.
    Snapshot {
        /// All that have not ended.
        leases: Vec<LeaseRecord>,
        /// boot ID in force.
        boot_id: String,
    },
    /// The agent stopped in order.
    Stopped {
        /// `SIGTERM`, `command ended`, …
        why: String,
    },
}

/// What became of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChange {
    /// Made; it is about to be published.
    Made,
    /// Published; from when it signs is known.
    Scheduled,
    /// Every token that it signed has expired: it is published no more.
    Expired,
    /// An operator took it back: tokens that it signed are to be refused.
    Withdrawn,
}

/// Where a lease is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Recorded, nothing issued yet.
    Pending,
    /// Usable.
    Active,
    /// Being revoked.
    Ending,
    /// Over.
    Ended,
    /// Issuing failed.
    Failed,
    /// Revocation was refused for good.
    Stuck,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The holder gave it up.
    Released,
    /// Its time ran out.
    Expired,
    /// The process that it was bound to ended.
    ProcessExited,
    /// The connection that it was bound to closed.
    ConnectionClosed,
    /// An operator revoked it.
    Revoked,
    /// The agent stopped.
    AgentStopping,
    /// Its uses were spent.
    UsesSpent,
    /// The health check that it depended on failed.
    HealthLost,
    /// Its approval was withdrawn.
    ApprovalWithdrawn,
    /// The host booted anew.
    Rebooted,
}

/// A lease as the log has it: everything that a restart needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its name.
    pub id: LeaseId,
    /// The request that it was granted for.
    pub request: RequestId,
    /// The credential.
    pub credential: String,
    /// The narrowing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scope: BTreeMap<String, String>,
    /// The issuer's kind.
    pub issuer: String,
    /// Its name in configuration; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_name: Option<String>,
    /// `static` or `dynamic`.
    pub class: String,
    /// `exact`, `coarse` or `none`.
    pub revocation: String,
    /// Where it is in its life.
    pub state: LeaseState,
    /// When it was granted.
    pub issued: BootTime,
    /// The same on the wall clock.
    pub issued_wall: WallTime,
    /// When it ends unless renewed.
    pub expires: BootTime,
    /// Beyond this no renewal goes.
    pub expires_at_most: BootTime,
    /// TTL in milliseconds that it was granted with.
    pub ttl_ms: u64,
    /// It can be renewed.
    pub renewable: bool,
    /// What ends it besides time.
    pub binding: BindingRecord,
    /// The requester.
    pub holder: HolderRecord,
    /// Deliveries left; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    /// How it was first delivered.
    pub delivery: String,
    /// Nothing is kept after delivery.
    #[serde(default)]
    pub hold_none: bool,
    /// What revocation needs and is not secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handle: BTreeMap<String, String>,
    /// SHA-256 (hex) of the sealed line in front of this one, which holds what
    /// revocation needs and is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Why it is ending or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The holder's note.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The policies that permitted it.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The stored secret was replaced since it was last delivered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
}

/// What ends a lease besides time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum BindingRecord {
    /// A process.
    Process {
        /// Its pid.
        pid: u32,
        /// Clock ticks since boot.
        start_time: u64,
        /// pidfs file handle, hex (Linux 6.14): finds it again after a restart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pidfs: Option<String>,
        /// What it ran, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exe: Option<String>,
    },
    /// A connection; ends with the agent.
    Connection,
    /// Nothing.
    None,
}

/// Who asked, as it was attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRecord {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
    /// Path of its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// SHA-256 of its executable, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// systemd's ID of the unit's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Container ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Whose container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<String>,
    /// UID of the Kubernetes pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Label that an LSM gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsm: Option<String>,
    /// 0 to 4.
    pub assurance: u8,
    /// What it would be with a just-in-time compiler, where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance_with_jit: Option<u8>,
    /// Why it is not one more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed: Vec<String>,
    /// The calling process, where it asked for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<u32>,
    /// What `jsi exec` becomes, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRecord>,
}

/// A program that a client says it will become, as far as it was believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Path of the file that was named.
    pub exe: String,
    /// What runs is what was measured.
    pub sealed: bool,
    /// SHA-256 of that file, hex; absent where that is not so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Of a script: SHA-256 of its text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub script_digest: String,
    /// Of a script: what runs it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interpreter: String,
    /// Its SHA-256.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interpreter_digest: String,
    /// Why the path may be another file, or what was measured may not be what runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}
