//! `jsi-agent init`: an identity, the directories and a configuration file.
//! Never overwrites anything; run again, it makes what is missing.

use super::places::Places;
use super::{silent, template};
use crate::config::{self, ConfigError, Environment, IdentityKind, Mode};
use crate::memory::SecretBuf;
use crate::store::{DEFAULT_WORK_FACTOR, NewIdentity, StoreError, systemd};
use clap::Parser;
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
An identity of age-keygen or of an age plugin is named with --identity.
  jsi-agent init                # for yourself, in ~/.config/jsi
  jsi-agent init --ssh-key ~/.ssh/id_ed25519
  sudo jsi-agent init --host    # in /etc/jsi and /var/lib/jsi
  sudo jsi-agent init --host --systemd-creds"
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
    /// Use this SSH key, ed25519 or RSA: where it is, or, for a host agent, a
    /// copy of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "no_passphrase"])]
    ssh_key: Option<PathBuf>,
    /// Have systemd encrypt the key: by host, tpm2 or host+tpm2 (systemd-creds(1)).
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true,
          default_missing_value = "host", conflicts_with_all = ["ssh_key", "no_passphrase"])]
    systemd_creds: Option<String>,
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
    /// systemd did not encrypt it.
    #[error("{0}")]
    Systemd(String),
    /// The SSH key is none.
    #[error("{path} cannot be the identity: {why}", path = path.display())]
    SshKey {
        /// The file.
        path: PathBuf,
        /// What it is, or is not.
        why: String,
    },
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
    /// What the identity is to be, where it is not a key of our own.
    identity: Adopt,
}

/// An identity that somebody else makes.
enum Adopt {
    Nothing,
    /// These bytes: a copy.
    Copy(SecretBuf),
    /// Encrypted by systemd, with that kind of key.
    Systemd(String),
}

/// What came of the identity.
#[derive(PartialEq, Eq)]
enum Made {
    Kept,
    /// It opens by itself, for whoever reads it.
    KeyFile,
    Other,
}

impl Plan {
    fn of(args: &InitArgs) -> Result<Self, InitError> {
        let (places, agent) = match &args.config_dir {
            Some(dir) => (Places::below(&absolute(dir)?), None),
            None => Self::usual(if args.host { Mode::Host } else { Mode::User })?,
        };
        let in_place = args.ssh_key.as_ref().filter(|_| !args.host).or(args.identity.as_ref());
        let spelled_out = args.config_dir.is_some() || in_place.is_some();
        let places = match in_place {
            Some(identity) => places.with_identity(absolute(identity)?),
            None => places,
        };
        let key = args.ssh_key.as_ref().map(|path| ssh_key(path)).transpose()?;
        let identity = match (key, &args.systemd_creds) {
            (Some(key), _) if args.host => Adopt::Copy(key),
            (_, Some(by)) => Adopt::Systemd(by.clone()),
            _ => Adopt::Nothing,
        };
        Ok(Self { places, host: args.host, spelled_out, agent, identity })
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
        if made == Made::KeyFile {
            report.say(&template::key_file_warning(&self.places, self.host))?;
        }
        report.say(&template::next_steps(&self.places, self.host, self.spelled_out))
    }

    fn make_identity(
        &self,
        passphrase: Option<&SecretBuf>,
        work_factor: u8,
        report: &mut Report<'_>,
    ) -> Result<Made, InitError> {
        let path = &self.places.identity;
        if path.symlink_metadata().is_ok() {
            let kind = std::fs::read(path).ok().map(zeroize::Zeroizing::new);
            let kind = kind.and_then(|bytes| IdentityKind::of(&bytes).ok());
            let what =
                kind.map_or("identity".to_owned(), |kind| format!("identity, {}", kind.name()));
            report.line("kept", path, &what)?;
            return Ok(Made::Kept);
        }
        let identity = NewIdentity::generate();
        match &self.identity {
            Adopt::Nothing => {}
            Adopt::Copy(key) => {
                NewIdentity::adopt(key, path, self.agent)?;
                report.line("made", path, "identity, a copy of the SSH key")?;
                return Ok(Made::Other);
            }
            Adopt::Systemd(by) => {
                let sealed = systemd::encrypt(&identity.text(), by).map_err(InitError::Systemd)?;
                NewIdentity::adopt(&sealed, path, self.agent)?;
                let public = identity.public();
                report.line("made", path, &format!("identity, encrypted by systemd; {public}"))?;
                return Ok(Made::Other);
            }
        }
        let sealed = passphrase.map(|passphrase| (passphrase, work_factor));
        identity.write(path, sealed, self.agent)?;
        let kind = if sealed.is_some() { "encrypted by your passphrase" } else { "a key file" };
        report.line("made", path, &format!("identity, {kind}; {}", identity.public()))?;
        Ok(if sealed.is_some() { Made::Other } else { Made::KeyFile })
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

/// The SSH key's bytes, if it is one.
fn ssh_key(path: &Path) -> Result<SecretBuf, InitError> {
    let refuse = |why: String| InitError::SshKey { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let bytes = SecretBuf::new(bytes);
    match IdentityKind::of(bytes.expose()) {
        Ok(IdentityKind::Ssh | IdentityKind::SshPassphrase) => Ok(bytes),
        Ok(kind) => Err(refuse(format!("it is a {}", kind.name()))),
        Err(why) => Err(refuse(why.to_owned())),
    }
}

fn interactive(args: &InitArgs) -> bool {
    !args.no_passphrase
        && args.systemd_creds.is_none()
        && io::stdin().is_terminal()
        && io::stderr().is_terminal()
}

fn ask_passphrase() -> Result<SecretBuf, InitError> {
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
    if std::str::from_utf8(first.expose()).is_err() {
        return Err(InitError::Passphrase("the passphrase is not UTF-8, which age wants"));
    }
    Ok(first)
}

fn ask(question: &str) -> Result<SecretBuf, InitError> {
    silent::line(question)
        .map(|mut line| SecretBuf::new(std::mem::take(&mut *line)))
        .map_err(io_error(Path::new("/dev/tty")))
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
