//! One lease in memory. There may be 200,000, so what leases have in common is
//! shared ([`Interner`]) and nothing is kept twice.

use super::machine::State;
use super::terms::BindingKey;
use super::view::{self, LeaseView};
use crate::attestation::ProcessIdentity;
use crate::clock::{BootTime, Moment, WallTime};
use crate::issuer::{AtRest, Class, EarlyRevocation};
use crate::log::{BindingRecord, HolderRecord, LeaseRecord};
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Delivery, RequesterKey};
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// One lease.
pub(super) struct Entry {
    pub(super) id: Arc<str>,
    pub(super) request: Box<str>,
    pub(super) subject: Arc<Subject>,
    pub(super) offer: Arc<Offer>,
    pub(super) holder: Arc<HolderRecord>,
    pub(super) binding: Binding,
    pub(super) state: State,
    pub(super) issued: Moment,
    /// Kept here too, because it outlives the active state for listings.
    pub(super) expires: BootTime,
    pub(super) at_most: BootTime,
    pub(super) ttl_ms: u64,
    pub(super) uses_left: Option<u32>,
    pub(super) delivery: Delivery,
    /// Its TTL was shortened to what policy or issuer allow.
    pub(super) clamped: bool,
    /// A revocation is under way.
    pub(super) revoking: bool,
    pub(super) note: Option<Box<str>>,
    /// Shared among leases on one stored secret.
    pub(super) at_rest: Option<Arc<dyn AtRest>>,
    /// The stored secret was replaced since it was last delivered.
    pub(super) outdated: bool,
    pub(super) handle: Option<Box<Handle>>,
    pub(super) retry: Option<BootTime>,
}

/// What is asked for; the same for many leases.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) credential: CredentialName,
    pub(super) scope: BTreeMap<String, String>,
}

/// On which terms; the same for many leases.
#[derive(PartialEq, Eq)]
pub(super) struct Offer {
    /// Its kind.
    pub(super) issuer: String,
    /// Its name in configuration.
    pub(super) issuer_name: String,
    pub(super) class: Class,
    pub(super) revocation: EarlyRevocation,
    pub(super) renewable: bool,
    pub(super) hold_none: bool,
    pub(super) policies: Vec<String>,
}

/// What a dynamic credential's revocation needs.
pub(super) struct Handle {
    pub(super) public: BTreeMap<String, String>,
    /// One field, shielded.
    pub(super) sealed: Option<Arc<dyn AtRest>>,
    /// When the backend itself ends it, where that is known.
    pub(super) backend_until: Option<WallTime>,
}

/// What ends a lease besides time.
#[derive(Clone)]
pub(super) enum Binding {
    Process(Arc<ProcessIdentity>),
    Connection(u64),
    None,
}

impl Binding {
    pub(super) fn key(&self) -> BindingKey {
        match self {
            Self::Process(process) => {
                BindingKey::Process { pid: process.pid, start_time: process.start_time }
            }
            Self::Connection(id) => BindingKey::Connection(*id),
            Self::None => BindingKey::None,
        }
    }

    pub(super) fn record(&self) -> BindingRecord {
        match self {
            Self::Process(process) => BindingRecord::Process {
                pid: process.pid,
                start_time: process.start_time,
                pidfs: process.pidfs_handle.clone(),
                exe: process.exe.clone(),
            },
            Self::Connection(_) => BindingRecord::Connection,
            Self::None => BindingRecord::None,
        }
    }
}

impl Entry {
    /// Whether its issuer can and should end it early.
    pub(super) fn revocable(&self) -> bool {
        self.offer.class == Class::Dynamic && self.offer.revocation == EarlyRevocation::Exact
    }

    /// What became of the credential once the lease is over, said honestly.
    pub(super) fn outcome(&self) -> String {
        match (self.offer.class, self.revocable()) {
            (Class::Static, _) => "static: not revoked".to_owned(),
            (Class::Dynamic, true) => "revoked".to_owned(),
            (Class::Dynamic, false) => {
                let until = self.handle.as_ref().and_then(|handle| handle.backend_until);
                let until = until.unwrap_or_else(|| self.expires_wall()).rfc3339();
                match self.offer.revocation {
                    EarlyRevocation::None => format!("not revocable: valid until {until}"),
                    _ => format!("unconfirmed until {until}"),
                }
            }
        }
    }

    /// When its time is, or was, over: of a credential that its issuer cannot end
    /// earlier the last moment at which it may be valid.
    fn expires_wall(&self) -> WallTime {
        self.issued.wall.plus(self.expires.since(self.issued.boot))
    }

    pub(super) fn is_of(&self, key: &RequesterKey) -> bool {
        // Asked of every lease when one uid lists its own: nothing is copied.
        let bound = match &self.binding {
            Binding::Process(process) => Some((process.pid, process.start_time)),
            Binding::Connection(_) | Binding::None => None,
        };
        view::is_of(&self.holder, bound, matches!(self.binding, Binding::None), key)
    }

    /// Whether `key` may have the secret again: only the bound process; where the
    /// lease is bound to no process, whoever it belongs to.
    pub(super) fn may_read(&self, key: &RequesterKey) -> bool {
        match &self.binding {
            Binding::Process(process) => {
                self.holder.uid == key.uid
                    && (process.pid, process.start_time) == (key.pid, key.start_time)
            }
            Binding::Connection(_) | Binding::None => self.is_of(key),
        }
    }

    pub(super) fn lease_id(&self) -> LeaseId {
        LeaseId::from_text(&self.id)
    }

    /// As the log has it.
    pub(super) fn record(&self) -> LeaseRecord {
        LeaseRecord {
            id: self.lease_id(),
            request: RequestId::from_text(&self.request),
            credential: self.subject.credential.as_str().to_owned(),
            scope: self.subject.scope.clone(),
            issuer: self.offer.issuer.clone(),
            issuer_name: (self.offer.issuer_name != self.offer.issuer)
                .then(|| self.offer.issuer_name.clone()),
            class: class_text(self.offer.class).to_owned(),
            revocation: revocation_text(self.offer.revocation).to_owned(),
            state: self.state.name(),
            issued: self.issued.boot,
            issued_wall: self.issued.wall,
            expires: self.expires,
            expires_at_most: self.at_most,
            ttl_ms: self.ttl_ms,
            renewable: self.offer.renewable,
            binding: self.binding.record(),
            holder: HolderRecord::clone(&self.holder),
            uses_left: self.uses_left,
            delivery: delivery_text(self.delivery).to_owned(),
            hold_none: self.offer.hold_none,
            handle: self.handle.as_ref().map(|handle| handle.public.clone()).unwrap_or_default(),
            sealed: None,
            end_reason: self.state.reason(),
            note: self.note.as_deref().unwrap_or_default().to_owned(),
            policies: self.offer.policies.clone(),
            outdated: self.outdated,
        }
    }

    /// As others see it at `now`.
    pub(super) fn view(&self, now: Moment) -> LeaseView {
        let active = matches!(self.state, State::Active { .. });
        let left = |until: BootTime| if active { until.since(now.boot) } else { Duration::ZERO };
        let mut warnings = Vec::new();
        if self.offer.class == Class::Static {
            warnings.push(
                "a stored secret: it stays valid at its backend when the lease ends".to_owned(),
            );
        }
        if self.outdated {
            warnings.push(
                "another secret has been stored since it was delivered: ask for it again"
                    .to_owned(),
            );
        }
        if self.offer.class == Class::Dynamic && self.offer.revocation == EarlyRevocation::None {
            let until = self.expires_wall().rfc3339();
            warnings.push(format!(
                "it cannot be revoked: when the lease ends earlier, it stays valid until {until}"
            ));
        }
        if self.clamped {
            warnings.push(format!("the time asked for was cut to {} s", self.ttl_ms / 1_000));
        }
        LeaseView {
            id: self.lease_id(),
            request: RequestId::from_text(&self.request),
            credential: self.subject.credential.clone(),
            scope: self.subject.scope.clone(),
            issuer: self.offer.issuer.clone(),
            class: self.offer.class,
            revocation: self.offer.revocation,
            state: self.state.name(),
            issued: self.issued.boot,
            issued_wall: self.issued.wall,
            expires: self.expires,
            expires_wall: image(self.expires, now),
            remaining: left(self.expires),
            renewable_for: if self.offer.renewable { left(self.at_most) } else { Duration::ZERO },
            ttl: Duration::from_millis(self.ttl_ms),
            binding: self.binding.record(),
            uses_left: self.uses_left,
            holder: HolderRecord::clone(&self.holder),
            end_reason: self.state.reason(),
            delivery: self.delivery,
            note: self.note.as_deref().unwrap_or_default().to_owned(),
            policies: self.offer.policies.clone(),
            warnings,
            reused: false,
            outdated: self.outdated,
        }
    }
}

/// A time of `CLOCK_BOOTTIME` on the wall clock, as the two stand at `now`.
pub(super) fn image(at: BootTime, now: Moment) -> WallTime {
    if at >= now.boot {
        now.wall.plus(at.since(now.boot))
    } else {
        WallTime(now.wall.0.saturating_sub(now.boot.0 - at.0))
    }
}

pub(super) fn class_text(class: Class) -> &'static str {
    match class {
        Class::Static => "static",
        Class::Dynamic => "dynamic",
    }
}

pub(super) fn revocation_text(revocation: EarlyRevocation) -> &'static str {
    match revocation {
        EarlyRevocation::Exact => "exact",
        EarlyRevocation::Coarse => "coarse",
        EarlyRevocation::None => "none",
    }
}

pub(super) fn delivery_text(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Caller => "caller",
        Delivery::Environment => "environment",
        Delivery::Descriptor => "descriptor",
        Delivery::File => "file",
    }
}

/// Lets equal values share one allocation.
pub(super) struct Interner<T> {
    known: HashMap<u64, Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: 64 }
    }
}

impl<T: PartialEq> Interner<T> {
    /// The shared one that equals `value`; `hashed` is the part of it that tells most apart.
    pub(super) fn share<H: Hash>(&mut self, hashed: &H, value: T) -> Arc<T> {
        let slot = hash(hashed);
        if let Some(known) = self.known.get(&slot).filter(|known| ***known == value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| Arc::strong_count(known) > 1);
            self.sweep_at = (2 * self.known.len()).max(64);
        }
        let shared = Arc::new(value);
        self.known.insert(slot, Arc::clone(&shared));
        shared
    }
}

/// Only for indexes inside one run of the agent; equality is always checked behind it.
pub(super) fn hash<H: Hash>(value: &H) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
