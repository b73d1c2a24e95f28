//! What is known before anything is judged. Plain data: a test writes it down.

use jsi_client::v1::{Credential, StatusResponse};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that was gathered. What could not be read is absent, and the
/// rules say so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) client: Client,
    pub(crate) socket: Socket,
    /// What the agent says of itself to everybody.
    pub(crate) agent: Option<Agent>,
    /// What it says to operators.
    pub(crate) status: Operator<StatusResponse>,
    /// All credentials, by the admin socket.
    pub(crate) credentials: Operator<Vec<Credential>>,
    /// What `jsi-agent facts` printed, or why it did not.
    pub(crate) local: Option<Local>,
    pub(crate) local_error: String,
    pub(crate) host: Host,
    pub(crate) places: Vec<Place>,
    pub(crate) disks: Vec<Disk>,
}

/// An answer that only operators get.
#[derive(Clone, Debug, Default)]
pub(crate) enum Operator<T> {
    /// It was not asked: there is no agent.
    #[default]
    NotAsked,
    /// The admin socket is not open to this uid.
    NotOpen,
    /// The agent answered with an error.
    Refused(String),
    /// The answer.
    Answered(T),
}

impl<T> Operator<T> {
    pub(crate) fn answered(&self) -> Option<&T> {
        match self {
            Self::Answered(answer) => Some(answer),
            _ => None,
        }
    }
}

/// This program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) version: String,
    pub(crate) uid: u32,
    /// The file that runs.
    pub(crate) exe: Option<PathBuf>,
    /// The `jsi` that PATH finds first, links followed.
    pub(crate) in_path: Option<PathBuf>,
    pub(crate) rlimit_memlock: u64,
    pub(crate) rlimit_nofile: u64,
    pub(crate) rlimit_core: u64,
}

/// The agent socket, as a client finds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    /// Who named it, in words.
    pub(crate) origin: String,
    /// The variable that named it; empty: none did.
    pub(crate) variable: String,
    pub(crate) state: SocketState,
    /// Other places where an agent answers.
    pub(crate) others: Vec<PathBuf>,
}

/// What became of connecting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SocketState {
    /// An agent answers.
    Answers,
    /// Nothing is there.
    #[default]
    Missing,
    /// A socket is there and nobody listens.
    Stale,
    /// Something else is there.
    NoSocket,
    /// This uid may not connect.
    NotOpen,
    /// The server is not one to be trusted.
    Untrusted(String),
    /// It was reached and does not answer as an agent does.
    Broken(String),
}

/// What WhoAmI gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agent {
    pub(crate) version: String,
    pub(crate) uid: u32,
    /// How this program counts: `genuine client`, `enrolled client`, `direct`.
    pub(crate) via: String,
    pub(crate) assurance: u32,
    pub(crate) advisory: bool,
    pub(crate) reasons: Vec<String>,
}

/// What `jsi-agent facts` prints. Fields of later versions are ignored.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Local {
    pub(crate) version: String,
    pub(crate) kernel: BTreeMap<String, Feature>,
    pub(crate) clock: Discipline,
    pub(crate) configuration: Configuration,
}

/// One thing that a kernel can do, or why not.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Feature {
    pub(crate) present: bool,
    #[serde(default)]
    pub(crate) version: Option<u64>,
    #[serde(default)]
    pub(crate) why: String,
}

/// How the clock is kept.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Discipline {
    #[serde(default)]
    pub(crate) synchronised: bool,
    #[serde(default)]
    pub(crate) max_error_us: i64,
    #[serde(default)]
    pub(crate) error: String,
}

/// What an agent that is started here would take.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Configuration {
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) mode: String,
    #[serde(default)]
    pub(crate) places: Vec<Named>,
}

/// A place by what it is for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Named {
    pub(crate) what: String,
    pub(crate) path: String,
}

/// The machine, by /proc and /sys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    /// `kernel.yama.ptrace_scope`; `None`: no Yama.
    pub(crate) ptrace_scope: Option<u32>,
    pub(crate) suid_dumpable: Option<u32>,
    pub(crate) core_pattern: String,
    /// Unprivileged programs may make user namespaces.
    pub(crate) user_namespaces: Option<bool>,
    pub(crate) swap: Vec<String>,
    /// The kernel offers to suspend to disk.
    pub(crate) hibernation: bool,
    pub(crate) ima: bool,
    /// The label that an LSM gives to programs, as it gives it to this one; empty:
    /// there is no such LSM.
    pub(crate) lsm: String,
    pub(crate) clock_source: String,
    /// What keeps the clock, by its traces in /run.
    pub(crate) time_daemon: String,
    /// Seconds since 1970.
    pub(crate) now: i64,
    /// Seconds since boot, suspended time included.
    pub(crate) since_boot: i64,
    pub(crate) memory_available: Option<u64>,
}

/// A place that the agent uses and every step of the way there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) what: String,
    pub(crate) path: PathBuf,
    /// From the place itself upwards.
    pub(crate) steps: Vec<Step>,
}

/// One step of a way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) path: PathBuf,
    pub(crate) state: StepState,
}

/// What stat(2) gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StepState {
    #[default]
    Missing,
    /// This uid may not look.
    Hidden,
    Found {
        uid: u32,
        gid: u32,
        /// Permission bits.
        mode: u32,
        kind: Kind,
    },
}

/// What kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Socket,
    Link,
    Other,
}

/// A file system that the agent writes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) what: String,
    pub(crate) path: PathBuf,
    pub(crate) free: u64,
    pub(crate) size: u64,
    /// 0 of 0: the file system does not count them.
    pub(crate) free_inodes: u64,
    pub(crate) inodes: u64,
    pub(crate) read_only: bool,
}
