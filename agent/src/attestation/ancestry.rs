//! The chain of parents, and which of them may be a requester.

use super::generation::Stat;
use super::held::alive;
use super::process::Status;
use super::{Fact, ProcessFacts};
use crate::mutants::{Check, on};
use crate::process::pidfd;
use std::os::fd::OwnedFd;

/// Longer chains are cut: nobody nests programs that deep by hand.
pub(super) const MAX_ANCESTORS: usize = 32;
/// How often a parent may be replaced while it is looked at.
const RETRIES: usize = 8;

/// A process that was found by walking.
pub(super) struct Step {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) stat: Stat,
}

impl Step {
    /// The process with that pid now, between two looks at its pidfd.
    pub(super) fn at(pid: u32) -> Result<Self, String> {
        let pidfd = pidfd::open(pid).map_err(|e| format!("process {pid}: {e}"))?;
        let text = std::fs::read(format!("/proc/{pid}/stat"))
            .map_err(|e| format!("/proc/{pid}/stat: {e}"))?;
        let stat =
            Stat::parse(&text).ok_or_else(|| format!("/proc/{pid}/stat could not be parsed"))?;
        alive(&pidfd)?;
        Ok(Self { pid, pidfd, stat })
    }

    /// The parent, which was the parent still after it was opened.
    pub(super) fn parent(&self) -> Result<Option<Self>, String> {
        parent(self.pid, &self.pidfd, self.stat.parent)
    }
}

/// The parent of a process whose stat named `expected`; `None` at the top.
pub(super) fn parent(pid: u32, pidfd: &OwnedFd, expected: u32) -> Result<Option<Step>, String> {
    let mut at = expected;
    for _ in 0..RETRIES {
        if at == 0 {
            return Ok(None);
        }
        let step = Step::at(at);
        let now = current_parent(pid, pidfd)?;
        if now == at {
            return step.map(Some);
        }
        at = now;
    }
    Err(format!("the parent of process {pid} changed all the time"))
}

fn current_parent(pid: u32, pidfd: &OwnedFd) -> Result<u32, String> {
    let now = match pidfd::info(pidfd) {
        Ok(info) => info.parent,
        Err(_) => {
            let text = std::fs::read(format!("/proc/{pid}/stat"))
                .map_err(|e| format!("/proc/{pid}/stat: {e}"))?;
            Stat::parse(&text)
                .ok_or_else(|| format!("/proc/{pid}/stat could not be parsed"))?
                .parent
        }
    };
    alive(pidfd)?;
    Ok(now)
}

/// Why an ancestor of `caller` cannot be its requester; `None`: it can.
///
/// An attacker chooses its ancestors: an orphan is adopted by pid 1 or the user
/// manager, a set-user-ID program lends another uid, and a process can be put
/// above one that is older.
pub(super) fn refused(
    found: &ProcessFacts,
    comm: &str,
    status: &Status,
    caller: &ProcessFacts,
) -> Option<String> {
    let who = format!("process {} ({comm:?})", found.pid);
    if on(Check::RequesterNotInit) && (found.pid == 1 || status.is_init()) {
        return Some(format!("{who} is pid 1 of its namespace, which adopts every orphan"));
    }
    let path = found.exe.known().and_then(|exe| exe.path.as_deref());
    let manager = match (&found.exe, path) {
        (Fact::Known(_), Some(path)) => path.ends_with("/systemd"),
        _ => comm == "systemd",
    };
    if on(Check::RequesterNotManager) && manager && found.parent == 1 {
        return Some(format!("{who} is a user manager, which adopts orphans and starts anything"));
    }
    if on(Check::RequesterSameUid) && status.uid() != Some(caller.uid) {
        return Some(format!("{who} does not run as the caller's uid {}", caller.uid));
    }
    if on(Check::RequesterOlder) && found.start_time > caller.start_time {
        return Some(format!("{who} is younger than the caller"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::{Around, Assurance};

    fn facts(pid: u32, parent: u32, start_time: u64) -> ProcessFacts {
        ProcessFacts {
            pid,
            parent,
            uid: 1000,
            gid: 1000,
            groups: vec![],
            start_time,
            exe: Fact::Absent,
            tty: Fact::Absent,
            session: 1,
            unit: Fact::Absent,
            container: Fact::Absent,
            cgroup: Fact::Absent,
            around: Around::NOTHING,
            assurance: Assurance::Uid,
            assurance_with_jit: Assurance::Uid,
            shortfalls: vec![],
        }
    }

    fn status(uid: u32, pids: &[u32]) -> Status {
        Status {
            uids: [uid; 3],
            gids: [1000; 3],
            groups: vec![],
            tracer: 0,
            pids: pids.to_vec(),
            seccomp: Fact::Absent,
            no_new_privs: Fact::Absent,
        }
    }

    #[test]
    fn an_ancestor_that_an_attacker_can_choose_is_no_requester() {
        let caller = facts(50, 40, 500);
        let ask = |found: ProcessFacts, comm: &str, status: Status| {
            refused(&found, comm, &status, &caller)
        };
        assert_eq!(ask(facts(40, 30, 400), "bash", status(1000, &[40])), None);
        assert_eq!(ask(facts(40, 30, 500), "bash", status(1000, &[40])), None, "the same tick");
        for (why, found, comm, status) in [
            ("pid 1", facts(1, 0, 0), "init", status(1000, &[1])),
            ("pid 1", facts(40, 30, 400), "tini", status(1000, &[40, 1])),
            ("user manager", facts(40, 1, 400), "systemd", status(1000, &[40])),
            ("uid 1000", facts(40, 30, 400), "bash", status(0, &[40])),
            ("younger", facts(40, 30, 501), "bash", status(1000, &[40])),
        ] {
            let reason = ask(found, comm, status).unwrap();
            assert!(reason.contains(why), "{why}: {reason}");
        }
    }

    /// A process of the attacker that was put above an older client (by ending
    /// those between, or as a subreaper) did not start it.
    #[test]
    fn a_requester_younger_than_the_caller_is_none() {
        let caller = facts(50, 40, 500);
        let above =
            |start_time| refused(&facts(40, 30, start_time), "bash", &status(1000, &[40]), &caller);
        assert_eq!(above(499), None);
        assert_eq!(above(500), None, "started within the same tick");
        for start_time in [501, 5_000, u64::MAX] {
            let reason = above(start_time).unwrap();
            assert!(reason.contains("younger than the caller"), "{reason}");
        }
    }

    #[test]
    fn the_walk_begins_with_the_real_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let step = Step::at(child.id()).unwrap();
        let above = step.parent().unwrap().unwrap();
        assert_eq!(above.pid, std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(step.parent().is_err(), "a process that has ended has no parent");
    }
}
