//! The first instructions of each of the three, after the re-execution.

use super::handoff::{Broker, Companion, Handoff, Role};
use super::readiness::Ready;
use super::separation::chain;
use super::sys::fds;
use super::{BrokerContext, InheritedListeners, Settings, hardening, places, settled, unwrapping};
use crate::config::Config;
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// What each role goes on to do; [`crate::cli`] gives it, since these are
/// later stages.
#[derive(Clone, Copy)]
pub struct Start {
    /// Serves until the agent is to end.
    pub broker: fn(BrokerContext) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    /// Serves until the link closes.
    pub attestor: fn(OwnedFd, Config, Settings) -> io::Result<()>,
    /// Serves until the link closes.
    pub launcher: fn(OwnedFd, Config, Settings) -> io::Result<()>,
    /// Answers one question.
    pub unwrap: fn(OwnedFd, Config) -> io::Result<()>,
}

/// Why a role could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Roles are for the agent's own use.
    #[error("this is how jsi-agent starts its own processes; start jsi-agent without {0}")]
    ByHand(&'static str),
    /// A descriptor that was named is not there.
    #[error("an inherited descriptor is missing")]
    Descriptor(#[source] io::Error),
}

/// Which role those arguments (without the program's name) ask for, if any.
#[must_use]
pub fn of_arguments(arguments: &[OsString]) -> Option<&'static str> {
    let first = arguments.first()?;
    Role::ALL.into_iter().map(Role::argument).find(|role| first == role)
}

/// Does what the role is for, and returns when the process is to end.
#[must_use]
pub fn start(arguments: &[OsString], what: Start) -> ExitCode {
    match begin(arguments, what) {
        Ok(code) => code,
        Err(error) => {
            Ready::to_stdout(String::new()).fail(&chain(&error));
            ExitCode::from(2)
        }
    }
}

fn begin(arguments: &[OsString], what: Start) -> Result<ExitCode, RoleError> {
    let role =
        Role::ALL.into_iter().find(|role| arguments.first().is_some_and(|a| a == role.argument()));
    let Some(role) = role else { return Err(RoleError::ByHand("@")) };
    // The broker's two workers allocate all the time, the others' threads hardly.
    crate::memory::limit_arenas(if role == Role::Broker { 2 } else { 1 });
    let by_hand = RoleError::ByHand(role.argument());
    let text = arguments.get(1).and_then(|text| text.to_str()).unwrap_or_default();
    let Ok(handoff) = serde_json::from_str::<Handoff>(text) else { return Err(by_hand) };
    let pipe = handoff.report.map(fds::inherited).transpose().map_err(RoleError::Descriptor)?;
    let shell = handoff.broker.as_ref().and_then(|broker| broker.print);
    let foreground = pipe.is_none();
    let config = hardening::settle(role, handoff.parent.map(Pid::from_raw))
        .map_err(|error| chain(&error))
        .and_then(|()| handoff.settings.load().map_err(|error| chain(&error)));
    let lines = match (&config, shell) {
        (Ok(config), Some(shell)) => shell.begin(&config.socket, nix::unistd::getpid()),
        _ => None,
    };
    let ready = match pipe {
        Some(pipe) => Ready::to_parent(pipe),
        None => Ready::to_stdout(lines.unwrap_or_default()),
    };
    if foreground {
        log_to_stderr(handoff.settings.debug);
    }
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            ready.fail(&error);
            return Ok(ExitCode::FAILURE);
        }
    };
    match (role, handoff.link, handoff.broker) {
        (Role::Broker, None, Some(broker)) => {
            Ok(be_broker(config, handoff.settings, broker, ready, what))
        }
        (Role::Attestor, Some(link), None) => {
            let link = fds::inherited(link).map_err(RoleError::Descriptor)?;
            let settings = handoff.settings;
            Ok(be_companion(link, config, ready, |link, config| {
                (what.attestor)(link, config, settings)
            }))
        }
        (Role::Launcher, Some(link), None) => {
            let link = fds::inherited(link).map_err(RoleError::Descriptor)?;
            let settings = handoff.settings;
            Ok(be_companion(link, config, ready, |link, config| {
                (what.launcher)(link, config, settings)
            }))
        }
        (Role::Unwrap, None, None) => {
            let answered = unwrapping::link().and_then(|link| (what.unwrap)(link, config));
            Ok(answered.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
        }
        _ => Err(by_hand),
    }
}

fn be_companion(
    link: OwnedFd,
    config: Config,
    ready: Ready,
    run: impl FnOnce(OwnedFd, Config) -> io::Result<()>,
) -> ExitCode {
    // From here on the parent's pipe is the broker's alone.
    drop(ready);
    match settled::tell(&link).and_then(|()| run(link, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn be_broker(
    config: Config,
    settings: super::Settings,
    broker: Broker,
    ready: Ready,
    what: Start,
) -> ExitCode {
    let private_dir = broker.private_dir.clone().map(places::PrivateDir::inherited);
    let companions = [broker.attestor.pid, broker.launcher.pid].map(Pid::from_raw);
    let result = serve(config, settings, broker, ready.clone(), what);
    // Their links are closed by now, so they end; those that do not are killed with us.
    settled::reap(&companions);
    if let Some(dir) = private_dir {
        dir.remove();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ready.fail(&chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn serve(
    config: Config,
    settings: super::Settings,
    broker: Broker,
    ready: Ready,
    what: Start,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let optional = |fd: Option<i32>| fd.map(fds::inherited).transpose();
    let agent = optional(broker.agent_listener)?;
    let admin = optional(broker.admin_listener)?;
    let bootstrap = optional(broker.bootstrap_listener)?;
    // A socket that the command line names has its directory already.
    let own_agent = settings.socket.is_none() && agent.is_none();
    let own_admin = settings.admin_socket.is_none() && admin.is_none();
    let sockets = own_agent.then_some(config.socket.as_path()).into_iter();
    places::prepare(&config, sockets.chain(own_admin.then_some(config.admin_socket.as_path())))?;
    let Companion { pid: attestor_pid, link: attestor, pidfd: attestor_pidfd } = broker.attestor;
    let Companion { pid: launcher_pid, link: launcher, pidfd: launcher_pidfd } = broker.launcher;
    let attestor = fds::inherited(attestor)?;
    let launcher = fds::inherited(launcher)?;
    settled::wait(&attestor, "attestor")?;
    settled::wait(&launcher, "launcher")?;
    (what.broker)(BrokerContext {
        config_path: config.source.clone(),
        config,
        attestor,
        launcher,
        attestor_pid: attestor_pid.unsigned_abs(),
        launcher_pid: launcher_pid.unsigned_abs(),
        attestor_pidfd: fds::inherited(attestor_pidfd)?,
        launcher_pidfd: fds::inherited(launcher_pidfd)?,
        ready,
        listeners: (agent.is_some() || admin.is_some() || bootstrap.is_some())
            .then_some(InheritedListeners { agent, admin, bootstrap }),
        command: optional(broker.command)?,
        identity: optional(broker.identity)?,
        debug: settings.debug,
        settings,
    })
}

/// Foreground only: a daemon's stderr leads nowhere.
fn log_to_stderr(debug: bool) {
    let level = if debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let logger = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .finish();
    // Fails where one is set already, which is as good.
    drop(tracing::subscriber::set_global_default(logger));
}
