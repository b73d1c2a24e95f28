//! Starting the process that becomes the command.

use super::link::Link;
use crate::failure::Failure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Child, Command, Stdio};

/// The hidden subcommand that becomes the command.
pub(crate) const UNDER: &str = "exec-under";
/// In the place of the parent's pid where that is a monitor's.
const MONITORED: &str = "-";
/// The hidden subcommand between a terminal and the command.
pub(crate) const MONITOR: &str = "exec-monitor";

/// What is the same each time the command is started.
pub(super) struct Recipe {
    /// What `jsi exec` was given.
    pub(super) arguments: Vec<OsString>,
    /// Signals that were blocked before.
    pub(super) blocked: SigSet,
    /// The soft limit of core dumps as it was.
    pub(super) core: u64,
    /// The child is to tell the values.
    pub(super) secrets: bool,
}

/// What a child of ours is to do.
pub(super) enum Task<'a> {
    /// Become the command.
    Become,
    /// Fill the files in that directory anew, for that process.
    Refresh { pid: u32, directory: &'a str },
}

/// Where the child's output goes; `None`: where ours does.
pub(super) struct Streams {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// A terminal of its own.
    pub(super) terminal: Option<OwnedFd>,
}

impl Recipe {
    /// Starts a child, which dies with this process.
    pub(super) fn start(
        &self,
        task: &Task<'_>,
        link: &mut Link,
        streams: Streams,
    ) -> io::Result<Child> {
        // The monitor puts in itself.
        let parent = match streams.terminal {
            Some(_) => MONITORED.to_owned(),
            None => std::process::id().to_string(),
        };
        let mut command = self.command(task, link, parent);
        if let Some(terminal) = streams.terminal {
            command.stdin(Stdio::from(terminal));
        }
        command.stdout(streams.stdout.map_or_else(Stdio::inherit, Stdio::from));
        command.stderr(streams.stderr.map_or_else(Stdio::inherit, Stdio::from));
        let child = command.spawn();
        link.started();
        child
    }
}

impl Recipe {
    /// Starts a child that says what went wrong to us alone.
    pub(super) fn start_aside(&self, task: &Task<'_>, link: &mut Link) -> io::Result<Child> {
        let mut command = self.command(task, link, std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        link.started();
        child
    }

    fn command(&self, task: &Task<'_>, link: &Link, parent: String) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let [report, go] = link.numbers();
        if parent == MONITORED {
            command.args([MONITOR, &std::process::id().to_string(), &report, &go]);
        }
        let blocked: Vec<_> = self.blocked.iter().map(|signal| signal.as_str()).collect();
        let task = match task {
            Task::Become => "become".to_owned(),
            Task::Refresh { pid, directory } => format!("refresh={pid}={directory}"),
        };
        let secrets = if self.secrets { "secrets" } else { "-" };
        command.arg0("jsi").args([UNDER, &parent, &report, &go]);
        command.args([&blocked.join(","), &self.core.to_string(), secrets, &task]);
        command.args(&self.arguments);
        command
    }
}

/// No dump of this process from here on; the limit as it was, for its children.
pub(super) fn no_core() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_CORE) else { return 0 };
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard); // lower is always allowed
    soft
}

/// What the process that becomes the command is told by its arguments.
pub(crate) struct Orders {
    pub(crate) report: super::link::Report,
    pub(crate) secrets: bool,
    /// Our parent.
    pub(crate) parent: u32,
    /// `None`: become the command.
    pub(crate) refresh: Option<(u32, std::path::PathBuf)>,
    /// The arguments of `jsi exec`.
    pub(crate) arguments: Vec<OsString>,
}

/// Reads the arguments behind [`UNDER`]; ties this process to its parent, and
/// puts back what it inherited for the supervisor's sake.
pub(crate) fn under(words: impl Iterator<Item = OsString>) -> Result<Orders, Failure> {
    let words: Vec<OsString> = words.collect();
    let told = || Failure::usage(format!("{UNDER} is for jsi itself"));
    let Some((head, arguments)) = words.split_at_checked(7) else { return Err(told()) };
    let text: Vec<&str> = head.iter().filter_map(|word| word.to_str()).collect();
    let [parent, report, go, blocked, core, secrets, task] = text.as_slice() else {
        return Err(told());
    };
    let number = |text: &str| text.parse::<i32>().map_err(|_| told());
    let parent = parent.parse().map_err(|_| told())?;
    die_with(parent)?;
    let blocked: SigSet =
        blocked.split(',').filter_map(|name| name.parse::<Signal>().ok()).collect();
    let _ = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK); // of signals that there are
    if let (Ok((_, hard)), Ok(core)) = (getrlimit(Resource::RLIMIT_CORE), core.parse()) {
        let _ = setrlimit(Resource::RLIMIT_CORE, core, hard); // it was allowed before
    }
    let refresh = match task.split('=').collect::<Vec<_>>().as_slice() {
        ["refresh", pid, ..] => {
            let directory = task.splitn(3, '=').nth(2).unwrap_or_default();
            Some((pid.parse().map_err(|_| told())?, directory.into()))
        }
        _ => None,
    };
    let report = super::link::Report::open(number(report)?, number(go)?)
        .map_err(|error| Failure::new(format!("cannot reach the supervisor: {error}")))?;
    Ok(Orders {
        report,
        secrets: *secrets == "secrets",
        parent,
        refresh,
        arguments: arguments.to_vec(),
    })
}

/// The kernel kills this process when its parent ends, however that ends.
pub(crate) fn die_with(parent: u32) -> Result<(), Failure> {
    let done = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    // It may have ended before.
    if done.is_err() || parent_id() != parent {
        return Err(Failure::new("the supervisor of this command is gone"));
    }
    Ok(())
}
