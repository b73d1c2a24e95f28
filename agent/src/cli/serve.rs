//! `jsi-agent`, `jsi-agent COMMAND…`, `jsi-agent -k`: in ssh-agent's manner.

use crate::config::{Config, ConfigError, Mode};
use crate::process::daemon::{self, KillError, Shell};
use crate::process::{
    Background, BackgroundError, InheritedListeners, ListenError, Parts, PrivateDir,
    SeparationError, Settings, in_state_directory, separate,
};
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Without COMMAND it goes to the background and prints shell lines; with COMMAND it
lives as long as COMMAND does.
  jsi-agent init          make a key, directories and a configuration, first
  eval \"$(jsi-agent)\"    start; sets JSI_AUTH_SOCK and JSI_AGENT_PID
  jsi-agent psql orders   run one command with an agent of its own
  eval \"$(jsi-agent -k)\"  end it
Also, each with --help: jsi-agent check, jsi-agent audit.

Configuration: /etc/jsi/agent.toml for root where it is there, else
$XDG_CONFIG_HOME/jsi/agent.toml or ~/.config/jsi/agent.toml; none is needed.
SIGHUP reloads, SIGUSR1 ends all leases, SIGTERM revokes and exits, SIGUSR2 exits and
leaves the leases to the agent that is started next.";

/// The agent: attests who asks, decides by policy, leases short-lived credentials.
#[derive(Parser)]
#[command(name = "jsi-agent", version = crate::mutants::VERSION, disable_help_subcommand = true, after_help = HELP)]
pub(super) struct Options {
    /// Print lines for a Bourne shell
    #[arg(short = 's', conflicts_with = "c_shell")]
    bourne: bool,
    /// Print lines for a C shell (the default where $SHELL ends in csh)
    #[arg(short = 'c')]
    c_shell: bool,
    /// End the agent that JSI_AGENT_PID names
    #[arg(short = 'k', conflicts_with_all = ["command", "foreground", "debug", "socket"])]
    kill: bool,
    /// The agent socket; the admin socket lies beside it
    #[arg(short = 'a', value_name = "SOCKET")]
    socket: Option<PathBuf>,
    /// The longest lifetime of a lease: 90, 15m, 1h30m, 2d, 1w
    #[arg(short = 't', value_name = "LIFETIME", value_parser = super::lifetime::parse)]
    lifetime: Option<Duration>,
    /// Stay in the foreground
    #[arg(short = 'D')]
    foreground: bool,
    /// Stay in the foreground and log every step to stderr
    #[arg(short = 'd')]
    debug: bool,
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket
    #[arg(long, value_name = "SOCKET")]
    admin_socket: Option<PathBuf>,
    /// Offer gRPC reflection
    #[arg(long)]
    reflection: bool,
    /// Runs with the agent in its environment; its end ends the agent
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why no agent runs.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Kill(#[from] KillError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Separation(#[from] SeparationError),
    #[error(transparent)]
    Background(#[from] BackgroundError),
    #[error("cannot find out the working directory")]
    Directory(#[source] io::Error),
    #[error("cannot make a private directory for the socket")]
    PrivateDir(#[source] io::Error),
    #[error("cannot print")]
    Print(#[source] io::Error),
    #[error(
        "the socket path {0:?} holds control characters or is not UTF-8; choose another with -a"
    )]
    SocketPath(PathBuf),
    #[error("-D and -d stay in the foreground, so they take no COMMAND")]
    ForegroundCommand,
    #[error("cannot execute {0:?}")]
    Command(OsString, #[source] io::Error),
}

/// Runs it and prints what went wrong.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let words = std::iter::once(OsString::from("jsi-agent")).chain(arguments.iter().cloned());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(usage) => {
            drop(usage.print());
            return ExitCode::from(u8::from(usage.use_stderr()) * 2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text.push_str(&format!(": {error}"));
                source = error.source();
            }
            drop(writeln!(io::stderr(), "jsi-agent: {text}"));
            exit_code(&error)
        }
    }
}

/// As env(1) and the shells have it for COMMAND; 2 for wrong usage.
fn exit_code(error: &ServeError) -> ExitCode {
    match error {
        ServeError::Command(_, source) if source.kind() == io::ErrorKind::NotFound => {
            ExitCode::from(127)
        }
        ServeError::Command(..) => ExitCode::from(126),
        ServeError::ForegroundCommand => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn run(options: Options) -> Result<(), ServeError> {
    let shell = match (options.bourne, options.c_shell) {
        (true, _) => Shell::Bourne,
        (_, true) => Shell::C,
        _ => Shell::from_environment(),
    };
    if options.kill {
        let pid = daemon::kill()?;
        return print(&shell.end(pid));
    }
    if (options.foreground || options.debug) && !options.command.is_empty() {
        return Err(ServeError::ForegroundCommand);
    }
    let listeners = InheritedListeners::from_environment()?;
    let (mut settings, config) = configure(&options, listeners.as_ref())?;
    let (config, private_dir) = place(config, &mut settings, listeners.is_some())?;
    let lines = |pid| {
        let lines = shell.begin(&config.socket, pid);
        lines.ok_or_else(|| ServeError::SocketPath(config.socket.clone()))
    };
    lines(nix::unistd::getpid())?; // before anything is started
    // A service manager tracks the process that it started.
    let foreground = options.foreground || options.debug || listeners.is_some();
    let parts = Parts {
        settings,
        config: config.clone(),
        report: None,
        command: None,
        print: (foreground && listeners.is_none()).then_some(shell),
        listeners,
        private_dir,
    };
    match options.command.first().cloned() {
        Some(name) => {
            let agent = Background::start(parts, true)?;
            match agent.become_command(options.command) {
                Ok(never) => match never {},
                Err(error) => Err(ServeError::Command(name, error)),
            }
        }
        None if foreground => match separate(parts)? {},
        None => {
            let agent = Background::start(parts, false)?;
            print(&lines(agent.pid)?)
        }
    }
}

/// Loads the configuration once, to have errors early, and fixes what it was
/// loaded from for the processes that load it again.
fn configure(
    options: &Options,
    listeners: Option<&InheritedListeners>,
) -> Result<(Settings, Config), ServeError> {
    let absolute = |path: &Option<PathBuf>| {
        path.as_ref().map(std::path::absolute).transpose().map_err(ServeError::Directory)
    };
    let socket = match listeners.and_then(InheritedListeners::agent_path) {
        Some(path) => Some(path),
        None => absolute(&options.socket)?,
    };
    let admin_socket = match listeners.and_then(InheritedListeners::admin_path) {
        Some(path) => Some(path),
        None => absolute(&options.admin_socket)?
            .or_else(|| options.socket.is_some().then(|| beside(socket.as_deref()?)).flatten()),
    };
    let mut settings = Settings {
        config: absolute(&options.config)?,
        host: None,
        socket,
        admin_socket,
        identity: None,
        reflection: options.reflection,
        max_lifetime: options.lifetime,
        debug: options.debug,
    };
    let config = settings.load()?;
    settings.config.clone_from(&config.source);
    settings.host = Some(config.mode == Mode::Host);
    Ok((settings, config))
}

/// The admin socket of that agent socket.
fn beside(socket: &Path) -> Option<PathBuf> {
    let name = socket.file_name()?;
    if name == "agent.sock" {
        return Some(socket.with_file_name("admin.sock"));
    }
    let mut name = name.to_owned();
    name.push(".admin");
    Some(socket.with_file_name(name))
}

/// Without a runtime directory a user agent gets a directory of its own, as
/// ssh-agent does.
fn place(
    mut config: Config,
    settings: &mut Settings,
    inherited: bool,
) -> Result<(Config, Option<PrivateDir>), ServeError> {
    let chosen = settings.socket.is_some() || inherited || config.mode == Mode::Host;
    let runtime_dir =
        std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).is_absolute());
    if chosen || runtime_dir || !in_state_directory(&config.socket) {
        return Ok((config, None));
    }
    let dir = PrivateDir::create().map_err(ServeError::PrivateDir)?;
    config.socket = dir.path().join("agent.sock");
    settings.socket = Some(config.socket.clone());
    if settings.admin_socket.is_none() {
        config.admin_socket = dir.path().join("admin.sock");
        settings.admin_socket = Some(config.admin_socket.clone());
    }
    Ok((config, Some(dir)))
}

fn print(lines: &str) -> Result<(), ServeError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()).map_err(ServeError::Print)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once(&"jsi-agent").chain(words))
    }

    #[test]
    fn everything_behind_the_command_is_its_own() {
        let options = parse(&["-a", "/s", "psql", "-d", "orders", "--help"]).unwrap();
        assert_eq!(options.command, ["psql", "-d", "orders", "--help"]);
        assert!(!options.debug);
        assert_eq!(parse(&["--", "init"]).unwrap().command, ["init"]);
        assert_eq!(parse(&["--", "-x"]).unwrap().command, ["-x"]);
    }

    #[test]
    fn contradictions_are_not_taken() {
        for words in
            [&["-s", "-c"][..], &["-k", "true"], &["-k", "-D"], &["-t", "x"], &["--nonsense"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_admin_socket_lies_beside_the_agent_socket() {
        assert_eq!(beside(Path::new("/a/agent.sock")), Some("/a/admin.sock".into()));
        assert_eq!(beside(Path::new("/a/s")), Some("/a/s.admin".into()));
    }
}
