//! Privilege separation: one process becomes three, before any runtime,
//! thread, lock or secret exists (OpenSSH's model).

use super::handoff::{Broker, Companion, Handoff, Role};
use super::hardening::{self, HardeningError};
use super::readiness::{Ready, again};
use super::sys::{fds, fork, pidfd, signal};
use super::{InheritedListeners, Settings, credential, daemon, places};
use crate::config::Config;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, geteuid, getpid};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// What the three processes are made of.
pub struct Parts {
    /// The command line's part of the configuration.
    pub settings: Settings,
    /// The configuration, loaded once to have errors early.
    pub config: Config,
    /// The waiting parent's pipe; `None`: foreground.
    pub report: Option<OwnedFd>,
    /// `jsi-agent COMMAND`: its pidfd.
    pub command: Option<OwnedFd>,
    /// Inherited sockets.
    pub listeners: Option<InheritedListeners>,
    /// Foreground: what to print when ready.
    pub print: Option<daemon::Shell>,
    /// The sockets' directory, if it was made for this agent alone.
    pub private_dir: Option<places::PrivateDir>,
}

/// Why the three could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SeparationError {
    /// Privileges could not be given up.
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    /// A directory is missing.
    #[error(transparent)]
    Place(#[from] places::PlaceError),
    /// The kernel refused.
    #[error("cannot start the agent's processes")]
    Os(#[from] io::Error),
    /// A path that JSON cannot carry.
    #[error("cannot hand over the settings: paths have to be UTF-8")]
    Handoff(#[from] serde_json::Error),
}

/// Starts attestor and launcher and becomes the broker, under the present pid.
///
/// # Errors
/// Returns only when that failed; companions that were started end by themselves.
pub fn separate(mut parts: Parts) -> Result<Infallible, SeparationError> {
    let error = match try_separate(&parts) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let Some(dir) = parts.private_dir.take() {
        dir.remove();
    }
    Err(error)
}

fn try_separate(parts: &Parts) -> Result<Infallible, SeparationError> {
    // Not before: a caller that goes on to COMMAND must not feel any of this.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    signal::forget_inherited()?;
    hardening::hide()?;
    let config = &parts.config;
    if let (Some(user), true) = (&config.run_as, geteuid().is_root()) {
        places::prepare_as_root(config, user)?;
    }
    let identity = credential::open_as_root(config);
    let (attestor, attestor_link) = companion(Role::Attestor, parts)?;
    let (launcher, launcher_link) = companion(Role::Launcher, parts)?;
    let attestor_pidfd = pidfd::open(attestor.as_raw().unsigned_abs())?;
    let launcher_pidfd = pidfd::open(launcher.as_raw().unsigned_abs())?;

    fds::close_all_on_exec()?;
    let listeners = parts.listeners.as_ref();
    let agent = listeners.and_then(|l| l.agent.as_ref());
    let admin = listeners.and_then(|l| l.admin.as_ref());
    let bootstrap = listeners.and_then(|l| l.bootstrap.as_ref());
    let keep = |fd: &OwnedFd| fds::keep_over_exec(fd).map(|()| fd.as_raw_fd());
    let optional = |fd: Option<&OwnedFd>| fd.map(keep).transpose();
    let handoff = Handoff {
        settings: parts.settings.clone(),
        report: optional(parts.report.as_ref())?,
        link: None,
        parent: None,
        broker: Some(Broker {
            attestor: Companion {
                pid: attestor.as_raw(),
                link: keep(&attestor_link)?,
                pidfd: keep(&attestor_pidfd)?,
            },
            launcher: Companion {
                pid: launcher.as_raw(),
                link: keep(&launcher_link)?,
                pidfd: keep(&launcher_pidfd)?,
            },
            command: optional(parts.command.as_ref())?,
            identity: optional(identity.as_ref())?,
            agent_listener: optional(agent)?,
            admin_listener: optional(admin)?,
            bootstrap_listener: optional(bootstrap)?,
            print: parts.print,
            private_dir: parts.private_dir.as_ref().map(|dir| dir.path().to_owned()),
        }),
    };
    hardening::drop_privileges(Role::Broker, config.run_as.as_ref())?;
    execute(Role::Broker, &handoff)
}

/// Forks a companion with a link to this process.
fn companion(role: Role, parts: &Parts) -> Result<(Pid, OwnedFd), SeparationError> {
    let kind = SockType::SeqPacket;
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
        .map_err(io::Error::from)?;
    let parent = getpid();
    if let Some(pid) = fork::split()? {
        return Ok((pid, ours));
    }
    drop(ours);
    let error = match become_companion(role, parts, &theirs, parent) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report(parts.report.as_ref(), &error);
    fork::leave(1)
}

fn become_companion(
    role: Role,
    parts: &Parts,
    link: &OwnedFd,
    parent: Pid,
) -> Result<Infallible, SeparationError> {
    signal::leave_to_the_broker()?;
    fds::close_all_on_exec()?;
    fds::keep_over_exec(link)?;
    if let Some(pipe) = &parts.report {
        fds::keep_over_exec(pipe)?;
    }
    let handoff = Handoff {
        settings: parts.settings.clone(),
        report: parts.report.as_ref().map(AsRawFd::as_raw_fd),
        link: Some(link.as_raw_fd()),
        parent: Some(parent.as_raw()),
        broker: None,
    };
    hardening::drop_privileges(role, parts.config.run_as.as_ref())?;
    execute(role, &handoff)
}

/// Executes this same binary again, whatever its path holds by now.
fn execute(role: Role, handoff: &Handoff) -> Result<Infallible, SeparationError> {
    let text = |text: Vec<u8>| CString::new(text).map_err(io::Error::from);
    let argv = [
        text(daemon::BROKER_NAME.to_bytes().to_vec())?,
        text(role.argument().into())?,
        text(serde_json::to_vec(handoff)?)?,
    ];
    // What a service manager says to its main process is for the broker alone,
    // and LISTEN_* has been used up.
    let mut hidden = vec!["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
    // In the background, NOTIFY_SOCKET belongs to whatever service the starter is part of.
    if role != Role::Broker || handoff.report.is_some() {
        hidden.extend(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]);
    }
    let environment = std::env::vars_os()
        .filter(|(name, _)| !hidden.iter().any(|hidden| name == hidden))
        .map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            text(variable.into_vec())
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(nix::unistd::execve(c"/proc/self/exe", &argv, &environment).map_err(io::Error::from)?)
}

/// Tells the waiting parent, else stderr.
pub(super) fn report(pipe: Option<&OwnedFd>, error: &dyn std::error::Error) {
    let text = chain(error);
    let pipe = pipe.and_then(|pipe| again(pipe.as_fd()).ok());
    pipe.map_or_else(|| Ready::to_stdout(String::new()), Ready::to_parent).fail(&text);
}

/// The error and its sources on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
