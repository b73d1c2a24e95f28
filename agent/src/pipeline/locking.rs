//! Locked and open: by whom, since when, what opens it again, and the lock that
//! comes by itself when nothing is used.

mod guessing;

use super::{Pipeline, failures};
use crate::clock::{BootTime, Moment};
use crate::config::IdentityKind;
use crate::connection::Connection;
use crate::delivery::{Failure, LockReport};
use crate::memory::SecretBuf;
use crate::policy::Action;
use crate::process::BootTimer;
use crate::store::{Store, StoreError, ThroughLauncher};
use guessing::{Guessing, LockPassphrase};
use jsi_proto::v1::Reason;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Longest passphrase, in bytes: more than anybody types, less than a message.
const MAX_PASSPHRASE: usize = 4096;

/// What a locked agent refuses. The tests of the lock go through both lists.
const STOPPED: [&str; 3] = [
    "issue: new credentials",
    "renewal of leases",
    "reads: a held credential handed out again, secrets put",
];
/// What it goes on doing.
const WORKING: [&str; 5] = [
    "ends of leases: by time, by their process, by release",
    "revocation, and the retrying of it",
    "whoami, leases, list of secrets, removal of secrets",
    "status, explain, audit, reload",
    "public keys and documents",
];

/// The lock's state, besides the engine's and the store's.
pub(super) struct Locking {
    state: Mutex<State>,
    guessing: Guessing,
    last_use: AtomicU64,
    changed: Notify,
}

#[derive(Default)]
struct State {
    locked: Option<Locked>,
    /// That of `jsi lock --passphrase`; gone with the agent.
    passphrase: Option<LockPassphrase>,
}

struct Locked {
    why: String,
    since: Moment,
}

impl Locking {
    /// At the start of an agent; `unopened`: it is locked, and why.
    pub(super) fn new(now: Moment, unopened: Option<String>) -> Self {
        let locked = unopened.map(|why| Locked { why, since: now });
        Self {
            state: Mutex::new(State { locked, passphrase: None }),
            guessing: Guessing::default(),
            last_use: AtomicU64::new(now.boot.0),
            changed: Notify::new(),
        }
    }

    /// Something was issued, renewed, read or put: the agent is not idle.
    pub(super) fn used(&self, now: BootTime) {
        self.last_use.store(now.0, Ordering::Relaxed);
    }

    /// The idle time is to be looked at anew.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    fn last_use(&self) -> BootTime {
        BootTime(self.last_use.load(Ordering::Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    pub(super) async fn lock_agent(
        &self,
        on: &Connection,
        passphrase: SecretBuf,
    ) -> Result<(), Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let mut how = String::new();
        let hashed = if passphrase.is_empty() {
            None
        } else {
            self.lock_passphrase_fits(&passphrase)?;
            how = "with a passphrase of its own".to_owned();
            Some(on_blocking(move || LockPassphrase::new(&passphrase)).await?)
        };
        self.forget_keys("jsi lock", hashed);
        self.record_admin("lock", how, Some(&who)).await
    }

    fn lock_passphrase_fits(&self, passphrase: &SecretBuf) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Failure::field("passphrase", why));
        if passphrase.len() > MAX_PASSPHRASE {
            return wrong("it is longer than 4096 bytes");
        }
        if self.kind().is_ok_and(IdentityKind::has_passphrase) {
            return wrong(
                "the identity has a passphrase of its own, which unlocks; lock without one",
            );
        }
        if self.engine.is_locked() || self.store.is_locked() {
            return wrong("the agent is locked already; unlock it first");
        }
        Ok(())
    }

    /// Locks without being asked; says why in the log.
    pub(super) async fn lock_by_itself(&self, why: &str) {
        if self.engine.is_locked() {
            return;
        }
        self.forget_keys(why, None);
        tracing::info!(why, "locked");
        if let Err(failure) = self.record_admin("lock", why.to_owned(), None).await {
            tracing::error!("{}", failure.message);
        }
    }

    /// Wipes the identity, the journal key, and what leases hold of stored
    /// secrets; hands out nothing from here on.
    fn forget_keys(&self, why: &str, passphrase: Option<LockPassphrase>) {
        self.engine.set_locked(true);
        self.store.lock();
        self.engine.forget_all_stored();
        self.log.set_sealer(None);
        let mut state = self.locking.state();
        if state.locked.is_none() {
            state.locked = Some(Locked { why: why.to_owned(), since: self.clock.now() });
        }
        if passphrase.is_some() {
            state.passphrase = passphrase;
        }
        drop(state);
        self.locking.changed();
    }

    pub(super) async fn unlock_agent(
        &self,
        on: &Connection,
        passphrase: SecretBuf,
    ) -> Result<(), Failure> {
        let who = self.administer(on, Action::Administer).await?;
        if passphrase.len() > MAX_PASSPHRASE {
            return Err(Failure::field("passphrase", "it is longer than 4096 bytes"));
        }
        let attempt = self.locking.guessing.attempt().await?;
        let opened = self.open_with(passphrase).await;
        attempt.came_to(match &opened {
            Ok(()) => Some(true),
            Err(failure) if failure.reason == Reason::WrongPassphrase => Some(false),
            // A plugin that is not there says nothing of who asks.
            Err(_) => None,
        });
        if let Err(failure) = opened {
            let detail = failure.message.clone();
            self.record_admin("unlock refused", detail, Some(&who)).await?;
            return Err(failure);
        }
        self.record_admin("unlock", String::new(), Some(&who)).await
    }

    async fn open_with(&self, passphrase: SecretBuf) -> Result<(), Failure> {
        let held = self.locking.state().passphrase.clone();
        let passphrase = match held {
            None => passphrase,
            Some(held) => {
                if !on_blocking(move || held.is(&passphrase)).await? {
                    return Err(failures::store(&StoreError::WrongPassphrase));
                }
                SecretBuf::new(Vec::new())
            }
        };
        self.with_store(move |store| store.unlock(&passphrase)).await?;
        self.is_open()
    }

    /// The store is open: everything else follows.
    fn is_open(&self) -> Result<(), Failure> {
        let sealer = super::start::sealer(&self.store, &self.about.shield)
            .map_err(|error| Failure::new(Reason::Internal, failures::whole(&error)))?;
        self.log.set_sealer(sealer);
        *self.locking.state() = State::default();
        self.locking.used(self.clock.now().boot);
        self.engine.set_locked(false);
        self.issuers.due.notify_one();
        self.locking.changed();
        Ok(())
    }

    fn kind(&self) -> Result<IdentityKind, StoreError> {
        self.store.identity_kind()
    }

    /// Why it is locked, and what opens it; `None`: it is open.
    pub(super) fn why_locked(&self) -> Option<String> {
        if !self.engine.is_locked() && !self.store.is_locked() {
            return None;
        }
        let state = self.locking.state();
        let why = state.locked.as_ref().map_or("locked", |locked| locked.why.as_str());
        Some(format!("{why}; open it with: jsi unlock"))
    }

    pub(super) async fn lock_report(&self) -> LockReport {
        let store = Arc::clone(&self.store);
        let kind = on_blocking(move || store.identity_kind()).await;
        let (identity, unlock_with) = match kind {
            Ok(Ok(kind)) => (kind.name().to_owned(), opens_by(kind)),
            Ok(Err(error)) => (error.to_string(), "nothing"),
            Err(failure) => (failure.message, "nothing"),
        };
        let now = self.clock.now();
        let span = self.in_force().config.lock_after_idle;
        let state = self.locking.state();
        let due = span
            .filter(|_| state.locked.is_none())
            .map(|span| now.wall.plus(self.locking.last_use().plus(span).since(now.boot)));
        LockReport {
            since: state.locked.as_ref().map(|locked| locked.since.wall),
            identity,
            unlock_with: if state.passphrase.is_some() { "passphrase" } else { unlock_with },
            auto_lock_at: due,
            stopped: STOPPED.to_vec(),
            working: WORKING.to_vec(),
        }
    }
}

fn opens_by(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::KeyFile | IdentityKind::Ssh => "nothing",
        IdentityKind::Passphrase | IdentityKind::SshPassphrase => "passphrase",
        IdentityKind::Plugin => "plugin",
        IdentityKind::SystemdCreds { .. } => "systemd",
    }
}

/// Before the log is read, so that what it has sealed can be: a systemd
/// credential, from the pipe that root has filled or by systemd-creds itself.
/// Gives why the store is locked, if it is.
pub(super) async fn open_by_systemd(
    store: &Arc<Store>,
    given: Option<OwnedFd>,
) -> Result<String, super::RunError> {
    let kind = store.identity_kind()?;
    let why = match kind {
        IdentityKind::Plugin => "the identity's plugin is being asked".to_owned(),
        IdentityKind::SystemdCreds { .. } => {
            let store = Arc::clone(store);
            let opened = on_blocking(move || {
                let mut key = zeroize::Zeroizing::new(Vec::with_capacity(64 * 1024));
                if let Some(pipe) = given {
                    // An empty one is asked for again, by our own means.
                    let _ = std::fs::File::from(pipe).take(64 * 1024).read_to_end(&mut key);
                }
                store.unlock(&SecretBuf::new(std::mem::take(&mut *key)))
            });
            match opened.await {
                Ok(Ok(())) => String::new(),
                Ok(Err(error)) => format!("the identity did not open at the start: {error}"),
                Err(failure) => failure.message,
            }
        }
        kind => format!("the agent starts locked, since its identity is a {}", kind.name()),
    };
    Ok(why)
}

/// Once the agent serves: a plugin, if it opens without a person.
pub(super) async fn open_by_plugin(pipeline: Arc<Pipeline>, remote: Arc<ThroughLauncher>) {
    if !matches!(pipeline.kind(), Ok(IdentityKind::Plugin)) {
        return;
    }
    let Ok(attempt) = pipeline.locking.guessing.attempt().await else { return };
    let opened = pipeline
        .with_store(move |store| remote.alone(|| store.unlock(&SecretBuf::new(Vec::new()))))
        .await
        .and_then(|()| pipeline.is_open());
    attempt.came_to(None);
    let (act, detail) = match opened {
        Ok(()) => ("unlock", "by the identity's plugin".to_owned()),
        Err(failure) => {
            let why = format!("the identity did not open by itself: {}", failure.message);
            if let Some(locked) = &mut pipeline.locking.state().locked {
                locked.why.clone_from(&why);
            }
            ("unlock refused", why)
        }
    };
    if let Err(failure) = pipeline.record_admin(act, detail, None).await {
        tracing::error!("{}", failure.message);
    }
}

/// Locks after `lock_after_idle`, on the clock that counts suspended time.
pub(super) async fn lock_when_idle(pipeline: Arc<Pipeline>) {
    let timer = match BootTimer::new() {
        Ok(timer) => timer,
        Err(error) => {
            tracing::error!(%error, "there is no timer, so lock_after_idle does nothing");
            return;
        }
    };
    loop {
        let span = pipeline.in_force().config.lock_after_idle;
        let open = pipeline.locking.state().locked.is_none();
        let due = span.filter(|_| open).map(|span| pipeline.locking.last_use().plus(span));
        if due.is_some_and(|due| due <= pipeline.clock.now().boot) {
            pipeline.lock_by_itself("nothing was used for lock_after_idle").await;
            continue;
        }
        if timer.set(due).is_err() {
            return;
        }
        tokio::select! {
            fired = timer.fired() => if fired.is_err() { return },
            () = pipeline.locking.changed.notified() => {}
        }
    }
}

async fn on_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|broken| Failure::new(Reason::Internal, broken.to_string()))
}
