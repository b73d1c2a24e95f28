//! Requests that nobody makes: for `jsi explain db/orders --exe …` and for
//! `jsi policy test`. The facts are whatever is supposed; the decision is the
//! one that a real request with these facts would get.

use super::{
    Action, BindingKind, CredentialFacts, Decision, Delivery, Limits, Policies, Question, Step,
    Target,
};
use crate::attestation::{
    Around, Assurance, Attestation, Digest, Executable, Fact, Namespaces, ProcessFacts, Seccomp,
    Via,
};
use crate::clock::{BootTime, Moment, WallTime};
use crate::connection::ImageId;
use crate::names::RequestId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A pid that no process has: pids are no reason to be permitted anything.
const NOBODYS_PID: u32 = 0;

/// A process that might ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SupposedProcess {
    /// Its uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// What it runs; `None`: it cannot be told.
    pub exe: Option<String>,
    /// SHA-256 of that.
    pub digest: Option<Digest>,
    /// Its fs-verity digest.
    pub verity: Option<String>,
    /// What its `security.ima` says.
    pub ima: Option<String>,
    /// Who owns it.
    pub exe_owner: u32,
    /// Controlling terminal.
    pub tty: Option<String>,
    /// Session ID.
    pub session: u32,
    /// systemd unit.
    pub unit: Option<String>,
    /// Container ID.
    pub container: Option<String>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// systemd's ID of its unit's run.
    pub invocation: Option<String>,
    /// Whose container it is in.
    pub container_runtime: Option<String>,
    /// UID of its Kubernetes pod.
    pub pod: Option<String>,
    /// Its LSM label.
    pub lsm: Option<String>,
    /// What system calls are left to it.
    pub seccomp: Option<Seccomp>,
    /// no_new_privs.
    pub no_new_privs: Option<bool>,
    /// Its namespaces.
    pub namespaces: Option<Namespaces>,
    /// Level of assurance, 0 to 4; `None`: 1.
    pub assurance: Option<Assurance>,
    /// What it would be with a just-in-time compiler; `None`: `assurance`.
    pub assurance_with_jit: Option<Assurance>,
    /// Of [`MAY_BE_UNREADABLE`](Self::MAY_BE_UNREADABLE), those that cannot be read.
    pub unreadable: BTreeSet<String>,
}

/// A request that might be made.
#[derive(Clone, Debug)]
pub struct Supposed {
    /// On whose behalf.
    pub requester: SupposedProcess,
    /// Who sends the bytes; `None`: the requester itself or, behind a client,
    /// `/usr/bin/jsi` with the requester's uid, terminal and assurance.
    pub caller: Option<SupposedProcess>,
    /// How the two relate; `None`: a genuine client where there is a target,
    /// else directly.
    pub via: Option<Via>,
    /// The agent is advisory.
    pub advisory: bool,
    /// What for.
    pub action: Action,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// How it would be delivered.
    pub delivery: Delivery,
    /// What it would be bound to.
    pub binding: Option<BindingKind>,
    /// What the caller would become.
    pub target: Option<Target>,
    /// On the admin socket.
    pub admin_socket: bool,
    /// The TTL that would be asked for.
    pub ttl: Option<Duration>,
    /// When; `None`: now.
    pub at: Option<WallTime>,
}

impl Supposed {
    /// That process requests something, now.
    #[must_use]
    pub fn new(requester: SupposedProcess) -> Self {
        Self {
            requester,
            caller: None,
            via: None,
            advisory: false,
            action: Action::Request,
            scope: BTreeMap::new(),
            delivery: Delivery::Caller,
            binding: None,
            target: None,
            admin_socket: false,
            ttl: None,
            at: None,
        }
    }

    /// The attestation that such a request would have.
    #[must_use]
    pub fn attestation(&self) -> Attestation {
        let via = self.via.unwrap_or(match self.target {
            Some(_) => Via::GenuineClient,
            None => Via::Direct,
        });
        let requester = self.requester.facts();
        let caller = match (&self.caller, via) {
            (Some(caller), _) => caller.facts(),
            (None, Via::Direct) => requester.clone(),
            (None, Via::GenuineClient | Via::EnrolledClient) => self.client().facts(),
        };
        let assurance = caller.assurance.min(requester.assurance);
        let assurance_with_jit = caller.assurance_with_jit.min(requester.assurance_with_jit);
        let advisory = if self.advisory { vec!["supposed".to_owned()] } else { Vec::new() };
        Attestation {
            assurance,
            assurance_with_jit,
            caller,
            requester,
            ancestry: Vec::new(),
            via,
            advisory,
            caller_image: ImageId(0),
            requester_image: ImageId(0),
        }
    }

    fn client(&self) -> SupposedProcess {
        SupposedProcess {
            exe: Some("/usr/bin/jsi".to_owned()),
            exe_owner: 0,
            digest: None,
            verity: None,
            ima: None,
            unreadable: BTreeSet::new(),
            ..self.requester.clone()
        }
    }
}

impl SupposedProcess {
    /// Facts that may be unreadable, by their names in policy; `exe` stands for
    /// all that is told of it.
    pub const MAY_BE_UNREADABLE: [&'static str; 12] = [
        "exe",
        "tty",
        "unit",
        "container",
        "cgroup",
        "invocation",
        "container_runtime",
        "pod",
        "lsm",
        "seccomp",
        "no_new_privs",
        "namespaces",
    ];

    fn fact<T: Clone>(&self, name: &str, value: &Option<T>) -> Fact<T> {
        match value {
            _ if self.unreadable.contains(name) => Fact::Unreadable("supposed".to_owned()),
            Some(value) => Fact::Known(value.clone()),
            None => Fact::Absent,
        }
    }

    fn around(&self) -> Around {
        Around {
            invocation: self.fact("invocation", &self.invocation),
            container_runtime: self.fact("container_runtime", &self.container_runtime),
            pod: self.fact("pod", &self.pod),
            lsm: self.fact("lsm", &self.lsm),
            seccomp: self.fact("seccomp", &self.seccomp),
            no_new_privs: self.fact("no_new_privs", &self.no_new_privs),
            namespaces: self.fact("namespaces", &self.namespaces),
        }
    }

    fn facts(&self) -> ProcessFacts {
        ProcessFacts {
            pid: NOBODYS_PID,
            parent: 0,
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.iter().copied().chain([self.gid]).collect(),
            start_time: 0,
            exe: self.executable(),
            tty: self.fact("tty", &self.tty),
            session: self.session,
            unit: self.fact("unit", &self.unit),
            container: self.fact("container", &self.container),
            cgroup: self.fact("cgroup", &self.cgroup),
            around: self.around(),
            assurance: self.assurance.unwrap_or(Assurance::Executable),
            assurance_with_jit: self
                .assurance_with_jit
                .or(self.assurance)
                .unwrap_or(Assurance::Executable),
            shortfalls: Vec::new(),
        }
    }

    fn executable(&self) -> Fact<Executable> {
        if self.unreadable.contains("exe") {
            return Fact::Unreadable("supposed".to_owned());
        }
        if self.exe.is_none() && self.digest.is_none() {
            return Fact::Absent;
        }
        Fact::Known(Executable {
            path: self.exe.clone(),
            digest: self.digest.unwrap_or(Digest([0; 32])),
            device: 0,
            inode: 0,
            owner_uid: self.exe_owner,
            mode: 0o755,
            links: 1,
            sealed: false,
            size: 0,
            verity: self.verity.clone(),
            ima: self.ima.clone(),
        })
    }
}

/// What policy would say.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The limits of what it would permit; `None`: it would deny.
    pub limits: Option<Limits>,
    /// Why, for operators.
    pub reason: String,
    /// Policy by policy.
    pub steps: Vec<Step>,
}

impl Policies {
    /// What [`Policies::decide`] would say. No permit comes of it: there is
    /// nobody whom it could be for.
    #[must_use]
    pub fn suppose(&self, supposed: &Supposed, facts: &CredentialFacts, now: WallTime) -> Verdict {
        let attestation = supposed.attestation();
        let nobody = RequestId::from_text("");
        let wall = supposed.at.unwrap_or(now);
        let now = Moment { boot: BootTime(0), wall };
        match self.decide(&supposed.question(&attestation, facts, &nobody, now), facts) {
            Decision::Permit(permit, steps) => Verdict {
                limits: Some(permit.limits().clone()),
                reason: "permitted".to_owned(),
                steps,
            },
            Decision::Deny(denial) => {
                Verdict { limits: None, reason: denial.reason, steps: denial.steps }
            }
        }
    }
}

impl Supposed {
    fn question<'a>(
        &'a self,
        attestation: &'a Attestation,
        facts: &'a CredentialFacts,
        request_id: &'a RequestId,
        now: Moment,
    ) -> Question<'a> {
        Question {
            request_id,
            attestation,
            action: self.action,
            credential: facts.name.as_ref(),
            scope: &self.scope,
            delivery: self.delivery,
            binding: self.binding,
            target: self.target.as_ref(),
            admin_socket: self.admin_socket,
            ttl: self.ttl,
            now,
        }
    }
}
