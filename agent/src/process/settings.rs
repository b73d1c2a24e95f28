//! What the command line says over the configuration file: the same for all
//! three processes, each of which loads the configuration by itself.

use crate::config::{self, Config, ConfigError, Mode};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The command line's part of the configuration. All paths are absolute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// `--config`, or the default file that was found at start.
    pub config: Option<PathBuf>,
    /// Host mode; fixed at start, so that the uid that the agent takes then
    /// does not change what the same file means.
    pub host: Option<bool>,
    /// `-a`.
    pub socket: Option<PathBuf>,
    /// `--admin-socket`.
    pub admin_socket: Option<PathBuf>,
    /// Another identity than configuration names: that of `jsi-agent rekey`.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// `--reflection`.
    pub reflection: bool,
    /// `-t`.
    pub max_lifetime: Option<Duration>,
    /// `-d`.
    pub debug: bool,
}

impl Settings {
    /// Loads the configuration and lays the command line over it.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mode = self.host.map(|host| if host { Mode::Host } else { Mode::User });
        let mut config = config::load(self.config.as_deref(), mode)?;
        if let Some(socket) = &self.socket {
            config.socket.clone_from(socket);
        }
        if let Some(socket) = &self.admin_socket {
            config.admin_socket.clone_from(socket);
        }
        if let Some(identity) = &self.identity {
            config.identity.clone_from(identity);
        }
        if let Some(most) = self.max_lifetime {
            config.limit_lifetimes(most);
        }
        config.reflection |= self.reflection;
        Ok(config)
    }
}
