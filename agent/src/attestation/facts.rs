//! Facts of one process, and the level of assurance that they reach.

use super::generation::Stat;
use super::process::{NamespaceId, Status, owner_of_namespace};
use super::workload::Workload;
use super::{Around, Assurance, Executable, Fact, Namespaces, ProcessFacts, Shortfall};
use crate::mutants::{Check, on};

/// Everything that was read of one process, before it is judged.
pub(super) struct Reading<'a> {
    pub(super) pid: u32,
    pub(super) stat: &'a Stat,
    pub(super) status: &'a Status,
    pub(super) exe: Fact<Executable>,
    /// A set-group-ID client, not dumpable.
    pub(super) group_client: bool,
    /// Its bytes are those of a client. An upgrade deletes the file of one that
    /// runs on, and what it runs is known all the same.
    pub(super) known_client: bool,
    pub(super) own_user_namespace: NamespaceId,
    pub(super) workload: Workload,
    pub(super) fence: Fence,
}

/// How a process is fenced in, as far as its status does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) lsm: Fact<String>,
    pub(super) namespaces: Fact<Namespaces>,
}

impl Reading<'_> {
    /// The facts, with the level that they reach.
    pub(super) fn judge(self) -> ProcessFacts {
        let missed = self.missed();
        let assurance = if missed.is_empty() { Assurance::Executable } else { Assurance::Uid };
        let mut shortfalls: Vec<Shortfall> = missed
            .into_iter()
            .map(|reason| Shortfall { level: Assurance::Executable, reason })
            .collect();
        for (level, reason) in [
            (Assurance::Image, "this version does not check the mapped image"),
            (
                Assurance::Isolated,
                "this version does not check the mapped image, which isolation builds on",
            ),
            (Assurance::Enforced, "this version does not ask fs-verity, IMA or an LSM"),
        ] {
            shortfalls.push(Shortfall { level, reason: reason.to_owned() });
        }
        let (workload, fence) = (self.workload, self.fence);
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
            exe: self.exe,
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
            assurance,
            shortfalls,
        }
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
            Fact::Known(exe) if on(Check::Deleted) && exe.links == 0 && !self.known_client => {
                missed.push("its executable has no name: it was deleted, or is a memfd".into());
            }
            Fact::Known(_) => {}
            Fact::Absent => missed.push("it runs no file".into()),
            Fact::Unreadable(reason) => missed.push(reason.clone()),
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

    fn exe(links: u64) -> Fact<Executable> {
        Fact::Known(Executable {
            path: None,
            digest: Digest([1; 32]),
            device: 1,
            inode: 2,
            owner_uid: 0,
            mode: 0o755,
            links,
            size: 3,
            verity: None,
        })
    }

    fn reach(exe: Fact<Executable>, change: impl FnOnce(&mut Stat, &mut Status)) -> (u8, String) {
        let pid = std::process::id();
        let mut stat = Stat::parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let mut status = Status::read(pid).unwrap();
        change(&mut stat, &mut status);
        let own_user_namespace = own_user_namespace().unwrap();
        let facts = Reading {
            pid,
            stat: &stat,
            status: &status,
            exe,
            group_client: false,
            known_client: false,
            own_user_namespace,
            workload: Machine::read().workload(pid),
            fence: Surroundings::read().fence(pid),
        }
        .judge();
        (facts.assurance.level(), facts.shortfalls[0].reason.clone())
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
