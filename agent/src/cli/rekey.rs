//! `jsi-agent rekey`: gives the store another identity. All files or none.

use super::asking::{OnTerminal, Passphrases};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, IdentityKind, Mode, RunAs};
use crate::log::{Event, Log, LogError};
use crate::memory::SecretBuf;
use crate::process::{Settings, open_credential_as_root};
use crate::store::{
    DEFAULT_WORK_FACTOR, Direct, NewBytes, NewIdentity, Rekeyed, Store, StoreError,
    staged_identity, systemd,
};
use clap::Parser;
use nix::unistd::{Gid, Uid, geteuid, initgroups, setresgid, setresuid};
use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Wrong passphrases of the present identity before it gives up.
const TRIES: u32 = 3;

/// Give the store another identity: seal every file anew, all or none.
#[derive(Debug, Parser)]
#[command(
    name = "jsi-agent rekey",
    after_help = "\
The agent must not run. Without --no-passphrase, --ssh-key, --identity or
--systemd-creds it makes a key with a new passphrase. Every file is seen to open
under the new identity before the old one goes; that is kept beside it, as
identity.old-TIME, until you remove it: older backups of the store need it.
Killed at any moment, the next start of the agent finishes or undoes it.
  jsi rekey                                  # a new passphrase
  jsi rekey --ssh-key ~/.ssh/id_ed25519      # a copy of that key
  jsi rekey --identity tpm-identity.txt      # of an age plugin, or of age-keygen
  sudo jsi rekey --host --systemd-creds      # the key encrypted by systemd"
)]
pub(super) struct RekeyArgs {
    /// The agent's configuration [default: the one that the agent would take].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The host agent's store (as root).
    #[arg(long)]
    host: bool,
    /// A new key file that opens by itself.
    #[arg(long, group = "new")]
    no_passphrase: bool,
    /// Take a copy of this SSH key, ed25519 or RSA.
    #[arg(long, value_name = "FILE", group = "new")]
    ssh_key: Option<PathBuf>,
    /// Take a copy of this identity: of age-keygen, an age plugin, or systemd.
    #[arg(long, value_name = "FILE", group = "new")]
    identity: Option<PathBuf>,
    /// A new key, encrypted by systemd: by host, tpm2 or host+tpm2.
    #[arg(long, value_name = "KEY", group = "new", num_args = 0..=1, require_equals = true,
          default_missing_value = "host")]
    systemd_creds: Option<String>,
    /// Read passphrases from standard input, one a line: the present identity's
    /// if it has one, then the new one's.
    #[arg(long)]
    stdin: bool,
}

/// Why it failed. Nothing was changed, all of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum RekeyError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store, or an identity.
    #[error("{0}; nothing was changed")]
    Store(#[from] StoreError),
    /// The log is in use: an agent runs.
    #[error("{0}; nothing was changed")]
    Log(#[from] LogError),
    /// systemd-creds.
    #[error("{0}; nothing was changed")]
    Systemd(String),
    /// A passphrase could not be had.
    #[error("{0}; nothing was changed")]
    Passphrase(io::Error),
    /// A file that was named.
    #[error("{}: {why}; nothing was changed", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The agent's uid could not be taken.
    #[error("cannot become the agent's user: {0}")]
    User(io::Error),
}

impl RekeyError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Passphrase(error) if error.kind() == io::ErrorKind::Interrupted => 130,
            Self::Store(StoreError::WrongPassphrase) => 3,
            _ => 1,
        }
    }
}

/// `jsi-agent rekey` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: RekeyArgs = match super::parsed("jsi-agent rekey", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    // Keys of both identities are about to be here.
    let _ = nix::sys::prctl::set_dumpable(false);
    match run(&args) {
        Ok(done) => {
            say(&done);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("jsi-agent rekey: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn say(done: &Rekeyed) {
    eprintln!(
        "{} files are sealed anew: the identity was a {}, and is a {}\n\
         the old one is kept as {}\n\
         remove it once no backup of the store from before is needed",
        done.files,
        done.from.name(),
        done.to.name(),
        done.kept.display()
    );
}

fn run(args: &RekeyArgs) -> Result<Rekeyed, RekeyError> {
    let mode = args.host.then_some(Mode::Host);
    let config = config::load(args.config.as_deref(), mode)?;
    let passphrases = Passphrases::of(args.stdin);
    // What only root can do comes before root goes.
    let by_systemd = by_systemd(&config);
    let new = New::of(args)?;
    if let (Some(user), true) = (&config.run_as, geteuid().is_root()) {
        become_user(user).map_err(RekeyError::User)?;
    }
    let settings = Settings {
        config: config.source.clone(),
        host: Some(config.mode == Mode::Host),
        ..Settings::default()
    };
    // Its lock says that no agent runs; and it is told what is done here.
    let clock = Clock::system();
    let (log, _) = Log::open(&config.log_dir, clock.clone(), None, config.limits.segment_bytes)?;
    let store = Store::open_alone(&config.store_dir, &config.identity)?;
    let direct = Direct::new(settings.clone(), Arc::new(OnTerminal));
    let store = store.with_remote(Arc::new(direct));
    open(&store, &config, passphrases, by_systemd)?;
    let new = new.ready(passphrases, &config, settings)?;
    let stamp = clock.now().wall.rfc3339().replace([':', '-'], "");
    let stamp = stamp.split('.').next().unwrap_or_default();
    let mut progress = Progress::default();
    let done = store.rekey(new, stamp, &mut |done, all| progress.show(done, all));
    progress.end();
    let done = done?;
    record(&log, &done);
    Ok(done)
}

/// The present identity, opened by systemd for root.
fn by_systemd(config: &Config) -> SecretBuf {
    let mut key = zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024));
    if let Some(pipe) = open_credential_as_root(config) {
        // Where nothing comes, it is asked for in other ways, which say why not.
        let _ = std::fs::File::from(pipe).take(64 * 1024).read_to_end(&mut key);
    }
    SecretBuf::new(std::mem::take(&mut *key))
}

fn open(
    store: &Store,
    config: &Config,
    passphrases: Passphrases,
    by_systemd: SecretBuf,
) -> Result<(), RekeyError> {
    if !store.is_locked() {
        return Ok(());
    }
    if !store.identity_kind()?.has_passphrase() {
        return Ok(store.unlock(&by_systemd)?);
    }
    let whose = format!("the present identity, {}", config.identity.display());
    let tries = if passphrases == Passphrases::Terminal { TRIES } else { 1 };
    for left in (0..tries).rev() {
        let passphrase = passphrases.ask(&whose).map_err(RekeyError::Passphrase)?;
        match store.unlock(&passphrase) {
            Err(StoreError::WrongPassphrase) if left > 0 => {
                eprintln!("the passphrase is wrong; {left} more");
            }
            opened => return Ok(opened?),
        }
    }
    Err(StoreError::WrongPassphrase.into())
}

/// The new identity, before its passphrase is asked for.
enum New {
    /// A key that is to get a passphrase.
    Passphrase(NewIdentity),
    /// The whole file, and what opens it where that is known.
    File { from: PathBuf, bytes: SecretBuf, kind: IdentityKind, opened_by: SecretBuf },
}

impl New {
    fn of(args: &RekeyArgs) -> Result<Self, RekeyError> {
        let none = || SecretBuf::new(Vec::new());
        if let Some(path) = args.ssh_key.as_ref().or(args.identity.as_ref()) {
            return Self::adopted(path, args.ssh_key.is_some());
        }
        let key = NewIdentity::generate();
        if let Some(by) = &args.systemd_creds {
            let bytes = systemd::encrypt(&key.text(), by).map_err(RekeyError::Systemd)?;
            let kind = kind_of(Path::new("systemd-creds"), &bytes)?;
            let from = PathBuf::from("systemd-creds");
            return Ok(Self::File { from, bytes, kind, opened_by: key.text() });
        }
        if args.no_passphrase {
            let (from, kind) = (PathBuf::new(), IdentityKind::KeyFile);
            return Ok(Self::File { from, bytes: key.text(), kind, opened_by: none() });
        }
        Ok(Self::Passphrase(key))
    }

    fn adopted(path: &Path, ssh: bool) -> Result<Self, RekeyError> {
        let wrong = |why: String| RekeyError::File { path: path.to_owned(), why };
        let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        if !file.metadata().is_ok_and(|facts| facts.is_file()) {
            return Err(wrong("it is not a regular file".to_owned()));
        }
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024 + 1));
        let read = file.take(64 * 1024).read_to_end(&mut bytes);
        read.map_err(|error| wrong(error.to_string()))?;
        let bytes = SecretBuf::new(std::mem::take(&mut *bytes));
        let kind = kind_of(path, &bytes)?;
        if ssh && !matches!(kind, IdentityKind::Ssh | IdentityKind::SshPassphrase) {
            return Err(wrong(format!("it is a {}, not an SSH key", kind.name())));
        }
        let opened_by = match kind {
            IdentityKind::SystemdCreds { .. } => {
                systemd::decrypt(bytes.expose()).map_err(RekeyError::Systemd)?
            }
            _ => SecretBuf::new(Vec::new()),
        };
        Ok(Self::File { from: path.to_owned(), bytes, kind, opened_by })
    }

    fn ready(
        self,
        passphrases: Passphrases,
        config: &Config,
        settings: Settings,
    ) -> Result<NewBytes, RekeyError> {
        match self {
            Self::Passphrase(key) => {
                let new = passphrases.ask_new().map_err(RekeyError::Passphrase)?;
                let file = key.encrypted(&new, DEFAULT_WORK_FACTOR)?;
                Ok(NewBytes { file, opened_by: new, remote: None })
            }
            Self::File { from, bytes, kind, opened_by } => {
                let opened_by = if kind.has_passphrase() {
                    let whose = from.display().to_string();
                    passphrases.ask(&whose).map_err(RekeyError::Passphrase)?
                } else {
                    opened_by
                };
                let identity = Some(staged_identity(&config.identity));
                let direct = Direct::new(Settings { identity, ..settings }, Arc::new(OnTerminal));
                Ok(NewBytes { file: bytes, opened_by, remote: Some(Arc::new(direct)) })
            }
        }
    }
}

fn kind_of(path: &Path, bytes: &SecretBuf) -> Result<IdentityKind, RekeyError> {
    IdentityKind::of(bytes.expose())
        .map_err(|why| RekeyError::File { path: path.to_owned(), why: why.to_owned() })
}

/// So that everything that is made belongs to the agent, and no link in its
/// directories leads root anywhere.
fn become_user(user: &RunAs) -> io::Result<()> {
    let name = CString::new(user.user.as_str()).map_err(io::Error::other)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    initgroups(&name, gid)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // A change of uid makes it dumpable again or not, by a sysctl: say it.
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// The log is not what it hangs on: the store has its new identity already.
fn record(log: &Log, done: &Rekeyed) {
    let detail = format!(
        "{} files; from {} to {}; the old identity is {}",
        done.files,
        done.from.name(),
        done.to.name(),
        done.kept.display()
    );
    let event = Event::Admin { act: "rekey".to_owned(), detail, by: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let written = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(log.append(event)).map_err(|error| error.to_string()));
    if let Err(why) = written {
        eprintln!("jsi-agent rekey: the log was not told: {why}");
    }
}

/// A line that counts on a terminal; a few lines otherwise.
#[derive(Default)]
struct Progress {
    shown: usize,
    open: bool,
}

impl Progress {
    fn show(&mut self, done: usize, all: usize) {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            self.open = true;
            let _ = write!(stderr, "\r{done} of {all} files");
        } else if done == all || done * 10 / all.max(1) > self.shown {
            self.shown = done * 10 / all.max(1);
            let _ = writeln!(stderr, "{done} of {all} files");
        }
    }

    fn end(&self) {
        if self.open {
            eprintln!();
        }
    }
}
