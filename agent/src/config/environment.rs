//! What the configuration takes from its surroundings, gathered once so that
//! tests can give their own.

use super::checked::Mode;
use std::path::{Path, PathBuf};

/// Uid, directories and the agent's own place.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Effective uid of the process that loads.
    pub euid: u32,
    /// `$HOME`, else the home in the user database.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, where it is absolute.
    pub runtime_dir: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`, where it is absolute.
    pub config_home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, where it is absolute.
    pub state_home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`, where it is absolute.
    pub data_home: Option<PathBuf>,
    /// The agent's own executable.
    pub agent_exe: Option<PathBuf>,
    /// The host agent's configuration: `/etc/jsi/agent.toml`.
    pub host_file: PathBuf,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn current() -> Self {
        let euid = nix::unistd::geteuid();
        // The XDG Base Directory Specification: a relative path is to be ignored.
        let dir =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            euid: euid.as_raw(),
            home: dir("HOME")
                .or_else(|| nix::unistd::User::from_uid(euid).ok().flatten().map(|user| user.dir)),
            runtime_dir: dir("XDG_RUNTIME_DIR"),
            config_home: dir("XDG_CONFIG_HOME"),
            state_home: dir("XDG_STATE_HOME"),
            data_home: dir("XDG_DATA_HOME"),
            agent_exe: std::env::current_exe().ok(),
            host_file: PathBuf::from("/etc/jsi/agent.toml"),
        }
    }

    /// The configuration file that an agent of this mode takes by itself;
    /// `None` for a user without a home.
    #[must_use]
    pub fn config_file(&self, mode: Mode) -> Option<PathBuf> {
        match mode {
            Mode::Host => Some(self.host_file.clone()),
            Mode::User => self.config_dir().map(|dir| dir.join("agent.toml")),
        }
    }

    /// Configuration: `$XDG_CONFIG_HOME/jsi`, else `~/.config/jsi`.
    pub(super) fn config_dir(&self) -> Option<PathBuf> {
        self.jsi_dir(self.config_home.as_deref(), ".config")
    }

    /// State: `$XDG_STATE_HOME/jsi`, else `~/.local/state/jsi`.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        self.jsi_dir(self.state_home.as_deref(), ".local/state")
    }

    /// Data: `$XDG_DATA_HOME/jsi`, else `~/.local/share/jsi`.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        self.jsi_dir(self.data_home.as_deref(), ".local/share")
    }

    /// Sockets: `$XDG_RUNTIME_DIR/jsi`, else `run` in the state directory:
    /// a place below /tmp could be taken by another uid first.
    pub(super) fn socket_dir(&self) -> Option<PathBuf> {
        match &self.runtime_dir {
            Some(dir) => Some(dir.join("jsi")),
            None => Some(self.state_dir()?.join("run")),
        }
    }

    fn jsi_dir(&self, given: Option<&Path>, below_home: &str) -> Option<PathBuf> {
        match (given, &self.home) {
            (Some(dir), _) => Some(dir.join("jsi")),
            (None, Some(home)) => Some(home.join(below_home).join("jsi")),
            (None, None) => None,
        }
    }
}
