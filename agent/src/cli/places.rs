//! Where the files of one agent are: as its configuration says, or below one
//! directory.

use crate::config::Config;
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
    /// Those of a loaded configuration, whose file is, or is to be, `file`.
    pub(super) fn of(config: &Config, file: PathBuf) -> Self {
        Self {
            config: file,
            policy: config.policy_dir.clone(),
            identity: config.identity.clone(),
            store: config.store_dir.clone(),
            log: config.log_dir.clone(),
        }
    }

    /// All below one directory.
    pub(super) fn below(dir: &Path) -> Self {
        Self {
            config: dir.join("agent.toml"),
            policy: dir.join("policy.d"),
            identity: dir.join("identity"),
            store: dir.join("store"),
            log: dir.join("log"),
        }
    }

    pub(super) fn with_identity(self, identity: PathBuf) -> Self {
        Self { identity, ..self }
    }
}
