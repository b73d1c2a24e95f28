//! From a broker process to an agent that serves.

use super::issuers::Issuers;
use super::status::About;
use super::{Decisions, Denials, InForce, Pipeline, locking, stop};
use crate::attestation::Attestor;
use crate::clock::{Clock, boot_id};
use crate::config::{Config, Limits, Mode, advisory};
use crate::connection::{
    AcceptLimits, BindError, Channel, Peer, Refusal, Refused, SocketFile, Witness, accept_loop,
    bind, bind_packets, inherited, inherited_packets,
};
use crate::delivery::grpc::{Endpoint, serve};
use crate::issuer::{Catalogue, KeyRings, Sealing, StoreIssuer};
use crate::lease::{Engine, EngineParts};
use crate::log::{Event, Log, LogError, SealError, Sealer};
use crate::memory::{Guard, GuardKind, MemoryError, Shield};
use crate::mutants::{Check, on};
use crate::policy::{LoadError, Policies};
use crate::process::launcher::Launcher;
use crate::process::{BrokerContext, InheritedListeners, descriptor_limit};
use crate::store::{Store, StoreError, ThroughLauncher};
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, RwLock};
use tokio::sync::{Semaphore, watch};

/// Why the agent does not start, or ended in disorder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime or a descriptor could not be set up.
    #[error("{0} could not be set up")]
    Io(&'static str, #[source] io::Error),
    /// Guarded memory.
    #[error("guarded memory could not be set up")]
    Memory(#[from] MemoryError),
    /// The store.
    #[error("the secret store could not be opened")]
    Store(#[from] StoreError),
    /// The journal key.
    #[error("the journal key could not be used")]
    Seal(#[from] SealError),
    /// The log.
    #[error("the log could not be opened")]
    Log(#[from] LogError),
    /// Policy.
    #[error("policy could not be loaded")]
    Policy(#[from] LoadError),
    /// A socket.
    #[error("no socket to serve")]
    Bind(#[from] BindError),
    /// The attestor or the launcher ended.
    #[error("the {0} ended, so the agent ends; what must be revoked is in the log")]
    Lost(&'static str),
    /// A server ended by itself.
    #[error("a server ended")]
    Server(#[from] tonic::transport::Error),
}

impl InForce {
    /// Everything that a configuration brings into force. Reads the disk.
    pub(super) fn load(
        config: Config,
        store: Arc<Store>,
        issuers: &Issuers,
    ) -> Result<Self, RunError> {
        let policies = Policies::load(&config.policy_dir)?;
        let issuers = issuers.of(&config);
        let catalogue = Catalogue::new(&config, store, issuers.all)?;
        Ok(Self { config, policies, catalogue, jwt: issuers.jwt })
    }
}

/// Runs the broker until it is told to stop.
///
/// # Errors
/// Says what could not be set up, or which part of the agent was lost.
pub fn run(context: BrokerContext) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_name("jsi-broker")
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("the runtime", error))?;
    let result = runtime.block_on(broker(context));
    // Whatever still waits for a disk must not keep the agent from ending.
    runtime.shutdown_background();
    result
}

async fn broker(context: BrokerContext) -> Result<(), RunError> {
    let BrokerContext { config, settings, attestor, listeners, ready, .. } = context;
    let clock = Clock::system();
    let guard = Guard::new()?;
    let shield = Arc::new(Shield::new(&guard)?);
    let launcher = Arc::new(Launcher::connect(context.launcher));
    let remote = Arc::new(ThroughLauncher::new(launcher));
    let store = Store::open(&config.store_dir, &config.identity)?;
    let store = store.with_shield(Arc::clone(&shield))?.with_remote(Arc::clone(&remote) as _);
    let store = Arc::new(store);
    let unopened = locking::open_by_systemd(&store, context.identity).await?;
    let sealer = sealer(&store, &shield)?;
    let sealing: Arc<dyn Sealing> = Arc::new(Arc::clone(&shield));
    let limits = config.limits;
    let (log, folded) = Log::open(&config.log_dir, clock.clone(), sealer, limits.segment_bytes)?;
    let attestor = Attestor::connect(attestor).map_err(|e| RunError::Io("the attestor", e))?;
    let stored = StoreIssuer::new(Arc::clone(&store) as _, Arc::clone(&sealing));
    let rings = KeyRings::new(Arc::clone(&store), log.clone(), clock.clone());
    let issuers = Arc::new(Issuers::new(Arc::new(stored), rings));
    let in_force = InForce::load(config.clone(), Arc::clone(&store), &issuers)?;
    issuers.adopt(in_force.catalogue.issuers());
    let by_name = Arc::clone(&issuers);
    let engine = Engine::new(EngineParts {
        clock: clock.clone(),
        journal: Arc::new(log.clone()),
        sealing,
        issuers: Arc::new(move |name| by_name.find(name)),
        limits,
    });
    engine.set_locked(store.is_locked());
    let locking = locking::Locking::new(clock.now(), store.is_locked().then_some(unopened));
    engine.start().map_err(|error| RunError::Io("the timer of leases", error))?;
    let boot = boot_id().map_err(|error| RunError::Io("the boot ID", error))?;
    let advisory = advisory(&config);
    let started = Event::Started {
        version: crate::mutants::VERSION.to_owned(),
        boot_id: boot.clone(),
        pid: std::process::id(),
        mode: if config.mode == Mode::Host { "host" } else { "user" }.to_owned(),
        advisory: advisory.clone(),
    };
    log.append(started).await?;
    restore(&engine, &attestor, &log, folded, &boot).await;

    let accepting = AcceptLimits::new(&within_descriptors(limits)?);
    let denials = Arc::new(Denials::new(log.clone(), limits.denials_logged_per_second));
    let pipeline = Arc::new(Pipeline {
        clock: clock.clone(),
        attestor: attestor.clone(),
        engine,
        log: log.clone(),
        store,
        issuers,
        in_force: RwLock::new(Arc::new(in_force)),
        decisions: Decisions::default(),
        denials: Arc::clone(&denials),
        bulk: Arc::new(Semaphore::new(1)),
        about: About {
            pid: std::process::id(),
            attestor_pid: context.attestor_pid,
            launcher_pid: context.launcher_pid,
            started: clock.now().wall,
            advisory,
            guarded_memory: match guard.kind() {
                GuardKind::MemfdSecret => "memfd_secret",
                GuardKind::Mlock => "mlock",
            },
            settings,
            accepting: Arc::clone(&accepting),
            shield,
            guard,
        },
        locking,
    });
    let opening = tokio::spawn(locking::open_by_plugin(Arc::clone(&pipeline), remote));
    let idling = tokio::spawn(locking::lock_when_idle(Arc::clone(&pipeline)));
    let signals = stop::Signals::take()?;
    // Whoever can connect finds keys, and files that name them.
    pipeline.maintain_issuers().await;
    let sockets = Sockets::open(&config, listeners)?;
    let (stopping, stopped) = watch::channel(false);
    let door = Door {
        config,
        witness: Arc::new(attestor.clone()),
        accepting,
        denials: Arc::clone(&denials),
    };
    let servers = [
        (Channel::Agent, sockets.agent, sockets.bootstrap),
        // Operators never come by packets.
        (Channel::Admin, sockets.admin, None),
    ]
    .map(|(channel, listener, packets)| {
        let listeners = (listener, packets);
        tokio::spawn(door.serve(channel, listeners, Arc::clone(&pipeline), stopped.clone()))
    });
    ready.signal().map_err(|error| RunError::Io("readiness", error))?;
    let parts = stop::Watched {
        attestor,
        attestor_pidfd: context.attestor_pidfd,
        launcher_pidfd: context.launcher_pidfd,
        command: context.command,
    };
    let telling = tokio::spawn(denials.tell());
    let keeping = tokio::spawn(Arc::clone(&pipeline).keep_issuers());
    let result = stop::wait(&pipeline, parts, signals, servers, &stopping).await;
    for task in [telling, keeping, opening, idling] {
        task.abort();
    }
    drop(sockets.files);
    result
}

/// Descriptors that are kept free: for the log, the store, the links, the timer,
/// and what the runtime opens.
pub(super) const KEPT_FREE: u64 = 64;

/// Descriptors of one connection in the attestor, the larger share: caller and
/// requester, three each. Here there are two, and one of the process it is bound to.
const PER_CONNECTION: u64 = 6;

/// No more connections than there are descriptors for; `jsi status` shows it.
fn within_descriptors(limits: Limits) -> Result<Limits, RunError> {
    let open = descriptor_limit().map_err(|error| RunError::Io("the descriptor limit", error))?;
    let most = open.saturating_sub(KEPT_FREE) / PER_CONNECTION;
    let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
    if most < limits.connections {
        tracing::warn!(
            most,
            configured = limits.connections,
            "connections: RLIMIT_NOFILE is {open}"
        );
    }
    Ok(scaled(limits, most))
}

/// With at most that many connections, and of them about the same share for one
/// uid as before.
fn scaled(limits: Limits, most: u32) -> Limits {
    let connections = limits.connections.min(most);
    let share = u64::from(limits.connections_per_uid) * u64::from(connections)
        / u64::from(limits.connections.max(1));
    // What is a small part of those that are left may stay as it was written.
    let share = u32::try_from(share).unwrap_or(u32::MAX).max(connections / 4).max(1);
    let connections_per_uid = limits.connections_per_uid.min(share);
    Limits { connections, connections_per_uid, ..limits }
}

/// The sealer of the log's secret lines, where the store's identity is open.
pub(super) fn sealer(store: &Store, shield: &Arc<Shield>) -> Result<Option<Sealer>, SealError> {
    store.journal_key().map(|key| Sealer::shielded(&key, Arc::clone(shield))).transpose()
}

/// Takes up what the log says of leases that were live.
async fn restore(
    engine: &Arc<Engine>,
    attestor: &Attestor,
    log: &Log,
    folded: crate::log::Folded,
    boot: &str,
) {
    let sealed = folded.sealed;
    let unseal = |lease: &crate::log::LeaseRecord| {
        let line = sealed.get(&lease.id)?;
        log.sealer()?.open(&lease.id, line).ok()
    };
    let find = |identity: crate::attestation::ProcessIdentity| -> crate::lease::Found<'_> {
        Box::pin(async move { attestor.find(&identity).await })
    };
    let leases = folded.leases.into_values().collect();
    let recorded = folded.boot_id.as_deref();
    let restored = engine.restore(leases, recorded, boot, &find, &unseal).await;
    tracing::info!(alive = restored.alive, ended = restored.ended, "leases of the log");
}

/// The listeners, and the files to remove at the end.
struct Sockets {
    agent: UnixListener,
    admin: UnixListener,
    /// `None`: there is no room or no right for one.
    bootstrap: Option<UnixListener>,
    files: Vec<SocketFile>,
}

impl Sockets {
    /// Inherited listeners where there are any, else our own.
    fn open(config: &Config, given: Option<InheritedListeners>) -> Result<Self, BindError> {
        let InheritedListeners { agent, admin, bootstrap } = given.unwrap_or_default();
        let host = config.mode == Mode::Host;
        let mut files = Vec::new();
        let mut own = |path, mode, gid| {
            let bound = bind(path, mode, gid)?;
            files.push(bound.file);
            Ok::<_, BindError>(bound.listener)
        };
        let agent = match agent {
            Some(fd) => inherited(fd)?,
            // Everybody may connect to a host agent: policy decides.
            None => own(&config.socket, if host { 0o666 } else { 0o600 }, None)?,
        };
        let admin = match admin {
            Some(fd) => inherited(fd)?,
            None => own(&config.admin_socket, if host { 0o660 } else { 0o600 }, config.admin_gid)?,
        };
        let bootstrap = match bootstrap {
            Some(fd) => Some(inherited_packets(fd)?),
            None => packets(config, &mut files),
        };
        Ok(Self { agent, admin, bootstrap, files })
    }
}

/// The socket for packets. Where it cannot be had, the others serve all the
/// same: a service manager's directory may not be ours to write, and its name
/// may be too long.
fn packets(config: &Config, files: &mut Vec<SocketFile>) -> Option<UnixListener> {
    let (path, mode) =
        (config.bootstrap_socket(), if config.mode == Mode::Host { 0o666 } else { 0o600 });
    match bind_packets(&path, mode) {
        Ok(bound) => {
            files.push(bound.file);
            Some(bound.listener)
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "no bootstrap socket, so jsi exec --broker-fd cannot be used");
            None
        }
    }
}

/// What both sockets share.
struct Door {
    config: Config,
    witness: Arc<dyn Witness>,
    accepting: Arc<AcceptLimits>,
    denials: Arc<Denials>,
}

impl Door {
    fn serve(
        &self,
        channel: Channel,
        (listener, packets): (UnixListener, Option<UnixListener>),
        backend: Arc<Pipeline>,
        mut stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
        let denials = Arc::clone(&self.denials);
        let refused: Refused =
            Arc::new(move |peer: Peer, why: &Refusal| denials.refused(peer, why));
        let endpoint = Endpoint {
            backend,
            limits: self.config.limits,
            reflection: self.config.reflection,
            admin: channel == Channel::Admin || !on(Check::AdminService),
        };
        let (witness, accepting) = (Arc::clone(&self.witness), Arc::clone(&self.accepting));
        async move {
            let sessions = accept_loop(listener, packets, channel, witness, accepting, refused);
            let stop = async move {
                // A sender that is gone means the same.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            serve(endpoint, sessions, stop).await
        }
    }
}
