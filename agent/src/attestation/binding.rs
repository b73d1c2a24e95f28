//! Which process a lease is bound to, and how it is found again.

use super::ancestry::{Step, parent};
use super::executable::link_text;
use super::held::{Held, alive};
use super::{Anchor, AttestError, ProcessIdentity};
use crate::process::{image, pidfd};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Forked copies that are skipped at most.
const MAX_FORKS: usize = 32;

/// The process that `anchor` means for that caller. `requester` is the held
/// requester, where it is not the caller.
pub(super) fn resolve(
    held: &Held,
    requester: Option<&Arc<Held>>,
    anchor: Anchor,
) -> Result<(ProcessIdentity, OwnedFd), AttestError> {
    let caller = AttestError::Caller;
    let stat = held.check().map_err(caller)?;
    let step = match anchor {
        Anchor::Caller => of_held(held)?,
        Anchor::Requester => skip_forks(of_held(requester.map_or(held, |found| found))?),
        Anchor::Parent => {
            let above = parent(held.pid, &held.pidfd, stat.parent).map_err(caller)?;
            let above = above.ok_or_else(|| {
                caller("its parent lies outside the agent's pid namespace".into())
            })?;
            if above.pid == 1 {
                return Err(caller(
                    "its parent has ended: a lease bound to pid 1 would never end".into(),
                ));
            }
            skip_forks(above)
        }
        Anchor::Session => {
            // A pid is not given anew while it names a session (pid_namespaces(7)).
            let leader = Step::at(stat.session)
                .map_err(|e| caller(format!("the leader of its session: {e}")))?;
            if leader.stat.session != leader.pid || leader.pid <= 1 {
                return Err(caller(format!(
                    "the leader of its session {} has ended",
                    stat.session
                )));
            }
            leader
        }
        Anchor::Pid(pid) => {
            let step = Step::at(pid).map_err(caller)?;
            let uid = uid_of(&step).map_err(caller)?;
            if uid != held.uid {
                // Not whose it is: /proc may be mounted with hidepid.
                return Err(caller(format!(
                    "process {pid} does not run as the caller's uid {}",
                    held.uid
                )));
            }
            step
        }
    };
    held.check().map_err(caller)?;
    let identity = identity(&step);
    alive(&step.pidfd).map_err(|why| {
        caller(format!("process {}, to which the lease was to be bound: {why}", step.pid))
    })?;
    Ok((identity, step.pidfd))
}

/// The process that was named before the agent restarted, within the same boot.
pub(super) fn find(wanted: &ProcessIdentity) -> Option<(ProcessIdentity, OwnedFd)> {
    let step = Step::at(wanted.pid).ok()?;
    if step.stat.generation.start_time != wanted.start_time {
        return None;
    }
    let handle = wanted.pidfs_handle.as_deref();
    let found = match handle.map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes())) {
        None => step.pidfd,
        Some(Err(_)) => return None,
        Some(Ok(handle)) => {
            let found = pidfd::open_handle(&step.pidfd, &handle).ok()?;
            (pidfd::pid(&found).ok()? == Some(wanted.pid)).then_some(found)?
        }
    };
    alive(&found).ok()?;
    Some((wanted.clone(), found))
}

fn of_held(held: &Held) -> Result<Step, AttestError> {
    let stat = held.check().map_err(AttestError::Caller)?;
    let pidfd = held
        .pidfd
        .try_clone()
        .map_err(|e| AttestError::Limit(format!("no descriptor is left: {e}")))?;
    Ok(Step { pid: held.pid, pidfd, stat })
}

/// The process that a shell's user means is the shell, not its subshell: while
/// a process is a forked copy of its parent, that is, the same file with the
/// same non-zero addresses and uid, the parent is meant. Can be forged by the
/// process itself, so it decides bindings only.
fn skip_forks(mut step: Step) -> Step {
    for _ in 0..MAX_FORKS {
        let Ok(Some(above)) = step.parent() else { break };
        if above.pid <= 1 || !forked(&above, &step) {
            break;
        }
        step = above;
    }
    step
}

fn forked(above: &Step, below: &Step) -> bool {
    let (a, b) = (&above.stat.generation, &below.stat.generation);
    let addresses = !a.hidden()
        && !b.hidden()
        && a.start_stack == b.start_stack
        && a.arg_start == b.arg_start
        && a.start_time <= b.start_time;
    addresses
        && file_of(above).is_some_and(|file| Some(file) == file_of(below))
        && uid_of(above).is_ok_and(|uid| uid_of(below) == Ok(uid))
}

fn file_of(step: &Step) -> Option<(u64, u64)> {
    let path = format!("/proc/{}/exe", step.pid);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let stat = image::stat(&file).ok()?;
    alive(&step.pidfd).ok()?;
    Some((stat.device, stat.inode))
}

/// The uid on which real, effective and saved agree.
fn uid_of(step: &Step) -> Result<u32, String> {
    let status =
        super::process::Status::read(step.pid).map_err(|e| format!("process {}: {e}", step.pid))?;
    alive(&step.pidfd)?;
    status.uid().ok_or_else(|| format!("the uids of process {} do not agree", step.pid))
}

fn identity(step: &Step) -> ProcessIdentity {
    ProcessIdentity {
        pid: step.pid,
        start_time: step.stat.generation.start_time,
        pidfs_handle: pidfd::handle(&step.pidfd)
            .ok()
            .map(|handle| data_encoding::HEXLOWER.encode(&handle)),
        exe: link_text(step.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_again_by_its_identity_and_no_other_is() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let step = Step::at(child.id()).unwrap();
        let named = identity(&step);
        let (again, _) = find(&named).unwrap();
        assert_eq!(again, named);
        assert!(
            find(&ProcessIdentity { start_time: named.start_time + 1, ..named.clone() }).is_none()
        );
        if named.pidfs_handle.is_some() {
            let other = identity(&Step::at(std::process::id()).unwrap());
            assert!(
                find(&ProcessIdentity { pidfs_handle: other.pidfs_handle, ..named.clone() })
                    .is_none()
            );
            assert!(
                find(&ProcessIdentity { pidfs_handle: Some("00".into()), ..named.clone() })
                    .is_none()
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(find(&named).is_none());
    }
}
