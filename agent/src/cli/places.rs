//! Where an agent's files are unless its configuration says otherwise.

use std::path::{Path, PathBuf};

/// The files of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// `agent.toml`.
    pub(super) config: PathBuf,
    /// Cedar policies.
    pub(super) policy: PathBuf,
    /// The age identity.
    pub(super) identity: PathBuf,
    /// The embedded store.
    pub(super) store: PathBuf,
    /// The log.
    pub(super) log: PathBuf,
}

impl Places {
    /// The host agent's.
    pub(super) fn host() -> Self {
        Self::of(Path::new("/etc/jsi"), Path::new("/var/lib/jsi"), Path::new("/var/lib/jsi"))
            .with_identity(PathBuf::from("/var/lib/jsi/identity"))
    }

    /// The calling user's, by the XDG Base Directory Specification; `None`
    /// where the environment names no home.
    pub(super) fn user() -> Option<Self> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let dir = |name, below: &str| {
            absolute(name)
                .or_else(|| Some(absolute("HOME")?.join(below)))
                .map(|dir| dir.join("jsi"))
        };
        Some(Self::of(
            &dir("XDG_CONFIG_HOME", ".config")?,
            &dir("XDG_DATA_HOME", ".local/share")?,
            &dir("XDG_STATE_HOME", ".local/state")?,
        ))
    }

    /// All below one directory.
    pub(super) fn below(dir: &Path) -> Self {
        Self::of(dir, dir, dir)
    }

    /// Root's are the host agent's where there is one.
    pub(super) fn default_of_caller() -> Option<Self> {
        let host = Self::host();
        if nix::unistd::geteuid().is_root() && host.config.exists() {
            return Some(host);
        }
        Self::user()
    }

    pub(super) fn with_identity(self, identity: PathBuf) -> Self {
        Self { identity, ..self }
    }

    fn of(config: &Path, data: &Path, state: &Path) -> Self {
        Self {
            config: config.join("agent.toml"),
            policy: config.join("policy.d"),
            identity: config.join("identity"),
            store: data.join("store"),
            log: state.join("log"),
        }
    }
}
