//! What the attestor knows, and how it works out an attestation.

use super::ancestry::{MAX_ANCESTORS, Step, parent, refused};
use super::confinement::Surroundings;
use super::executable::{Digests, HashLimits, Key, Look, NoLook, SharedDigests};
use super::facts::{Fence, Reading};
use super::generation::{Generation, Stat};
use super::genuine::Clients;
use super::held::{Held, Images, alive};
use super::pool::Pool;
use super::process::{NamespaceId, Status, own_user_namespace};
use super::wire::Facts;
use super::workload::Machine;
use super::{Assurance, AttestError, Executable, Fact, ProcessFacts, Shortfall, Via};
use crate::config::Config;
use crate::mutants::{Check, on};
use crate::process::pidfd;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How old facts about ancestors above the requester, and about cgroups, may
/// be. Caller and requester are looked at every time.
const AROUND_FRESH: Duration = Duration::from_secs(1);
/// Ancestors whose facts are kept.
const MAX_KEPT_ANCESTORS: usize = 4096;
/// Files that one request may have read: the caller's and its ancestors'.
const MAX_READS: usize = MAX_ANCESTORS + 8;

/// Everything that the attestor's threads share.
pub(super) struct Server {
    pub(super) images: Images,
    pub(super) pool: Arc<Pool>,
    digests: SharedDigests,
    rules: RwLock<Arc<Rules>>,
    own_user_namespace: NamespaceId,
    ancestors: Mutex<HashMap<u32, Kept>>,
    serial: AtomicU64,
}

/// What configuration says.
pub(super) struct Rules {
    pub(super) clients: Clients,
    pub(super) advisory: Vec<String>,
    machine: Machine,
    surroundings: Surroundings,
}

/// The last attestation of an image, and what must be as it was for it to hold.
pub(super) struct Cached {
    pub(super) serial: u64,
    pub(super) facts: Arc<Facts>,
    pub(super) requester: Option<Arc<Held>>,
    at: Instant,
    rules: Arc<Rules>,
    caller_seen: Seen,
    requester_seen: Option<Seen>,
    /// The requester is the caller's parent.
    adjacent: bool,
}

#[derive(PartialEq, Eq)]
struct Seen {
    parent: u32,
    session: u32,
    terminal: i32,
    status: Status,
    fence: Fence,
    /// ID of its cgroup of version 2, where the kernel tells: one that moves is
    /// looked at anew.
    cgroup: Option<u64>,
}

impl Seen {
    /// What is read here is of this process if the status is, which is read last.
    fn now(held: &Held, stat: &Stat, rules: &Rules) -> Result<Self, String> {
        let fence = rules.surroundings.fence(held.pid);
        let cgroup = pidfd::info(&held.pidfd).ok().and_then(|info| info.cgroup);
        let cgroup = cgroup.filter(|_| on(Check::CgroupMove));
        let status = held.status()?;
        let (parent, session, terminal) = (stat.parent, stat.session, stat.terminal);
        Ok(Self { parent, session, terminal, status, fence, cgroup })
    }
}

/// By what a process is known to be a client.
#[derive(Clone, Copy, Default)]
struct Recognised {
    group_client: bool,
    known_client: bool,
}

struct Kept {
    generation: Generation,
    at: Instant,
    parent: u32,
    facts: ProcessFacts,
    status: Status,
}

/// A requester that is not the caller.
type Found = (Arc<Held>, Seen);

/// Executables that the pool has read for one request.
pub(super) type Learned = Vec<(Key, Result<Executable, String>)>;

/// Why there is no answer, or not yet.
pub(super) enum Stop {
    Error(AttestError),
    /// The pool must read this first.
    Read(Box<Look>),
}

impl From<AttestError> for Stop {
    fn from(error: AttestError) -> Self {
        Self::Error(error)
    }
}

fn caller(reason: String) -> Stop {
    Stop::Error(AttestError::Caller(reason))
}

impl Server {
    pub(super) fn new(config: &Config, advisory: Vec<String>) -> io::Result<Self> {
        let own_user_namespace = own_user_namespace()?;
        let digests = Arc::new(Digests::new(own_user_namespace));
        let (limits, per_minute) = hash_limits(config);
        let rules = rules(config, advisory);
        keep(&digests, &rules);
        Ok(Self {
            images: Images::default(),
            pool: Pool::start(Arc::clone(&digests), limits, per_minute)?,
            digests,
            rules: RwLock::new(Arc::new(rules)),
            own_user_namespace,
            ancestors: Mutex::default(),
            serial: AtomicU64::new(0),
        })
    }

    /// Takes another configuration.
    pub(super) fn reload(&self, config: &Config, advisory: Vec<String>) {
        let (limits, per_minute) = hash_limits(config);
        self.pool.set_limits(limits, per_minute);
        let new = Arc::new(rules(config, advisory));
        keep(&self.digests, &new);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Has the programs above the agent itself read while nobody waits: the
    /// first requests mostly come from below the same ones (init, a session, a
    /// shell). What cannot be read now is said when it is asked for.
    pub(super) fn hash_own_ancestors(&self) {
        let uid = nix::unistd::geteuid().as_raw();
        let mut next = Step::at(std::process::id()).and_then(|own| own.parent());
        for _ in 0..MAX_ANCESTORS {
            let Ok(Some(step)) = next else { break };
            if let Ok(look) = Look::at(step.pid)
                && self.digests.quick(&look).is_none()
            {
                let _ = self.pool.submit(look, uid, Box::new(|_| ()));
            }
            next = step.parent();
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who is behind that image?
    pub(super) fn attest(&self, held: &Arc<Held>, learned: &Learned) -> Result<Arc<Cached>, Stop> {
        let stat = held.check().map_err(caller)?;
        let rules = self.rules();
        let seen = Seen::now(held, &stat, &rules).map_err(caller)?;
        let cached = held.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(cached) = &cached
            && self.holds(cached, &rules, &seen)
        {
            return Ok(Arc::clone(cached));
        }
        let (facts, requester) = self.look(held, &stat, &seen, &rules, learned)?;
        // What was read is what the image was only if it is the same image still.
        held.check().map_err(caller)?;
        let same = cached.filter(|cached| *cached.facts == facts);
        let cached = Arc::new(Cached {
            serial: same.as_ref().map_or_else(
                || self.serial.fetch_add(1, Ordering::Relaxed) + 1,
                |same| same.serial,
            ),
            facts: same.map_or_else(|| Arc::new(facts), |same| Arc::clone(&same.facts)),
            adjacent: requester.as_ref().is_none_or(|(found, _)| found.pid == stat.parent),
            caller_seen: seen,
            requester: requester.as_ref().map(|(found, _)| Arc::clone(found)),
            requester_seen: requester.map(|(_, seen)| seen),
            at: Instant::now(),
            rules,
        });
        *held.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&cached));
        Ok(cached)
    }

    /// Whether nothing has changed since: caller and requester are the same
    /// images with the same credentials, and the one is still the other's parent.
    fn holds(&self, cached: &Cached, rules: &Arc<Rules>, seen: &Seen) -> bool {
        if cached.caller_seen != *seen
            || !cached.adjacent
            || !Arc::ptr_eq(&cached.rules, rules)
            || cached.at.elapsed() > AROUND_FRESH
        {
            return false;
        }
        let (Some(requester), Some(seen)) = (&cached.requester, &cached.requester_seen) else {
            return true;
        };
        let Ok(stat) = requester.check() else { return false };
        Seen::now(requester, &stat, rules).is_ok_and(|now| now == *seen)
    }

    fn look(
        &self,
        held: &Arc<Held>,
        stat: &Stat,
        seen: &Seen,
        rules: &Rules,
        learned: &Learned,
    ) -> Result<(Facts, Option<Found>), Stop> {
        rules.clients.refresh();
        let exe = self.executable_of(held, learned)?;
        let group_client = held.group_client && held.hidden();
        let kind = exe.known().and_then(|exe| rules.clients.kind(exe));
        let via = if group_client { Via::GenuineClient } else { kind.unwrap_or(Via::Direct) };
        let client = Recognised { group_client, known_client: kind.is_some() };
        let facts = self.judge(held.pid, stat, seen, rules, exe, client);
        let chain = self.walk(held, stat, rules, learned)?;
        let requester = match via {
            Via::Direct => None,
            Via::GenuineClient | Via::EnrolledClient => {
                Some(self.requester(&facts, &chain, rules, learned)?)
            }
        };
        let reached =
            requester.as_ref().map_or(facts.assurance, |(r, ..)| r.assurance.min(facts.assurance));
        let uncapped = rules.advisory.is_empty() || !on(Check::AdvisoryCap);
        let capped = if uncapped { reached } else { reached.min(Assurance::Executable) };
        let (requester, found) =
            requester.map_or((None, None), |(facts, held, seen)| (Some(facts), Some((held, seen))));
        let facts = Facts {
            caller: facts,
            requester,
            ancestry: chain.into_iter().map(|(_, kept)| kept.facts).collect(),
            via,
            assurance: capped,
            advisory: rules.advisory.clone(),
        };
        Ok((facts, found))
    }

    /// The nearest ancestor that is not itself a client, where it may be one.
    fn requester(
        &self,
        facts: &ProcessFacts,
        chain: &[(Step, Kept)],
        rules: &Rules,
        learned: &Learned,
    ) -> Result<(ProcessFacts, Arc<Held>, Seen), Stop> {
        let refuse = |reason: String| Stop::Error(AttestError::Requester(reason));
        let is_client = |facts: &ProcessFacts, status: &Status| {
            status.got_group(rules.clients.group)
                || facts.exe.known().is_some_and(|exe| rules.clients.kind(exe).is_some())
        };
        let (step, kept) = chain
            .iter()
            .find(|(_, kept)| !is_client(&kept.facts, &kept.status))
            .ok_or_else(|| refuse("the client has no ancestor that could have asked".into()))?;
        if let Some(reason) = refused(&kept.facts, &step.stat.comm, &kept.status, facts) {
            return Err(refuse(reason));
        }
        let pidfd = || step.pidfd.try_clone().map_err(|e| e.to_string());
        let held = self
            .images
            .hold(step.pid, facts.uid, false, Some(&step.stat), pidfd)
            .map_err(refuse)?;
        // From here on the held image is what counts: it could have become
        // another program, or have lost its child, since the walk.
        let stat = held.check().map_err(refuse)?;
        let seen = Seen::now(&held, &stat, rules).map_err(refuse)?;
        let exe = self.executable_of(&held, learned)?;
        let mut found = self.judge(held.pid, &stat, &seen, rules, exe, Recognised::default());
        if is_client(&found, &seen.status) {
            return Err(refuse(format!(
                "process {} became a client while it was looked at",
                found.pid
            )));
        }
        if let Some(reason) = refused(&found, &stat.comm, &seen.status, facts) {
            return Err(refuse(reason));
        }
        held.check().map_err(refuse)?;
        if on(Check::RequesterLevelCap) {
            found.assurance = found.assurance.min(Assurance::Executable);
        }
        if let Some(Shortfall { reason, .. }) =
            found.shortfalls.iter_mut().find(|s| s.level == Assurance::Image)
        {
            *reason = "found by ancestry: whoever can start a program can stand below it".into();
        }
        Ok((found, held, seen))
    }

    /// The ancestors, nearest first. Ends early where one cannot be looked at.
    fn walk(
        &self,
        held: &Held,
        stat: &Stat,
        rules: &Rules,
        learned: &Learned,
    ) -> Result<Vec<(Step, Kept)>, Stop> {
        let mut chain: Vec<(Step, Kept)> = Vec::new();
        let mut next = parent(held.pid, &held.pidfd, stat.parent);
        while let Ok(Some(step)) = next {
            let Some(kept) = self.ancestor(&step, rules, learned)? else { break };
            next = step.parent();
            chain.push((step, kept));
            if chain.len() == MAX_ANCESTORS {
                break;
            }
        }
        Ok(chain)
    }

    fn ancestor(
        &self,
        step: &Step,
        rules: &Rules,
        learned: &Learned,
    ) -> Result<Option<Kept>, Stop> {
        let (pid, stat) = (step.pid, &step.stat);
        if let Some(kept) = self.ancestors.lock().unwrap_or_else(PoisonError::into_inner).get(&pid)
            && kept.generation.same(&stat.generation)
            && kept.parent == stat.parent
            && kept.at.elapsed() <= AROUND_FRESH
        {
            return Ok(Some(kept.copy()));
        }
        let fence = rules.surroundings.fence(pid);
        let Ok(status) = Status::read(pid) else { return Ok(None) };
        let (parent, session, terminal) = (stat.parent, stat.session, stat.terminal);
        let seen = Seen { parent, session, terminal, status, fence, cgroup: None };
        let exe = self.executable_at(pid, learned)?;
        let facts = self.judge(pid, stat, &seen, rules, exe, Recognised::default());
        let status = seen.status;
        // Everything was read of this process only if it has neither ended nor
        // become another program meanwhile.
        let now = Step::at(pid).map(|now| now.stat.generation);
        if alive(&step.pidfd).is_err() || now != Ok(stat.generation) {
            return Ok(None);
        }
        let kept = Kept {
            generation: stat.generation,
            at: Instant::now(),
            parent: stat.parent,
            facts,
            status,
        };
        let mut ancestors = self.ancestors.lock().unwrap_or_else(PoisonError::into_inner);
        if ancestors.len() >= MAX_KEPT_ANCESTORS {
            ancestors.clear();
        }
        ancestors.insert(pid, kept.copy());
        Ok(Some(kept))
    }

    fn judge(
        &self,
        pid: u32,
        stat: &Stat,
        seen: &Seen,
        rules: &Rules,
        exe: Fact<Executable>,
        client: Recognised,
    ) -> ProcessFacts {
        let Recognised { group_client, known_client } = client;
        let (status, fence) = (&seen.status, seen.fence.clone());
        let own_user_namespace = self.own_user_namespace;
        let workload = rules.machine.workload(pid);
        Reading {
            pid,
            stat,
            status,
            exe,
            group_client,
            known_client,
            own_user_namespace,
            workload,
            fence,
        }
        .judge()
    }

    /// The executable of a held image, looked at once.
    fn executable_of(&self, held: &Held, learned: &Learned) -> Result<Fact<Executable>, Stop> {
        if let Some(exe) = &*held.exe.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(exe.clone());
        }
        let exe = self.executable_at(held.pid, learned)?;
        held.check().map_err(caller)?;
        *held.exe.lock().unwrap_or_else(PoisonError::into_inner) = Some(exe.clone());
        Ok(exe)
    }

    fn executable_at(&self, pid: u32, learned: &Learned) -> Result<Fact<Executable>, Stop> {
        let look = match Look::at(pid) {
            Ok(look) => look,
            Err(NoLook::Absent) => return Ok(Fact::Absent),
            Err(NoLook::Unreadable(reason)) => return Ok(Fact::Unreadable(reason)),
        };
        if let Some(exe) = self.digests.quick(&look) {
            return Ok(Fact::Known(exe));
        }
        let key = look.key();
        match learned.iter().find(|(known, _)| *known == key) {
            Some((_, Ok(exe))) => Ok(Fact::Known(exe.clone())),
            Some((_, Err(reason))) => Ok(Fact::Unreadable(reason.clone())),
            None if learned.len() >= MAX_READS => Err(AttestError::Limit(format!(
                "more than {MAX_READS} executables to read for one request"
            ))
            .into()),
            None => Err(Stop::Read(Box::new(look))),
        }
    }
}

impl Kept {
    fn copy(&self) -> Self {
        Self {
            generation: self.generation,
            at: self.at,
            parent: self.parent,
            facts: self.facts.clone(),
            status: self.status.clone(),
        }
    }
}

/// The clients have just been read: the first of them to ask need not wait.
fn keep(digests: &Digests, rules: &Rules) {
    for (stat, known) in rules.clients.read() {
        digests.keep(stat, known);
    }
}

fn rules(config: &Config, advisory: Vec<String>) -> Rules {
    let clients = Clients::new(config, !advisory.is_empty());
    Rules { clients, advisory, machine: Machine::read(), surroundings: Surroundings::read() }
}

fn hash_limits(config: &Config) -> (HashLimits, u32) {
    let limits = &config.limits;
    (HashLimits { bytes: limits.hash_bytes, time: limits.hash_timeout }, limits.hashes_per_minute)
}
