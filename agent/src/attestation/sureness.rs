//! How sure the agent is of an image now: what is asked of it at each request,
//! and again right before each delivery.

use super::executable::Measured;
use super::facts::{Found, Reading};
use super::generation::Stat;
use super::held::Held;
use super::mapped::Mapped;
use super::process::{Status, closed};
use super::server::{Learned, Rules, Seen, Server, Stop};
use super::wire::Reached;
use super::{Assurance, Fact, ProcessFacts};
use crate::mutants::{Check, on};
use std::sync::{Arc, PoisonError};

impl Server {
    /// Whether an image that had reached that is alive, the same, and reaches it
    /// still. Says what has changed.
    pub(super) fn still(&self, held: &Held, reached: Reached) -> Result<(), String> {
        let rules = self.rules();
        let exe = held.exe.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mapped = match &exe {
            Some(exe) if reached.with_jit > Assurance::Executable => self
                .mapped(held, exe, &rules, &Vec::new())
                .unwrap_or_else(|_| Mapped::unseen("it has mapped a file that has yet to be read")),
            _ => self.own(held),
        };
        let stat = held.check()?;
        let status = held.status()?;
        let (Some(exe), true) = (exe, reached != Reached::NOTHING) else { return Ok(()) };
        let label = match reached.with_jit {
            Assurance::Enforced => rules.surroundings.label(held.pid),
            _ => Fact::Absent,
        };
        let seen = (&stat, &status, &mapped, &label);
        let (now, missed) = self.reading(held, &exe, seen, &rules, |reading| reading.levels());
        let kept = now.assurance >= reached.assurance && now.with_jit >= reached.with_jit;
        if kept || !on(Check::LevelKept) {
            return Ok(());
        }
        let why = missed.into_iter().map(|missed| missed.reason).next().unwrap_or_default();
        let had = reached.with_jit.level();
        Err(format!("it had reached level {had} and does not any more: {why}"))
    }

    /// A process that stands above the caller.
    pub(super) fn judge_above(
        &self,
        pid: u32,
        exe: &Fact<Measured>,
        (stat, seen): (&Stat, &Seen),
        rules: &Rules,
    ) -> ProcessFacts {
        let reading = Reading {
            pid,
            stat,
            status: &seen.status,
            exe: exe.as_ref().map(|measured| &measured.exe),
            group_client: false,
            known_client: false,
            mapped: &seen.mapped,
            found: Found::Above,
            advisory: &[],
            own_user_namespace: self.own_user_namespace,
            enforcing: (&seen.fence.lsm, &self.kernel(), &rules.enforced),
        };
        reading.judge(rules.machine.workload(pid), seen.fence.clone())
    }

    /// A held image that calls.
    pub(super) fn judge(
        &self,
        held: &Held,
        exe: &Fact<Measured>,
        (stat, seen): (&Stat, &Seen),
        rules: &Rules,
    ) -> ProcessFacts {
        let (workload, fence) = (rules.machine.workload(held.pid), seen.fence.clone());
        let seen = (stat, &seen.status, &seen.mapped, &seen.fence.lsm);
        self.reading(held, exe, seen, rules, |reading| reading.judge(workload, fence))
    }

    /// What was read of a held image that calls.
    fn reading<T>(
        &self,
        held: &Held,
        exe: &Fact<Measured>,
        (stat, status, mapped, label): (&Stat, &Status, &Mapped, &Fact<String>),
        rules: &Rules,
        then: impl FnOnce(Reading<'_>) -> T,
    ) -> T {
        let exe = exe.as_ref().map(|measured| &measured.exe);
        let genuine = exe.known().is_some_and(|exe| rules.clients.is_genuine(exe));
        let tampering = tampering(held, genuine, rules);
        then(Reading {
            pid: held.pid,
            stat,
            status,
            group_client: held.unseen_client(),
            known_client: exe.known().is_some_and(|exe| rules.clients.kind(exe).is_some()),
            exe,
            mapped,
            found: Found::Calling(tampering.as_deref()),
            advisory: if on(Check::AdvisoryCap) { &rules.advisory } else { &[] },
            own_user_namespace: self.own_user_namespace,
            enforcing: (label, &self.kernel(), &rules.enforced),
        })
    }

    /// What a held image has mapped, all of it.
    pub(super) fn mapped(
        &self,
        held: &Held,
        exe: &Fact<Measured>,
        rules: &Arc<Rules>,
        learned: &Learned,
    ) -> Result<Mapped, Stop> {
        match exe {
            // Only root can install what gives that group: it is what it was
            // installed as, and nobody of its uid can look into it.
            _ if held.unseen_client() => Ok(Mapped::default()),
            Fact::Known(exe) => self.inspector.whole(held, exe, rules, learned),
            Fact::Absent | Fact::Unreadable(_) => Ok(Mapped::unseen("its executable is not known")),
        }
    }

    /// Whether a held image runs its executable, and no more than that.
    pub(super) fn own(&self, held: &Held) -> Mapped {
        let exe = held.exe.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match exe.as_deref() {
            Some(Fact::Known(exe)) => self.inspector.own(held, exe),
            _ => Mapped::default(),
        }
    }
}

/// How programs of its uid could have tampered with a held image; `None`: not
/// at all. That it hid itself earns nothing, since its memory may have been
/// opened before: a client that root installed set-group-ID was hidden from its
/// first instruction.
fn tampering(held: &Held, genuine: bool, rules: &Rules) -> Option<String> {
    let client = held.group_client && (genuine || held.unseen_client());
    if client || rules.isolated.contains(&held.uid) || !on(Check::Isolation) {
        return None;
    }
    let uid = held.uid;
    if uid == 0 {
        return Some("uid 0 is never isolated: every root process could tamper".to_owned());
    }
    let why =
        format!("uid {uid} is not in isolated_uids: its other programs can reach into this one");
    if closed(&held.pidfd, held.pid) == Some(true) {
        return Some(format!(
            "it is not dumpable, which earns nothing since its memory may have been opened before; {why}"
        ));
    }
    Some(why)
}
