//! What the attestor knows, and how it works out an attestation.

use super::ancestry::{MAX_ANCESTORS, Step, parent, refused};
use super::confinement::Surroundings;
use super::enforced::{Kernel, Listed};
use super::executable::{Digests, HashLimits, Key, Look, Measured, NoLook, SharedDigests};
use super::facts::Fence;
use super::generation::{Generation, Stat};
use super::genuine::Clients;
use super::held::{Held, Images, alive};
use super::mapped::{Inspector, Mapped};
use super::pool::Pool;
use super::process::{NamespaceId, Status, own_user_namespace};
use super::wire::{Facts, Reached};
use super::workload::Machine;
use super::{AttestError, Fact, ProcessFacts, Via};
use crate::config::Config;
use crate::mutants::{Check, on};
use crate::process::pidfd;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How old facts about ancestors above the requester, and about cgroups, may
/// be. Caller and requester are looked at every time.
const AROUND_FRESH: Duration = Duration::from_secs(1);
/// Ancestors whose facts are kept.
const MAX_KEPT_ANCESTORS: usize = 4096;
/// Files that one request may have read: the caller's, its ancestors', and
/// libraries that only their digest could let pass.
pub(super) const MAX_READS: usize = MAX_ANCESTORS + 16;

/// Everything that the attestor's threads share.
pub(super) struct Server {
    pub(super) images: Images,
    pub(super) pool: Arc<Pool>,
    digests: SharedDigests,
    pub(super) inspector: Inspector,
    rules: RwLock<Arc<Rules>>,
    pub(super) own_user_namespace: NamespaceId,
    ancestors: Mutex<HashMap<u32, Kept>>,
    serial: AtomicU64,
    kernel: Mutex<Option<(Instant, Arc<Kernel>)>>,
}

/// What configuration says.
pub(super) struct Rules {
    pub(super) clients: Clients,
    pub(super) advisory: Vec<String>,
    pub(super) machine: Machine,
    pub(super) surroundings: Surroundings,
    /// Uids under which nothing but one service runs.
    pub(super) isolated: BTreeSet<u32>,
    /// What root says of level 4.
    pub(super) enforced: Listed,
    /// Digests of files that count at level 2 though they are not root's.
    pub(super) listed: BTreeSet<[u8; 32]>,
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
pub(super) struct Seen {
    parent: u32,
    session: u32,
    terminal: i32,
    pub(super) status: Status,
    pub(super) fence: Fence,
    /// ID of its cgroup of version 2, where the kernel tells: one that moves is
    /// looked at anew.
    cgroup: Option<u64>,
    pub(super) mapped: Mapped,
}

impl Seen {
    /// What is read here is of this process if the status is, which is read last.
    fn now(held: &Held, stat: &Stat, mapped: Mapped, rules: &Rules) -> Result<Self, String> {
        let fence = rules.surroundings.fence(held.pid);
        let cgroup = pidfd::info(&held.pidfd).ok().and_then(|info| info.cgroup);
        let cgroup = cgroup.filter(|_| on(Check::CgroupMove));
        let status = held.status()?;
        let (parent, session, terminal) = (stat.parent, stat.session, stat.terminal);
        Ok(Self { parent, session, terminal, status, fence, cgroup, mapped })
    }
}

struct Kept {
    generation: Generation,
    at: Instant,
    parent: u32,
    facts: ProcessFacts,
    status: Status,
}

/// A requester that is not the caller.
type Another = (Arc<Held>, Seen);

/// Executables that the pool has read for one request.
pub(super) type Learned = Vec<(Key, Result<Measured, String>)>;

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
            inspector: Inspector::new(Arc::clone(&digests)),
            digests,
            rules: RwLock::new(Arc::new(rules)),
            own_user_namespace,
            ancestors: Mutex::default(),
            serial: AtomicU64::new(0),
            kernel: Mutex::default(),
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

    /// What the kernel enforces, as it was within the last second.
    pub(super) fn kernel(&self) -> Arc<Kernel> {
        let mut kept = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((at, kernel)) if at.elapsed() <= AROUND_FRESH => Arc::clone(kernel),
            _ => {
                let kernel = Arc::new(Kernel::read());
                *kept = Some((Instant::now(), Arc::clone(&kernel)));
                kernel
            }
        }
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who is behind that image?
    pub(super) fn attest(&self, held: &Arc<Held>, learned: &Learned) -> Result<Arc<Cached>, Stop> {
        let rules = self.rules();
        let exe = self.executable_of(held, learned)?;
        let mapped = self.mapped(held, &exe, &rules, learned)?;
        // What was mapped was this image's only if it is the same image still.
        let stat = held.check().map_err(caller)?;
        let seen = Seen::now(held, &stat, mapped, &rules).map_err(caller)?;
        let cached = held.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(cached) = &cached
            && self.holds(cached, &rules, &seen)
        {
            return Ok(Arc::clone(cached));
        }
        let (facts, requester) = self.look(held, &exe, (&stat, &seen), &rules, learned)?;
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
    /// images with the same credentials and mappings, and the one is still the
    /// other's parent.
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
        let mapped = self.own(requester);
        let Ok(stat) = requester.check() else { return false };
        Seen::now(requester, &stat, mapped, rules).is_ok_and(|now| now == *seen)
    }

    fn look(
        &self,
        held: &Arc<Held>,
        exe: &Fact<Measured>,
        (stat, seen): (&Stat, &Seen),
        rules: &Rules,
        learned: &Learned,
    ) -> Result<(Facts, Option<Another>), Stop> {
        rules.clients.refresh();
        let kind = exe.known().and_then(|exe| rules.clients.kind(&exe.exe));
        let via =
            if held.unseen_client() { Via::GenuineClient } else { kind.unwrap_or(Via::Direct) };
        let facts = self.judge(held, exe, (stat, seen), rules);
        let chain = self.walk(held, stat, rules, learned)?;
        let requester = match via {
            Via::Direct => None,
            Via::GenuineClient | Via::EnrolledClient => {
                Some(self.requester(&facts, &chain, rules, learned)?)
            }
        };
        let own = Reached::of(&facts);
        let reached = requester.as_ref().map_or(own, |(above, ..)| own.min(Reached::of(above)));
        let (requester, found) =
            requester.map_or((None, None), |(facts, held, seen)| (Some(facts), Some((held, seen))));
        let facts = Facts {
            caller: facts,
            requester,
            ancestry: chain.into_iter().map(|(_, kept)| kept.facts).collect(),
            via,
            assurance: reached.assurance,
            assurance_with_jit: reached.with_jit,
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
        let exe = self.executable_of(&held, learned)?;
        let mapped = self.own(&held);
        let stat = held.check().map_err(refuse)?;
        let seen = Seen::now(&held, &stat, mapped, rules).map_err(refuse)?;
        let found = if on(Check::RequesterLevelCap) {
            self.judge_above(held.pid, &exe, (&stat, &seen), rules)
        } else {
            self.judge(&held, &exe, (&stat, &seen), rules)
        };
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
        let exe = self.executable_at(pid, learned)?;
        let mapped = match exe.known().filter(|_| !stat.generation.hidden()) {
            Some(exe) => self.inspector.own_of(pid, stat.generation.start_code, exe),
            None => Mapped::default(),
        };
        let (parent, session, terminal) = (stat.parent, stat.session, stat.terminal);
        let seen = Seen { parent, session, terminal, status, fence, cgroup: None, mapped };
        let facts = self.judge_above(pid, &exe, (stat, &seen), rules);
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

    /// The executable of a held image, looked at once.
    fn executable_of(&self, held: &Held, learned: &Learned) -> Result<Arc<Fact<Measured>>, Stop> {
        if let Some(exe) = &*held.exe.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(exe));
        }
        let exe = Arc::new(self.executable_at(held.pid, learned)?);
        held.check().map_err(caller)?;
        *held.exe.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&exe));
        Ok(exe)
    }

    fn executable_at(&self, pid: u32, learned: &Learned) -> Result<Fact<Measured>, Stop> {
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
    Rules {
        clients: Clients::new(config, !advisory.is_empty()),
        advisory,
        machine: Machine::read(),
        surroundings: Surroundings::read(),
        isolated: config.isolated_uids.clone(),
        enforced: Listed { labels: config.enforced_labels.clone(), ima: config.enforced_ima },
        listed: config.listed_libraries.clone(),
    }
}

fn hash_limits(config: &Config) -> (HashLimits, u32) {
    let limits = &config.limits;
    (HashLimits { bytes: limits.hash_bytes, time: limits.hash_timeout }, limits.hashes_per_minute)
}
