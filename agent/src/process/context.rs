//! What the broker is given.

use super::{InheritedListeners, Ready};
use crate::config::Config;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Everything that the broker has when it begins: no threads, no capabilities,
/// its final uid, and its two companions running.
pub struct BrokerContext {
    /// The configuration, with what the command line overrides.
    pub config: Config,
    /// The configuration file, for SIGHUP.
    pub config_path: Option<PathBuf>,
    /// How to load it again, with what the command line overrides.
    pub settings: super::Settings,
    /// SOCK_SEQPACKET to the attestor; end of file: it has ended.
    pub attestor: OwnedFd,
    /// SOCK_SEQPACKET to the launcher.
    pub launcher: OwnedFd,
    /// The attestor's pid.
    pub attestor_pid: u32,
    /// The launcher's pid.
    pub launcher_pid: u32,
    /// Readable when the attestor has ended; see [`super::ended`].
    pub attestor_pidfd: OwnedFd,
    /// Readable when the launcher has ended.
    pub launcher_pidfd: OwnedFd,
    /// To be signalled once requests are served.
    pub ready: Ready,
    /// Sockets that a service manager has opened for us.
    pub listeners: Option<InheritedListeners>,
    /// `jsi-agent COMMAND`: the pidfd of COMMAND. Its end ends the agent.
    pub command: Option<OwnedFd>,
    /// A pipe with the identity, opened by systemd for the root that started us.
    pub identity: Option<OwnedFd>,
    /// `-d`.
    pub debug: bool,
}
