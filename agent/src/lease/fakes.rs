//! A fake log, and an engine on fakes with a clock that is moved by hand.

use super::*;
use crate::attestation::{BoundProcess, ProcessIdentity};
use crate::clock::Clock;
use crate::config;
use crate::issuer::fakes::{FakeIssuer, FakeSealing, secret};
use crate::issuer::{
    Capabilities, Class, EarlyRevocation, Issued, OrphanCleanup, RevocationHandle,
};
use crate::log::{Event, HolderRecord};
use crate::memory::SecretBuf;
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Delivery, Limits, RequesterKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Remembers what is written, and fails or waits when told to.
#[derive(Clone, Default)]
pub(super) struct FakeJournal(Arc<JournalState>);

pub(super) struct JournalState {
    pub(super) records: Mutex<Vec<(Event, Instant)>>,
    pub(super) sealed: Mutex<Vec<Vec<u8>>>,
    pub(super) broken: AtomicBool,
    /// Durable appends take one each.
    pub(super) gate: Semaphore,
}

impl Default for JournalState {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            sealed: Mutex::default(),
            broken: AtomicBool::new(false),
            gate: Semaphore::new(1_000_000),
        }
    }
}

impl std::ops::Deref for FakeJournal {
    type Target = JournalState;
    fn deref(&self) -> &JournalState {
        &self.0
    }
}

impl Journal for FakeJournal {
    fn append(&self, event: Event, sealed: Option<SecretBuf>) -> Durable {
        let this = self.clone();
        Box::pin(async move {
            this.gate.acquire().await.unwrap().forget();
            if this.broken.load(Ordering::SeqCst) {
                return Err(JournalError("no space left on device".into()));
            }
            this.sealed.lock().unwrap().extend(sealed.map(|bytes| bytes.expose().to_vec()));
            this.records.lock().unwrap().push((event, Instant::now()));
            Ok(())
        })
    }
    fn append_background(&self, events: Vec<Event>) {
        let mut records = self.records.lock().unwrap();
        records.extend(events.into_iter().map(|event| (event, Instant::now())));
    }
}

impl FakeJournal {
    /// `kind` of every record, in order.
    pub(super) fn kinds(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        let kind = |event: &Event| {
            let value = serde_json::to_value(event).unwrap();
            value["kind"].as_str().unwrap().to_owned()
        };
        records.iter().map(|(event, _)| kind(event)).collect()
    }
}

/// An engine on fakes.
pub(super) struct Bench {
    pub(super) engine: Arc<Engine>,
    pub(super) journal: FakeJournal,
    pub(super) sealing: FakeSealing,
    pub(super) issuer: Arc<FakeIssuer>,
    pub(super) millis: Arc<AtomicU64>,
    next: AtomicU64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(FakeIssuer::dynamic(), None, config::Limits::default())
    }

    /// `clock`: `None` for one that is moved by hand.
    pub(super) fn with(issuer: FakeIssuer, clock: Option<Clock>, limits: config::Limits) -> Self {
        let millis = Arc::new(AtomicU64::new(1_000_000));
        let journal = FakeJournal::default();
        let sealing = FakeSealing::default();
        let issuer = Arc::new(issuer);
        let found = Arc::clone(&issuer);
        let engine = Engine::new(EngineParts {
            clock: clock.unwrap_or_else(|| Clock::manual(Arc::clone(&millis))),
            journal: Arc::new(journal.clone()),
            sealing: Arc::new(sealing.clone()),
            issuers: Arc::new(move |kind| (kind == "fake").then(|| Arc::clone(&found) as _)),
            limits,
        });
        Self { engine, journal, sealing, issuer, millis, next: AtomicU64::new(0) }
    }

    pub(super) fn pass(&self, span: Duration) {
        self.millis.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
        self.engine.tick();
    }

    /// A grant of a static credential for ten minutes, at most an hour, bound to nothing.
    pub(super) fn grant(&self, key: &RequesterKey) -> Grant {
        let credential = CredentialName::new("db/orders").unwrap();
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&number.to_le_bytes());
        Grant {
            id: LeaseId::new(&credential, random),
            request: RequestId::new(number.to_le_bytes()),
            terms: Terms {
                credential,
                scope: BTreeMap::new(),
                limits: Limits {
                    max_ttl: Duration::from_secs(3600),
                    default_ttl: Duration::from_secs(600),
                    max_uses: None,
                    approvals: Vec::new(),
                    bind: None,
                    hold_none: false,
                },
                requester: key.clone(),
                holder: holder(key),
                policies: vec!["orders".into()],
            },
            issuer: crate::names::IssuerName::store(),
            capabilities: Capabilities {
                kind: "store",
                class: Class::Static,
                revocation: EarlyRevocation::None,
                cleanup: OrphanCleanup::NotNeeded,
                renewable: true,
                min_ttl: Duration::ZERO,
                max_ttl: None,
            },
            ttl: Duration::from_secs(600),
            binding: Bound::None,
            delivery: Delivery::Caller,
            note: String::new(),
            rotations: self.engine.rotations(),
        }
    }

    /// The same of a dynamic one.
    pub(super) fn dynamic(&self, key: &RequesterKey) -> Grant {
        let issuer = crate::names::IssuerName::new("fake").unwrap();
        Grant { issuer, capabilities: self.issuer.capabilities.clone(), ..self.grant(key) }
    }

    pub(super) async fn granted(&self, grant: Grant) -> LeaseView {
        self.engine.grant(grant, issued()).await.map_err(|e| e.to_string()).unwrap().view
    }
}

pub(super) fn issued() -> Issued {
    let handle = RevocationHandle { public: BTreeMap::new(), sealed: None };
    Issued { secret: secret(b"geheim"), at_rest: None, handle, backend_ttl: None }
}

/// What a dynamic issuer would have issued.
pub(super) fn minted() -> Issued {
    let public = BTreeMap::from([("role".to_owned(), "jsi_orders_1".to_owned())]);
    let handle = RevocationHandle { public, sealed: Some(SecretBuf::from_slice(b"token")) };
    Issued { handle, ..issued() }
}

pub(super) fn key(pid: u32) -> RequesterKey {
    RequesterKey { pid, start_time: 7, uid: 1000, digest: Some("ab".repeat(32)) }
}

pub(super) fn holder(key: &RequesterKey) -> HolderRecord {
    HolderRecord {
        pid: key.pid,
        start_time: key.start_time,
        uid: key.uid,
        gid: key.uid,
        exe: Some("/usr/bin/bash".into()),
        digest: key.digest.clone(),
        unit: None,
        invocation: None,
        container: None,
        container_runtime: None,
        pod: None,
        lsm: None,
        assurance: 1,
        assurance_with_jit: None,
        missed: Vec::new(),
        caller: None,
        target: None,
    }
}

/// A real process to bind to, ended with the test.
pub(super) struct Sleeper(Child);

impl Sleeper {
    pub(super) fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("60").stdin(Stdio::null()).spawn().unwrap())
    }

    pub(super) fn bound(&self) -> BoundProcess {
        BoundProcess {
            pidfd: Arc::new(crate::process::pidfd::open(self.0.id()).unwrap()),
            identity: self.identity(),
        }
    }

    pub(super) fn identity(&self) -> ProcessIdentity {
        ProcessIdentity {
            pid: self.0.id(),
            start_time: 7,
            pidfs_handle: None,
            exe: Some("/usr/bin/sleep".into()),
        }
    }

    pub(super) fn key(&self) -> RequesterKey {
        key(self.0.id())
    }

    pub(super) fn kill(&self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL).unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Secrets that rest shielded.
pub(super) fn resting(bench: &Bench) -> usize {
    bench.sealing.resting.load(Ordering::SeqCst)
}

/// Lets spawned tasks run.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
