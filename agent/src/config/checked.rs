//! Configuration that cannot be wrong: what the stages take.

use super::issuers::{CredentialSettings, IssuerConfig};
use crate::names::{CredentialName, IssuerName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// Whom the agent serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every uid of the host; the agent has a uid of its own.
    Host,
    /// One user, with that user's uid: advisory.
    User,
}

/// The uid and gid that the agent takes, once root has started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// Name, for messages.
    pub user: String,
    /// Uid; never 0.
    pub uid: u32,
    /// Primary gid.
    pub gid: u32,
}

/// The agent's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from; `None`: built-in defaults.
    pub source: Option<PathBuf>,
    /// Host or user.
    pub mode: Mode,
    /// Host mode started by root: the uid to take. `None`: stay as started.
    pub run_as: Option<RunAs>,
    /// Host mode, and the agent is (or is about to become) the user made for it:
    /// no program that it serves has its uid.
    pub dedicated_uid: bool,
    /// The agent socket.
    pub socket: PathBuf,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Group of the admin socket in host mode; `None`: the agent's own.
    pub admin_gid: Option<u32>,
    /// Cedar policies: every `*.cedar` in it.
    pub policy_dir: PathBuf,
    /// The embedded store.
    pub store_dir: PathBuf,
    /// The log.
    pub log_dir: PathBuf,
    /// The age identity of the store; see [`super::IdentityKind`].
    pub identity: PathBuf,
    /// What asks a person where there is no terminal of theirs.
    pub pinentry: PathBuf,
    /// Where age plugins are looked for, and nowhere else.
    pub plugin_dirs: Vec<PathBuf>,
    /// Lock when nothing was issued, renewed, read or put for so long; `None`: never.
    pub lock_after_idle: Option<Duration>,
    /// `jsi` binaries that count as genuine clients, where root owns them.
    pub genuine_clients: Vec<PathBuf>,
    /// `jsi` binaries that a user agent skips when it looks for the requester.
    pub enrolled_clients: Vec<PathBuf>,
    /// Uids of which nothing else runs: level 3.
    pub isolated_uids: BTreeSet<u32>,
    /// LSM labels that root vouches for at level 4.
    pub enforced_labels: BTreeSet<String>,
    /// Root says that IMA appraises what is executed and mapped, by signature.
    pub enforced_ima: bool,
    /// SHA-256 of mapped files that count at level 2 though root does not own them.
    pub listed_libraries: BTreeSet<[u8; 32]>,
    /// gRPC reflection.
    pub reflection: bool,
    /// How long SIGTERM waits for revocations.
    pub stop_timeout: Duration,
    /// Lifetimes of credentials that say nothing themselves.
    pub lifetimes: Lifetimes,
    /// Issuers that are configured; `store` is built in.
    pub issuers: BTreeMap<IssuerName, IssuerConfig>,
    /// Credentials that are configured; stored secrets need no entry.
    pub credentials: BTreeMap<CredentialName, CredentialConfig>,
    /// Limits.
    pub limits: Limits,
}

impl Config {
    /// The socket for packets, beside the agent socket: `agent.sock` becomes
    /// `bootstrap.sock`; any other name gains `.bootstrap`.
    #[must_use]
    pub fn bootstrap_socket(&self) -> PathBuf {
        if self.socket.file_name().is_some_and(|name| name == "agent.sock") {
            return self.socket.with_file_name("bootstrap.sock");
        }
        let mut path = self.socket.clone().into_os_string();
        path.push(".bootstrap");
        path.into()
    }

    /// Every place on disk that the agent uses: what it is, and its path.
    #[must_use]
    pub fn places(&self) -> Vec<(&'static str, String)> {
        let (own, bootstrap) = (std::env::current_exe().ok(), self.bootstrap_socket());
        let one = [
            ("configuration", self.source.as_deref()),
            ("policies", Some(self.policy_dir.as_path())),
            ("store", Some(&self.store_dir)),
            ("log", Some(&self.log_dir)),
            ("identity", Some(&self.identity)),
            ("agent socket", Some(&self.socket)),
            ("admin socket", Some(&self.admin_socket)),
            ("bootstrap socket", Some(&bootstrap)),
            ("agent binary", own.as_deref()),
        ];
        let one = one.into_iter().filter_map(|(what, path)| Some((what, path?)));
        let genuine = self.genuine_clients.iter().map(|path| ("genuine client", path.as_path()));
        let enrolled = self.enrolled_clients.iter().map(|path| ("enrolled client", path.as_path()));
        let all = one.chain(genuine).chain(enrolled);
        all.map(|(what, path)| (what, path.display().to_string())).collect()
    }

    /// Lets no lease live longer than `most`, whatever the file says.
    pub fn limit_lifetimes(&mut self, most: Duration) {
        let credentials = self.credentials.values_mut().map(|credential| &mut credential.lifetimes);
        for lifetimes in credentials.chain([&mut self.lifetimes]) {
            lifetimes.max_ttl = lifetimes.max_ttl.min(most);
            lifetimes.default_ttl = lifetimes.default_ttl.min(most);
        }
    }
}

/// TTLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Where the request names none.
    pub default_ttl: Duration,
    /// At most, renewals included.
    pub max_ttl: Duration,
}

impl Lifetimes {
    /// Where the file says nothing: an hour's work, a day at most.
    pub const BUILT_IN: Self =
        Self { default_ttl: Duration::from_secs(3_600), max_ttl: Duration::from_secs(24 * 3_600) };
}

/// One configured credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialConfig {
    /// Its issuer: `store`, or one of [`Config::issuers`].
    pub issuer: IssuerName,
    /// What it says to its issuer.
    pub settings: CredentialSettings,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Its TTLs.
    pub lifetimes: Lifetimes,
}

/// Every limit of the agent, named and explained in this one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once, both sockets. Each process image behind them
    /// costs three descriptors in the attestor and one in the broker.
    pub connections: u32,
    /// Connections open at once for one uid, so that no uid can take them all.
    pub connections_per_uid: u32,
    /// Connections a second of one uid, as many at once; what is beyond is closed
    /// before anything is looked at.
    pub connects_per_second: u32,
    /// Requests a second for one uid; a burst of as many again is let through.
    pub requests_per_second: u32,
    /// Denials and refusals a second for one uid that the log keeps (and ten
    /// seconds' worth at once; all uids together 20 times that). The others are
    /// counted there. Everything else is always logged.
    pub denials_logged_per_second: u32,
    /// Live leases.
    pub leases: u32,
    /// Live leases of one uid.
    pub leases_per_uid: u32,
    /// Bytes of one incoming message.
    pub message_bytes: usize,
    /// How long a peer may take to answer the challenge.
    pub challenge_timeout: Duration,
    /// How long a client may leave a response unread before it is cut off.
    pub write_timeout: Duration,
    /// Bytes of one executable that are hashed; larger ones are not attested.
    pub hash_bytes: u64,
    /// How long hashing one executable may take.
    pub hash_timeout: Duration,
    /// Executables hashed a minute for one uid (cache hits are free).
    pub hashes_per_minute: u32,
    /// Bytes of all fields of one secret.
    pub secret_bytes: usize,
    /// Bytes of one log segment before the next is started.
    pub segment_bytes: u64,
    /// Longest TTL that may be asked for at all; more is a malformed request.
    pub longest_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_uid: 1024,
            connects_per_second: 500,
            requests_per_second: 20_000,
            denials_logged_per_second: 5,
            leases: 200_000,
            leases_per_uid: 120_000,
            message_bytes: 64 * 1024,
            challenge_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            hash_bytes: 512 * 1024 * 1024,
            hash_timeout: Duration::from_secs(10),
            hashes_per_minute: 600,
            secret_bytes: jsi_proto::MAX_SECRET,
            segment_bytes: 64 * 1024 * 1024,
            longest_ttl: Duration::from_secs(10 * 365 * 24 * 3600),
        }
    }
}
