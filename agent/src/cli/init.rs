//! `jsi-agent init`: an identity, the directories and a configuration file.
//! Never overwrites anything; run again, it makes what is missing.

use super::places::Places;
use super::template;
use crate::config::{self, ConfigError, Environment, Mode};
use crate::memory::SecretBuf;
use crate::store::{DEFAULT_WORK_FACTOR, NewIdentity, StoreError};
use clap::Parser;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make the agent's identity, directories and configuration.
#[derive(Debug, Parser)]
#[command(
    name = "jsi-agent init",
    after_help = "\
What is there already is kept. On a terminal it asks for a passphrase; otherwise,
or with --no-passphrase, it makes a key file of mode 0600 and says what that means.
  jsi-agent init                # for yourself, in ~/.config/jsi
  sudo jsi-agent init --host    # in /etc/jsi and /var/lib/jsi"
)]
pub(super) struct InitArgs {
    /// Keep everything below this directory, not in the usual places.
    #[arg(long, value_name = "DIR", conflicts_with = "host")]
    config_dir: Option<PathBuf>,
    /// For the agent of the whole host (as root), not of the calling user.
    #[arg(long)]
    host: bool,
    /// Where the identity is, or is to be [default: beside the configuration].
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Make a key file that opens by itself, even on a terminal.
    #[arg(long)]
    no_passphrase: bool,
}

/// Why `init` failed. Exit code 1, all of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    /// `--host` without root.
    #[error("only root can set up the host agent; run it with sudo, or leave out --host")]
    NotRoot,
    /// The configuration that is there does not hold, or the host agent's user
    /// is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No home.
    #[error("HOME is not set; name a directory with --config-dir")]
    NoHome,
    /// The two passphrases differ, or it is empty.
    #[error("{0}")]
    Passphrase(&'static str),
    /// The identity could not be written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Something else could not be.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// `jsi-agent init` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: InitArgs = match super::parsed("jsi-agent init", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jsi-agent init: {error}");
            ExitCode::from(1)
        }
    }
}

/// Runs it; says on `out` what it made.
///
/// # Errors
/// See [`InitError`]. What was made until then stays, and is kept by the next run.
pub(super) fn run(args: &InitArgs, out: &mut dyn Write) -> Result<(), InitError> {
    let plan = Plan::of(args)?;
    let passphrase = if plan.places.identity.exists() || !interactive(args) {
        None
    } else {
        Some(ask_passphrase()?)
    };
    plan.make(passphrase.as_ref(), DEFAULT_WORK_FACTOR, out)
}

/// What is to be where, and whose.
struct Plan {
    places: Places,
    host: bool,
    /// The places are not those that the agent would take by itself.
    spelled_out: bool,
    /// Uid and gid of the agent, where that is not the caller's.
    agent: Option<(u32, u32)>,
}

impl Plan {
    fn of(args: &InitArgs) -> Result<Self, InitError> {
        let (places, agent) = match &args.config_dir {
            Some(dir) => (Places::below(&absolute(dir)?), None),
            None => Self::usual(if args.host { Mode::Host } else { Mode::User })?,
        };
        let spelled_out = args.config_dir.is_some() || args.identity.is_some();
        let places = match &args.identity {
            Some(identity) => places.with_identity(absolute(identity)?),
            None => places,
        };
        Ok(Self { places, host: args.host, spelled_out, agent })
    }

    /// What the agent would take by itself: a configuration that is there
    /// already counts.
    fn usual(mode: Mode) -> Result<(Places, Option<(u32, u32)>), InitError> {
        let env = Environment::current();
        if mode == Mode::Host && env.euid != 0 {
            return Err(InitError::NotRoot);
        }
        let file = env.config_file(mode).ok_or(InitError::NoHome)?;
        let config = config::load_in(None, Some(mode), &env)?;
        let agent = config.run_as.as_ref().map(|user| (user.uid, user.gid));
        Ok((Places::of(&config, file), agent))
    }

    fn make(
        &self,
        passphrase: Option<&SecretBuf>,
        work_factor: u8,
        out: &mut dyn Write,
    ) -> Result<(), InitError> {
        let Places { config, policy, identity, store, log } = &self.places;
        let mut report = Report { out };
        // Policy is root's in host mode, and the agent's user reads it.
        let (open_mode, nobody) = if self.host { (0o755, None) } else { (0o700, None) };
        if let Some(dir) = config.parent() {
            report.dir(dir, open_mode, nobody)?;
        }
        report.dir(policy, open_mode, nobody)?;
        for dir in [identity.parent(), store.parent(), Some(store), log.parent(), Some(log)] {
            if let Some(dir) = dir.filter(|dir| !dir.exists() || *dir == store || *dir == log) {
                report.dir(dir, 0o700, self.agent)?;
            }
        }
        let made = self.make_identity(passphrase, work_factor, &mut report)?;
        let text = template::config(&self.places, self.host, self.spelled_out);
        report.file(config, if self.host { 0o644 } else { 0o600 }, &text)?;
        if made && passphrase.is_none() {
            report.say(&template::key_file_warning(&self.places, self.host))?;
        }
        report.say(&template::next_steps(&self.places, self.host, self.spelled_out))
    }

    fn make_identity(
        &self,
        passphrase: Option<&SecretBuf>,
        work_factor: u8,
        report: &mut Report<'_>,
    ) -> Result<bool, InitError> {
        let path = &self.places.identity;
        if path.symlink_metadata().is_ok() {
            report.line("kept", path, "identity")?;
            return Ok(false);
        }
        let identity = NewIdentity::generate();
        let sealed = passphrase.map(|passphrase| (passphrase, work_factor));
        identity.write(path, sealed, self.agent)?;
        let kind = if sealed.is_some() { "encrypted by your passphrase" } else { "a key file" };
        report.line("made", path, &format!("identity, {kind}; {}", identity.public()))?;
        Ok(true)
    }
}

/// Makes things and says so.
struct Report<'a> {
    out: &'a mut dyn Write,
}

impl Report<'_> {
    fn dir(&mut self, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(), InitError> {
        if path.is_dir() {
            return self.line("kept", path, "directory");
        }
        make_dir(path, mode, owner).map_err(io_error(path))?;
        self.line("made", path, &format!("directory, mode {mode:04o}"))
    }

    fn file(&mut self, path: &Path, mode: u32, text: &str) -> Result<(), InitError> {
        if path.symlink_metadata().is_ok() {
            return self.line("kept", path, "configuration");
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        })
        .map_err(io_error(path))?;
        self.line("made", path, "configuration")
    }

    fn line(&mut self, verb: &str, path: &Path, what: &str) -> Result<(), InitError> {
        self.say(&format!("{verb}  {}  ({what})\n", path.display()))
    }

    fn say(&mut self, text: &str) -> Result<(), InitError> {
        self.out.write_all(text.as_bytes()).map_err(io_error(Path::new("standard output")))
    }
}

fn make_dir(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    DirBuilder::new().mode(0o700).create(path)?;
    // Whatever the umask is, and by descriptor: the directory above may be the
    // agent's already.
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    dir.set_permissions(Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        fchown(&dir, Some(uid), Some(gid))?;
    }
    dir.sync_all()?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn interactive(args: &InitArgs) -> bool {
    !args.no_passphrase && io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask_passphrase() -> Result<SecretBuf, InitError> {
    let _silence = Silence::begin().map_err(io_error(Path::new("/dev/tty")))?;
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(|text| SecretBuf::new(text.into_bytes()))
            .map_err(io_error(Path::new("/dev/tty")))
    };
    let first = ask("Passphrase for the secret store: ")?;
    if first.is_empty() {
        return Err(InitError::Passphrase(
            "an empty passphrase protects nothing; --no-passphrase makes a key file instead",
        ));
    }
    let again = ask("The same again: ")?;
    if !first.same(again.expose()) {
        return Err(InitError::Passphrase("the two passphrases differ; nothing was made"));
    }
    Ok(first)
}

/// A terminal that shows nothing of what is typed. rpassword hides input only
/// once its question is there, and what comes earlier would be shown;
/// readpassphrase(3) takes the same order. Put back when dropped.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before); // it may be gone
    }
}

fn absolute(path: &Path) -> Result<PathBuf, InitError> {
    std::path::absolute(path).map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |error| InitError::Io { path, error }
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
