//! Facts of one process, and the level of assurance that they reach.

use super::enforced::{Evidence, Kernel, Listed, enforced};
use super::generation::Stat;
use super::mapped::Mapped;
use super::process::{NamespaceId, Status, owner_of_namespace};
use super::wire::Reached;
use super::workload::Workload;
use super::{Around, Assurance, Executable, Fact, Namespaces, ProcessFacts, Shortfall};
use crate::mutants::{Check, on};

/// Everything that was read of one process, before it is judged.
pub(super) struct Reading<'a> {
    pub(super) pid: u32,
    pub(super) stat: &'a Stat,
    pub(super) status: &'a Status,
    pub(super) exe: Fact<&'a Executable>,
    /// A set-group-ID client, not dumpable, that this agent may not look into.
    pub(super) group_client: bool,
    /// Its bytes are those of a client. An upgrade deletes the file of one that
    /// runs on, and what it runs is known all the same.
    pub(super) known_client: bool,
    /// What it has mapped, as far as `found` has that looked at.
    pub(super) mapped: &'a Mapped,
    pub(super) found: Found<'a>,
    /// Why the agent is advisory; empty: it is not.
    pub(super) advisory: &'a [String],
    pub(super) own_user_namespace: NamespaceId,
    /// What level 4 is decided by: its label, the kernel, and what root has listed.
    pub(super) enforcing: (&'a Fact<String>, &'a Kernel, &'a Listed),
}

/// How a process is fenced in, as far as its status does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) lsm: Fact<String>,
    pub(super) namespaces: Fact<Namespaces>,
}

/// How a process was found, which decides what it can reach.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    /// It sent the bytes. Why its uid could tamper with it; `None`: it could not.
    Calling(Option<&'a str>),
    /// It stands above the caller: whoever can start a program can stand below it.
    Above,
}

impl Reading<'_> {
    /// The facts, with the level that they reach.
    pub(super) fn judge(self, workload: Workload, fence: Fence) -> ProcessFacts {
        let (reached, shortfalls) = self.levels();
        let [_, gid, _] = self.status.gids;
        let mut groups = self.status.groups.clone();
        if !groups.contains(&gid) {
            groups.insert(0, gid);
        }
        ProcessFacts {
            pid: self.pid,
            parent: self.stat.parent,
            uid: self.status.uids[1],
            gid,
            groups,
            start_time: self.stat.generation.start_time,
            exe: self.exe.map(Clone::clone),
            tty: self.stat.tty().map_or(Fact::Absent, Fact::Known),
            session: self.stat.session,
            unit: workload.unit,
            container: workload.container,
            cgroup: workload.cgroup,
            around: Around {
                invocation: workload.invocation,
                container_runtime: workload.container_runtime,
                pod: workload.pod,
                lsm: fence.lsm,
                seccomp: self.status.seccomp.clone(),
                no_new_privs: self.status.no_new_privs.clone(),
                namespaces: fence.namespaces,
            },
            assurance: reached.assurance,
            assurance_with_jit: reached.with_jit,
            shortfalls,
        }
    }

    /// What is reached, and for each level beyond it all the reasons why it is not.
    pub(super) fn levels(&self) -> (Reached, Vec<Shortfall>) {
        let mut shortfalls = Vec::new();
        let mut miss = |level, reason: &str| {
            shortfalls.push(Shortfall { level, reason: reason.to_owned() });
        };
        let missed = self.missed();
        missed.iter().for_each(|reason| miss(Assurance::Executable, reason));
        if let Some(reason) = self.advisory.first() {
            let reason = format!("the agent is advisory, and no level counts above 1: {reason}");
            miss(Assurance::Image, &reason);
        }
        let mut most = if missed.is_empty() { Assurance::Executable } else { Assurance::Uid };
        let mut with_jit = most;
        match self.found {
            Found::Above => miss(
                Assurance::Image,
                "found by ancestry: whoever can start a program can stand below it",
            ),
            Found::Calling(tampering) => {
                let Mapped { altered, jit, .. } = self.mapped;
                altered.iter().chain(jit).for_each(|reason| miss(Assurance::Image, reason));
                if let Some(reason) = tampering {
                    miss(Assurance::Isolated, reason);
                }
                let enforced = self.enforced();
                if let Err(reason) = &enforced {
                    miss(Assurance::Enforced, reason);
                }
                if missed.is_empty() && altered.is_empty() && self.advisory.is_empty() {
                    with_jit = match (tampering, enforced) {
                        (Some(_), _) => Assurance::Image,
                        (None, Err(_)) => Assurance::Isolated,
                        (None, Ok(())) => Assurance::Enforced,
                    };
                    most = if jit.is_none() { with_jit } else { most };
                }
            }
        }
        (Reached { assurance: most, with_jit }, shortfalls)
    }

    /// Whether the kernel enforces what it runs.
    fn enforced(&self) -> Result<(), String> {
        let exe = self.exe.known();
        let (label, kernel, listed) = self.enforcing;
        let seen = Evidence {
            verity: exe.and_then(|exe| exe.verity.as_deref()),
            ima: exe.and_then(|exe| exe.ima.as_deref()),
            unverified: self.mapped.unverified.as_deref(),
            label,
        };
        enforced(&seen, kernel, listed)
    }

    /// Why level 1 is not reached; empty: it is.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if on(Check::UidsAgree) && self.status.uid().is_none() {
            let [real, effective, saved] = self.status.uids;
            missed.push(format!(
                "its uids do not agree: real {real}, effective {effective}, saved {saved}"
            ));
        }
        if on(Check::Tracer) && self.status.tracer != 0 {
            missed.push(format!("it is traced by pid {}", self.status.tracer));
        }
        if on(Check::ForeignPidNamespace)
            && let Some(reason) = self.foreign_namespace()
        {
            missed.push(reason);
        }
        // Only root can install what gives that group; what it runs cannot be
        // read, and need not be.
        if self.group_client {
            return missed;
        }
        match &self.exe {
            Fact::Known(exe)
                if on(Check::Deleted) && exe.links == 0 && !exe.sealed && !self.known_client =>
            {
                missed.push("its executable has no name: it was deleted, or is a memfd".into());
            }
            Fact::Known(_) => {}
            Fact::Absent => missed.push("it runs no file".into()),
            Fact::Unreadable(reason) => missed.push(reason.clone()),
        }
        if on(Check::ExecutableMapped) {
            missed.extend(self.mapped.foreign.clone());
        }
        if self.stat.generation.hidden() {
            missed.push("its exec generation is hidden: not dumpable, or another uid's, and this agent may not trace it".into());
        } else if on(Check::Randomisation) && !self.stat.randomised() {
            missed.push(
                "address randomisation is off for it, so that its exec generation repeats".into(),
            );
        }
        missed
    }

    /// Whoever is root in a user namespace can forge the sender of a message
    /// among the processes of a pid namespace that it owns.
    fn foreign_namespace(&self) -> Option<String> {
        if self.status.pids.len() == 1 {
            return None;
        }
        match owner_of_namespace(self.pid, "pid") {
            Ok(owner) if owner == self.own_user_namespace => None,
            Ok(_) => Some("it lives in a pid namespace that another user namespace owns, where senders can be forged".into()),
            Err(error) => Some(format!("who owns its pid namespace could not be told: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::Digest;
    use crate::attestation::confinement::Surroundings;
    use crate::attestation::process::own_user_namespace;
    use crate::attestation::workload::Machine;
    use std::sync::OnceLock;

    fn exe(links: u64) -> Fact<Executable> {
        Fact::Known(Executable {
            path: None,
            digest: Digest([1; 32]),
            device: 1,
            inode: 2,
            owner_uid: 0,
            mode: 0o755,
            links,
            sealed: false,
            size: 3,
            verity: None,
            ima: None,
        })
    }

    fn reach(exe: Fact<Executable>, change: impl FnOnce(&mut Stat, &mut Status)) -> (u8, String) {
        let pid = std::process::id();
        let mut stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let mut status = Status::read(pid).unwrap();
        change(&mut stat, &mut status);
        let workload = Machine::read().workload(pid);
        let fence = Surroundings::read().fence(pid);
        let facts = read(pid, &stat, &status, &exe, &Mapped::default(), Found::Above, &[])
            .judge(workload, fence);
        (facts.assurance.level(), facts.shortfalls[0].reason.clone())
    }

    fn read<'a>(
        pid: u32,
        stat: &'a Stat,
        status: &'a Status,
        exe: &'a Fact<Executable>,
        mapped: &'a Mapped,
        found: Found<'a>,
        advisory: &'a [String],
    ) -> Reading<'a> {
        Reading {
            pid,
            stat,
            status,
            exe: exe.as_ref(),
            group_client: false,
            known_client: false,
            mapped,
            found,
            advisory,
            own_user_namespace: own_user_namespace().unwrap(),
            enforcing: (&LABEL, kernel(), listed()),
        }
    }

    static LABEL: Fact<String> = Fact::Absent;

    /// One that enforces all that it is asked to.
    fn kernel() -> &'static Kernel {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        KERNEL.get_or_init(|| Kernel { ima: Ok(()), lsm: Ok(()) })
    }

    fn listed() -> &'static Listed {
        static LISTED: OnceLock<Listed> = OnceLock::new();
        LISTED.get_or_init(|| Listed { labels: [].into(), ima: true })
    }

    /// With and without its JIT, and the reasons for the levels that it misses.
    fn levels(
        mapped: &Mapped,
        found: Found<'_>,
        advisory: &[String],
        ima: Option<&str>,
    ) -> ((u8, u8), Vec<(u8, String)>) {
        let pid = std::process::id();
        let mut stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        // The tests may be run without address randomisation.
        stat.env_end = 0x5555_0000;
        stat.generation.start_stack = 0x5554_0000;
        let status = Status::read(pid).unwrap();
        let mut exe = exe(1);
        if let Fact::Known(exe) = &mut exe {
            exe.ima = ima.map(str::to_owned);
        }
        let (reached, missed) = read(pid, &stat, &status, &exe, mapped, found, advisory).levels();
        let missed = missed.into_iter().map(|one| (one.level.level(), one.reason)).collect();
        ((reached.assurance.level(), reached.with_jit.level()), missed)
    }

    #[test]
    fn each_level_needs_the_one_below_it_and_says_what_it_lacks() {
        let clean = Mapped::default();
        let foreign = Mapped { foreign: Some("foreign".into()), ..Mapped::default() };
        let altered = Mapped { altered: vec!["a".into(), "b".into()], ..Mapped::default() };
        let jit = Mapped { jit: Some("jit".into()), ..Mapped::default() };
        let (open, closed) = (Found::Calling(Some("tampering")), Found::Calling(None));
        let user = ["advisory".to_owned()];
        for (mapped, found, advisory, reached, level, reason) in [
            (&clean, open, &[][..], (2, 2), 3, "tampering"),
            (&clean, closed, &[], (3, 3), 4, "fs-verity"),
            (&altered, closed, &[], (1, 1), 2, "b"),
            (&jit, open, &[], (1, 2), 2, "jit"),
            (&jit, closed, &[], (1, 3), 2, "jit"),
            (&foreign, closed, &[], (0, 0), 1, "foreign"),
            (&clean, Found::Above, &[], (1, 1), 2, "ancestry"),
            (&clean, closed, &user, (1, 1), 2, "advisory"),
            (&jit, open, &user, (1, 1), 3, "tampering"),
        ] {
            let (got, missed) = levels(mapped, found, advisory, None);
            assert_eq!(got, reached, "{reason}: {missed:?}");
            let said = |(at, why): &(u8, String)| *at == level && why.contains(reason);
            assert!(missed.iter().any(said), "{reason}: {missed:?}");
        }
    }

    /// What the kernel enforces counts for nothing where a lower level is missed.
    #[test]
    fn level_4_needs_all_the_levels_below_it() {
        let clean = Mapped::default();
        let altered = Mapped { altered: vec!["a".into()], ..Mapped::default() };
        let foreign = Mapped { foreign: Some("foreign".into()), ..Mapped::default() };
        let jit = Mapped { jit: Some("jit".into()), ..Mapped::default() };
        let (open, closed) = (Found::Calling(Some("tampering")), Found::Calling(None));
        let user = ["advisory".to_owned()];
        for (mapped, found, advisory, reached) in [
            (&clean, closed, &[][..], (4, 4)),
            (&jit, closed, &[], (1, 4)),
            (&clean, open, &[], (2, 2)),
            (&altered, closed, &[], (1, 1)),
            (&foreign, closed, &[], (0, 0)),
            (&clean, Found::Above, &[], (1, 1)),
            (&clean, closed, &user, (1, 1)),
        ] {
            let (got, missed) = levels(mapped, found, advisory, Some("signature"));
            assert_eq!(got, reached, "{missed:?}");
            assert!(missed.iter().all(|(level, _)| *level != 4), "{missed:?}");
        }
    }

    #[test]
    fn level_1_needs_a_named_executable_that_nobody_traces() {
        assert_eq!(reach(exe(1), |_, _| ()).0, 1);
        for (why, (level, reason)) in [
            ("deleted", reach(exe(0), |_, _| ())),
            ("read", reach(Fact::Unreadable("could not be read".into()), |_, _| ())),
            ("no file", reach(Fact::Absent, |_, _| ())),
            ("traced", reach(exe(1), |_, status| status.tracer = 7)),
            ("agree", reach(exe(1), |_, status| status.uids[2] = 77)),
            ("randomisation", reach(exe(1), |stat, _| stat.env_end = 0x7fff_ffff_efe0)),
            ("hidden", reach(exe(1), |stat, _| stat.generation.start_code = 1)),
        ] {
            assert_eq!(level, 0, "{why}");
            assert!(reason.contains(why), "{why}: {reason}");
        }
    }
}
