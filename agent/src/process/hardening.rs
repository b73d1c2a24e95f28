//! What every process of the agent gives up, foreground and debug mode too.

use super::handoff::Role;
use crate::config::RunAs;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getppid, initgroups, setresgid, setresuid};
use std::ffi::CString;
use std::io;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct HardeningError {
    step: &'static str,
    #[source]
    source: io::Error,
}

fn step<T, E: Into<io::Error>>(
    step: &'static str,
    result: Result<T, E>,
) -> Result<T, HardeningError> {
    result.map_err(|source| HardeningError { step, source: source.into() })
}

/// All that the attestor may keep: to read other users' /proc/PID (exe, maps,
/// map_files, pagemap) and files that only they may read.
fn attestor_capabilities() -> CapsHashSet {
    [
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_CHECKPOINT_RESTORE,
        Capability::CAP_DAC_READ_SEARCH,
    ]
    .into()
}

/// No core file, not traceable by the same uid.
pub(super) fn hide() -> Result<(), HardeningError> {
    step("set RLIMIT_CORE to 0", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    step("become non-dumpable", prctl::set_dumpable(false))
}

/// Before the re-execution: takes the role's uid and keeps its capabilities.
pub(super) fn drop_privileges(role: Role, run_as: Option<&RunAs>) -> Result<(), HardeningError> {
    let keep = kept(role)?;
    if !starts_others(role) && holds(Capability::CAP_SETPCAP)? {
        // Else a process of uid 0 would get everything back when it executes.
        for capability in step("read the bounding set", read(CapSet::Bounding))? {
            if !keep.contains(&capability) {
                let dropped = caps::drop(None, CapSet::Bounding, capability);
                step("shrink the bounding set", dropped.map_err(io::Error::other))?;
            }
        }
    }
    if let Some(user) = run_as {
        step("keep capabilities", prctl::set_keepcaps(true))?;
        let name = CString::new(user.user.as_str()).map_err(io::Error::other);
        let gid = Gid::from_raw(user.gid);
        let uid = Uid::from_raw(user.uid);
        let groups = step("name the user", name)?;
        step("take the user's groups", initgroups(&groups, gid))?;
        step("take the user's gid", setresgid(gid, gid, gid))?;
        step("take the user's uid", setresuid(uid, uid, uid))?;
    }
    limit_capabilities(&keep, true)?;
    if !starts_others(role) {
        // The launcher's children may be set-uid (pinentry helpers, sudo).
        step("set no_new_privs", prctl::set_no_new_privs())?;
    }
    Ok(())
}

/// After the re-execution, first thing: executing gave a new name and made the
/// process dumpable again.
pub(super) fn settle(role: Role, parent: Option<Pid>) -> Result<(), HardeningError> {
    hide()?;
    step("set the process name", prctl::set_name(role.name()))?;
    if let Some(parent) = parent {
        if role != Role::Unwrap {
            // After the last change of uid, which would clear it. One that unwraps
            // has to end its plugin first: it watches its socket instead.
            step("ask to die with the broker", prctl::set_pdeathsig(Signal::SIGKILL))?;
        }
        if getppid() != parent {
            let gone = io::Error::other("the broker has ended");
            return step("begin", Err(gone));
        }
    }
    limit_capabilities(&kept(role)?, false)?;
    if !starts_others(role) {
        step("set no_new_privs", prctl::set_no_new_privs())?;
        // The launcher's children would inherit it, and select(2) breaks past 1024.
        let (_, hard) = step("read RLIMIT_NOFILE", getrlimit(Resource::RLIMIT_NOFILE))?;
        step("raise RLIMIT_NOFILE", setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    }
    Ok(())
}

/// Descriptors that this process may have open.
///
/// # Errors
/// When the kernel does not say (getrlimit(2)).
pub fn descriptor_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Bytes that this process may lock, guarded memory included.
///
/// # Errors
/// When the kernel does not say (getrlimit(2)).
pub fn memlock_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_MEMLOCK)?.0)
}

/// Its children inherit whatever it gives up.
fn starts_others(role: Role) -> bool {
    matches!(role, Role::Launcher | Role::Unwrap)
}

/// What that role keeps of what this process has.
fn kept(role: Role) -> Result<CapsHashSet, HardeningError> {
    if role != Role::Attestor {
        return Ok(CapsHashSet::new());
    }
    let has = step("read capabilities", read(CapSet::Permitted))?;
    Ok(attestor_capabilities().intersection(&has).copied().collect())
}

fn limit_capabilities(keep: &CapsHashSet, over_exec: bool) -> Result<(), HardeningError> {
    let inherited = if over_exec { keep.clone() } else { CapsHashSet::new() };
    // Ambient capabilities need the other sets, so they go first and come last.
    set(CapSet::Ambient, &CapsHashSet::new())?;
    set(CapSet::Effective, keep)?;
    set(CapSet::Permitted, keep)?;
    set(CapSet::Inheritable, &inherited)?;
    set(CapSet::Ambient, &inherited)
}

fn set(which: CapSet, to: &CapsHashSet) -> Result<(), HardeningError> {
    step("limit capabilities", caps::set(None, which, to).map_err(io::Error::other))
}

fn read(which: CapSet) -> io::Result<CapsHashSet> {
    caps::read(None, which).map_err(io::Error::other)
}

fn holds(capability: Capability) -> Result<bool, HardeningError> {
    let held = caps::has_cap(None, CapSet::Effective, capability).map_err(io::Error::other);
    step("read capabilities", held)
}
