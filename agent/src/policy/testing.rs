//! Attestations and questions from plain data, for tests.

use super::{Action, BindingKind, CredentialFacts, Delivery, Policies, Question, Target};
use crate::attestation::{
    Around, Assurance, Attestation, Digest, Executable, Fact, ProcessFacts, Via,
};
use crate::clock::{BootTime, Moment, WallTime};
use crate::config::Lifetimes;
use crate::connection::ImageId;
use crate::names::{CredentialName, RequestId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process of that uid which runs that program: level 1, no unit, no terminal.
pub fn process(uid: u32, exe: &str) -> ProcessFacts {
    ProcessFacts {
        pid: 4711,
        parent: 1,
        uid,
        gid: uid,
        groups: vec![uid],
        start_time: 99,
        exe: Fact::Known(Executable {
            path: Some(exe.to_owned()),
            digest: Digest([7; 32]),
            device: 1,
            inode: 2,
            owner_uid: 0,
            mode: 0o755,
            links: 1,
            sealed: false,
            size: 3,
            verity: None,
            ima: None,
        }),
        tty: Fact::Absent,
        session: 4711,
        unit: Fact::Absent,
        container: Fact::Absent,
        cgroup: Fact::Absent,
        around: Around::NOTHING,
        assurance: Assurance::Executable,
        assurance_with_jit: Assurance::Executable,
        shortfalls: Vec::new(),
    }
}

/// That process asks for itself.
pub fn direct(process: ProcessFacts) -> Attestation {
    Attestation {
        caller: process.clone(),
        assurance: process.assurance,
        assurance_with_jit: process.assurance_with_jit,
        requester: process,
        ancestry: Vec::new(),
        via: Via::Direct,
        advisory: Vec::new(),
        caller_image: ImageId(1),
        requester_image: ImageId(1),
    }
}

/// A static credential with an hour by default and a day at most.
pub fn credential(name: &str) -> CredentialFacts {
    CredentialFacts {
        name: Some(CredentialName::new(name).unwrap()),
        class: "static",
        issuer: "store".into(),
        owner: "somebody".into(),
        purpose: "tests".into(),
        lifetimes: Lifetimes {
            default_ttl: Duration::from_secs(3_600),
            max_ttl: Duration::from_secs(86_400),
        },
    }
}

/// A question that owns what it asks.
pub struct Ask {
    /// Who asks.
    pub attestation: Attestation,
    /// What about.
    pub facts: CredentialFacts,
    /// What for.
    pub action: Action,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// How it will be delivered.
    pub delivery: Delivery,
    /// What it will be bound to.
    pub binding: Option<BindingKind>,
    /// What the caller will become.
    pub target: Option<Target>,
    /// It came in on the admin socket.
    pub admin_socket: bool,
    /// 2026-11-22, a Sunday, 15:00 UTC, unless moved.
    pub now: Moment,
    /// Names the request.
    pub id: RequestId,
}

impl Ask {
    /// `/usr/bin/psql` of uid 1000 requests that credential.
    pub fn psql(credential_name: &str) -> Self {
        Self {
            attestation: direct(process(1000, "/usr/bin/psql")),
            facts: credential(credential_name),
            action: Action::Request,
            scope: BTreeMap::new(),
            delivery: Delivery::Caller,
            binding: None,
            target: None,
            admin_socket: false,
            now: Moment { boot: BootTime(1_000), wall: WallTime(1_795_359_600_000) },
            id: RequestId::new([1; 8]),
        }
    }

    /// The question.
    pub fn question(&self) -> Question<'_> {
        Question {
            request_id: &self.id,
            attestation: &self.attestation,
            action: self.action,
            credential: self.facts.name.as_ref(),
            scope: &self.scope,
            delivery: self.delivery,
            binding: self.binding,
            target: self.target.as_ref(),
            admin_socket: self.admin_socket,
            ttl: None,
            now: self.now,
        }
    }

    /// Puts it to these policies.
    pub fn of(&self, policies: &Policies) -> super::Decision {
        policies.decide(&self.question(), &self.facts)
    }
}

/// Policies of one text.
pub fn policies(text: &str) -> Policies {
    Policies::from_texts(&[("test.cedar", text)]).unwrap()
}
