//! Stage 2: who is behind a [`Connection`](crate::connection::Connection)?
//! Facts come from the kernel, never from the caller's word.
//!
//! The facts are read by the attestor, a process of its own ([`attestor`]);
//! the broker asks it through [`Attestor`].

mod ancestry;
pub mod attestor;
mod binding;
mod cgroup;
mod client;
mod confinement;
mod contents;
mod enforced;
mod executable;
mod facts;
mod generation;
mod genuine;
mod held;
mod invocation;
mod library;
mod mapped;
mod naming;
mod pool;
mod process;
mod server;
mod sureness;
mod target;
#[cfg(test)]
mod tests;
mod wire;
mod workload;

pub use client::Attestor;

use crate::connection::ImageId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A fact about a process. *Not there* and *could not be read* differ: only the
/// second makes a forbid that names the fact refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact<T> {
    /// Read.
    Known(T),
    /// There is none (no unit, no terminal).
    Absent,
    /// It may exist; why it could not be read.
    Unreadable(String),
}

impl<T> Fact<T> {
    /// What comes of the value, where it is known.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(change(value)),
            Self::Absent => Fact::Absent,
            Self::Unreadable(reason) => Fact::Unreadable(reason),
        }
    }

    /// The same, of a borrowed value.
    pub(crate) fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Absent => Fact::Absent,
            Self::Unreadable(reason) => Fact::Unreadable(reason.clone()),
        }
    }

    /// The value, where it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Lower-case hex, 64 characters.
    #[must_use]
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// From 64 lower-case hex characters.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// The file that a process runs, opened through `/proc/PID/exe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// Its path, only where the agent's own view of that path is the same file.
    pub path: Option<String>,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// stat's device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Owner.
    pub owner_uid: u32,
    /// Permission bits with set-ID bits.
    pub mode: u32,
    /// Link count; 0: deleted.
    pub links: u64,
    /// A memory file that nobody can change any more (memfd_create(2)): its digest
    /// is that of what runs, though it has no name.
    pub sealed: bool,
    /// Bytes.
    pub size: u64,
    /// fs-verity digest, hex with its algorithm in front (`sha256:…`), where there is one.
    pub verity: Option<String>,
    /// What its `security.ima` says: `signature`, or a hash as `sha256:…`.
    pub ima: Option<String>,
}

/// How sure the agent is of a process. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Assurance {
    /// 0: only the uid is known.
    Uid,
    /// 1: path and digest, alive, its own bytes, challenge answered, same image since.
    Executable,
    /// 2: the mapped code is the hashed code.
    Image,
    /// 3: no process of the same uid could have tampered.
    Isolated,
    /// 4: fs-verity, IMA or an LSM label says so.
    Enforced,
}

impl Assurance {
    /// All of them, from the lowest.
    pub const ALL: [Self; 5] =
        [Self::Uid, Self::Executable, Self::Image, Self::Isolated, Self::Enforced];

    /// 0 to 4.
    #[must_use]
    pub fn level(self) -> u8 {
        self as u8
    }

    /// The level of that number.
    #[must_use]
    pub fn of_level(level: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.level() == level)
    }
}

/// Why a level was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// The level that was missed.
    pub level: Assurance,
    /// In words, with the values that were seen.
    pub reason: String,
}

/// What is known of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// In the agent's pid namespace.
    pub pid: u32,
    /// Parent's pid, 0 at the top.
    pub parent: u32,
    /// Real, effective and saved uid agree on it.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Supplementary and primary groups.
    pub groups: Vec<u32>,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// What it runs.
    pub exe: Fact<Executable>,
    /// Controlling terminal: `pts/3`.
    pub tty: Fact<String>,
    /// Session ID.
    pub session: u32,
    /// systemd unit, from a root-owned cgroup only.
    pub unit: Fact<String>,
    /// Container ID, from a root-owned cgroup only.
    pub container: Fact<String>,
    /// cgroup path, as the agent sees it.
    pub cgroup: Fact<String>,
    /// What else it belongs to, and how it is fenced in.
    pub around: Around,
    /// What was reached.
    pub assurance: Assurance,
    /// What would be reached if it might execute memory that no file backs, as
    /// a just-in-time compiler does: whoever relies on it says so by name.
    pub assurance_with_jit: Assurance,
    /// Why not more.
    pub shortfalls: Vec<Shortfall>,
}

/// What a process belongs to besides unit, container and cgroup, and how it is
/// fenced in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Around {
    /// systemd's ID of its unit's present run: 32 hex digits.
    pub invocation: Fact<String>,
    /// Whose container it is in, where the cgroup's name says so: `docker`,
    /// `containerd`, `cri-o`, `podman`, `lxc`, `systemd-nspawn`, `buildkit`.
    pub container_runtime: Fact<String>,
    /// UID of its Kubernetes pod.
    pub pod: Fact<String>,
    /// Label that an LSM gives it.
    pub lsm: Fact<String>,
    /// seccomp(2).
    pub seccomp: Fact<Seccomp>,
    /// no_new_privs (PR_SET_NO_NEW_PRIVS(2const)).
    pub no_new_privs: Fact<bool>,
    /// namespaces(7).
    pub namespaces: Fact<Namespaces>,
}

impl Around {
    /// Nothing is there.
    pub const NOTHING: Self = Self {
        invocation: Fact::Absent,
        container_runtime: Fact::Absent,
        pod: Fact::Absent,
        lsm: Fact::Absent,
        seccomp: Fact::Absent,
        no_new_privs: Fact::Absent,
        namespaces: Fact::Absent,
    };

    /// Those that are text, by their names in policy.
    #[must_use]
    pub fn texts(&self) -> [(&'static str, &Fact<String>); 4] {
        [
            ("invocation", &self.invocation),
            ("container_runtime", &self.container_runtime),
            ("pod", &self.pod),
            ("lsm", &self.lsm),
        ]
    }
}

/// What system calls are left to a process (proc_pid_status(5), `Seccomp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// All.
    Disabled,
    /// read, write, exit, sigreturn.
    Strict,
    /// What filters let through.
    Filter,
}

impl Seccomp {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disabled, Self::Strict, Self::Filter];

    /// Its name in policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Strict => "strict",
            Self::Filter => "filter",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Namespaces of a process, by inode number in nsfs (0: the kernel has none of
/// that kind), and whether each is the host's: the one of pid 1, as the agent sees
/// it, or the agent's own, where it may not look at pid 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "named by kind")]
#[allow(clippy::struct_excessive_bools, reason = "one for each kind")]
pub struct Namespaces {
    pub mnt: u64,
    pub pid: u64,
    pub user: u64,
    pub net: u64,
    pub host_mnt: bool,
    pub host_pid: bool,
    pub host_user: bool,
    pub host_net: bool,
}

impl Namespaces {
    /// The kinds that are told.
    pub const KINDS: [&str; 4] = ["mnt", "pid", "user", "net"];

    /// Of a process that is only supposed: those kinds are the host's.
    ///
    /// # Errors
    /// The name that is none of [`KINDS`](Self::KINDS).
    pub fn supposed(host: &[&str]) -> Result<Self, String> {
        let mut all = Self::default();
        for &kind in host {
            match kind {
                "mnt" => all.host_mnt = true,
                "pid" => all.host_pid = true,
                "user" => all.host_user = true,
                "net" => all.host_net = true,
                other => return Err(other.to_owned()),
            }
        }
        Ok(all)
    }
}

/// How the caller relates to the requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// The caller asks for itself.
    Direct,
    /// The caller is a `jsi` that root installed and whose digest is known.
    GenuineClient,
    /// The caller is a `jsi` whose digest a user agent knows; advisory agents only.
    EnrolledClient,
}

impl Via {
    /// Its name in policy: `context.via`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::GenuineClient => "genuine_client",
            Self::EnrolledClient => "enrolled_client",
        }
    }
}

/// Who asks, verified. Output of this stage. Facts alone: whoever keeps many
/// must not hold a descriptor for each.
#[derive(Clone)]
pub struct Attestation {
    /// Whoever sends the bytes.
    pub caller: ProcessFacts,
    /// On whose behalf.
    pub requester: ProcessFacts,
    /// The caller's ancestors, nearest first.
    pub ancestry: Vec<ProcessFacts>,
    /// How the two relate.
    pub via: Via,
    /// The lower of caller's and requester's level, after the advisory cap.
    pub assurance: Assurance,
    /// The same of what would be reached with a just-in-time compiler.
    pub assurance_with_jit: Assurance,
    /// Why the agent is advisory; empty: it is not.
    pub advisory: Vec<String>,
    /// The caller's image.
    pub caller_image: ImageId,
    /// The requester's image; the caller's where it asks for itself.
    pub requester_image: ImageId,
}

impl Attestation {
    /// The same, where caller and requester reach level 1 at most, and why.
    #[must_use]
    pub fn capped(&self, why: &str) -> Self {
        let mut capped = self.clone();
        let most = Assurance::Executable;
        capped.assurance = capped.assurance.min(most);
        capped.assurance_with_jit = capped.assurance_with_jit.min(most);
        for process in [&mut capped.caller, &mut capped.requester] {
            process.assurance = process.assurance.min(most);
            process.assurance_with_jit = process.assurance_with_jit.min(most);
            for level in [Assurance::Image, Assurance::Isolated, Assurance::Enforced] {
                match process.shortfalls.iter_mut().find(|missed| missed.level == level) {
                    Some(missed) => missed.reason = why.to_owned(),
                    None => process.shortfalls.push(Shortfall { level, reason: why.to_owned() }),
                }
            }
        }
        capped
    }
}

/// Why there is no attestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AttestError {
    /// The caller ended, became another program, or cannot be what it seems.
    #[error("the caller could not be verified: {0}")]
    Caller(String),
    /// The ancestor that would be the requester cannot be one.
    #[error("the requester is refused: {0}")]
    Requester(String),
    /// A limit of this uid is reached.
    #[error("{0}")]
    Limit(String),
    /// The attestor does not answer; the agent is about to end.
    #[error("the attestor does not answer")]
    NoAttestor,
}

/// How the agent sees what a client says that it will become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetView {
    /// That path is that file here too.
    Seen,
    /// It is not, or could not be looked at.
    Elsewhere(String),
    /// Nothing that the client sees need be so.
    Doubtful(String),
}

/// Which process a lease is to be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anchor {
    /// The requester, forked copies skipped: the shell, not its subshell.
    Requester,
    /// The caller itself.
    Caller,
    /// The caller's parent, forked copies skipped.
    Parent,
    /// The leader of the caller's session.
    Session,
    /// That pid; it must have the caller's uid.
    Pid(u32),
}

/// A process that can be waited for, and found again after the agent restarts.
#[derive(Clone)]
pub struct BoundProcess {
    /// Readable when it has ended.
    pub pidfd: Arc<OwnedFd>,
    /// How to find it again.
    pub identity: ProcessIdentity,
}

/// Names a process across a restart of the agent, within one boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// In the agent's pid namespace.
    pub pid: u32,
    /// Clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// pidfs file handle, hex, where the kernel gives one (Linux 6.14): unique within a boot.
    pub pidfs_handle: Option<String>,
    /// Path of what it ran, for people.
    pub exe: Option<String>,
}
