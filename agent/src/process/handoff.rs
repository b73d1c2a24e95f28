//! What one process tells the next when it executes this binary again: on the
//! command line, never in the environment, and nothing secret.

use super::Settings;
use super::daemon::Shell;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Which of the three, or what the launcher starts for one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Broker,
    Attestor,
    Launcher,
    Unwrap,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Broker, Self::Attestor, Self::Launcher, Self::Unwrap];

    /// The first argument. No command begins so by accident.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Broker => "@broker",
            Self::Attestor => "@attestor",
            Self::Launcher => "@launcher",
            Self::Unwrap => "@unwrap",
        }
    }

    /// `comm` (prctl(2), PR_SET_NAME): at most 15 bytes.
    pub(super) fn name(self) -> &'static std::ffi::CStr {
        match self {
            Self::Broker => super::daemon::BROKER_NAME,
            Self::Attestor => c"jsi-attestor",
            Self::Launcher => c"jsi-launcher",
            Self::Unwrap => c"jsi-unwrap",
        }
    }
}

/// The second argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handoff {
    pub(super) settings: Settings,
    /// Where errors go until the agent is ready: the waiting parent's pipe.
    /// `None`: stderr.
    pub(super) report: Option<RawFd>,
    /// Attestor and launcher: the link to the broker.
    pub(super) link: Option<RawFd>,
    /// Attestor and launcher: the broker's pid.
    pub(super) parent: Option<i32>,
    pub(super) broker: Option<Broker>,
}

/// What only the broker inherits.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Broker {
    pub(super) attestor: Companion,
    pub(super) launcher: Companion,
    pub(super) command: Option<RawFd>,
    /// A pipe with the identity that systemd has decrypted for root.
    pub(super) identity: Option<RawFd>,
    pub(super) agent_listener: Option<RawFd>,
    pub(super) admin_listener: Option<RawFd>,
    pub(super) bootstrap_listener: Option<RawFd>,
    /// Foreground: print these shell lines on stdout when ready.
    pub(super) print: Option<Shell>,
    /// Made at start below /tmp; removed at the end.
    pub(super) private_dir: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Companion {
    pub(super) pid: i32,
    pub(super) link: RawFd,
    pub(super) pidfd: RawFd,
}
