//! Stage 3: may this requester have this credential in this scope? Pure: no
//! clock, no I/O (but for loading), no async. Cedar decides; limits are
//! annotations on permits. What a policy may speak of is in `jsi.cedarschema`.

mod annotations;
mod bounds;
mod conditions;
mod decide;
mod entities;
mod explain;
mod facts;
mod fault;
mod index;
mod lints;
mod load;
mod named;
mod schema;
mod suppose;
mod target;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod warnings;

pub use decide::Permit;
pub use fault::Fault;
pub use load::LoadError;
pub use named::{Listed, Program};
pub use schema::{BUILTIN, SCHEMA};
pub use suppose::{Supposed, SupposedProcess, Verdict};
pub use target::Target;

use crate::attestation::{Attestation, ProcessFacts};
use crate::clock::Moment;
use crate::config::{Lifetimes, format_duration};
use crate::names::{CredentialName, RequestId};
use cedar_policy::{Authorizer, Entity, PolicyId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A set of policies that is valid as a whole. It never changes: a reload makes
/// another, and where that fails this one stays.
pub struct Policies {
    authorizer: Authorizer,
    rules: Vec<Arc<load::Rule>>,
    by_id: HashMap<PolicyId, Arc<load::Rule>>,
    index: index::Index,
    actions: BTreeMap<&'static str, Vec<Entity>>,
    /// Where each of `rules` stands.
    places: Vec<Fault>,
    findings: Vec<Fault>,
    warnings: Vec<String>,
}

impl Policies {
    /// How many policies there are, the built-in ones left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.iter().filter(|rule| !rule.builtin).count()
    }

    /// There is no policy but the built-in ones: every request is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is valid and worth a second look, each with the policy's name.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same, each with its place.
    #[must_use]
    pub fn findings(&self) -> &[Fault] {
        &self.findings
    }

    /// Name and place of each policy, the built-in ones first.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().map(|rule| (rule.name.as_str(), rule.place.as_str()))
    }
}

/// What policy is told of the credential that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Its name; `None`: the agent itself is the resource.
    pub name: Option<CredentialName>,
    /// `static` or `dynamic`.
    pub class: &'static str,
    /// The issuer's kind.
    pub issuer: String,
    /// Who answers for it; may be empty.
    pub owner: String,
    /// What it is for; may be empty.
    pub purpose: String,
    /// Its TTLs: what permits that say nothing get, and what none exceeds.
    pub lifetimes: Lifetimes,
}

impl CredentialFacts {
    /// A stored secret of that name of which nothing else is known: an hour by
    /// default and a day at most, as the configuration has it built in.
    #[must_use]
    pub fn supposed(name: CredentialName) -> Self {
        Self {
            name: Some(name),
            class: "static",
            issuer: "store".to_owned(),
            owner: String::new(),
            purpose: String::new(),
            lifetimes: Lifetimes::BUILT_IN,
        }
    }

    /// For questions about the agent itself, which lease nothing.
    #[must_use]
    pub fn agent() -> Self {
        Self {
            name: None,
            class: "static",
            issuer: String::new(),
            owner: String::new(),
            purpose: String::new(),
            lifetimes: Lifetimes { default_ttl: Duration::ZERO, max_ttl: Duration::ZERO },
        }
    }
}

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

impl Action {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::Renew,
        Self::Release,
        Self::List,
        Self::Wrap,
        Self::Approve,
        Self::Revoke,
        Self::Administer,
    ];

    /// Its name in policy: `Action::"request"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::List => "list",
            Self::Wrap => "wrap",
            Self::Approve => "approve",
            Self::Revoke => "revoke",
            Self::Administer => "administer",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// It is in `Action::"use"`.
    #[must_use]
    pub fn is_use(self) -> bool {
        matches!(self, Self::Request | Self::Renew | Self::Release | Self::List)
    }
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

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Caller, Self::Environment, Self::Descriptor, Self::File];

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|delivery| delivery.name() == name)
    }

    /// Its name in policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Environment => "environment",
            Self::Descriptor => "descriptor",
            Self::File => "file",
        }
    }
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

impl BindingKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Process, Self::Connection, Self::None];

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|binding| binding.name() == name)
    }

    /// Its name in policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Connection => "connection",
            Self::None => "none",
        }
    }
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
    /// What it is to be bound to; `None`: nothing is said of it, so a process
    /// unless policy demands another.
    pub binding: Option<BindingKind>,
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

impl Limits {
    /// Name and value of each, as the annotation that would set it.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("max_ttl", format_duration(self.max_ttl)),
            ("default_ttl", format_duration(self.default_ttl)),
        ];
        pairs.extend(self.max_uses.map(|uses| ("max_uses", uses.to_string())));
        pairs.extend(self.bind.map(|bind| ("bind", bind.name().to_owned())));
        pairs.extend(self.hold_none.then(|| ("hold", "none".to_owned())));
        pairs.extend(self.approvals.iter().map(|name| ("approval", name.clone())));
        pairs
    }
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

impl RequesterKey {
    /// That process.
    #[must_use]
    pub fn of(process: &ProcessFacts) -> Self {
        Self {
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            digest: process.exe.known().map(|exe| exe.digest.hex()),
        }
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its @id, or file and place.
    pub policy: String,
    /// `file:line`.
    pub place: String,
    /// It is a permit (else a forbid).
    pub permit: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// What it saw, in words.
    pub detail: String,
    /// No permit applied, and this one came nearest.
    pub nearest: bool,
    /// Its conditions one by one, where they were looked at.
    pub conditions: Vec<Condition>,
    /// The limits that it brings, as annotation and value.
    pub limits: Vec<(String, String)>,
}

/// One condition of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// As Cedar writes it.
    pub text: String,
    /// Whether it holds.
    pub outcome: Outcome,
    /// The values that it looked at.
    pub saw: Vec<Saw>,
    /// What it wanted of them.
    pub wanted: Option<String>,
    /// The sides of its `||`, none of which had to hold alone.
    pub either: Vec<Condition>,
    /// Why it could not be evaluated, or why what it saw is as it is.
    pub note: String,
}

impl Condition {
    fn of(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// A value that a condition looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saw {
    /// `principal.exe`
    pub name: String,
    /// As Cedar writes it; `not there`; `could not be read: …`.
    pub value: String,
}

/// What came of a policy, or of one of its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It applies.
    Satisfied,
    /// It does not.
    #[default]
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
