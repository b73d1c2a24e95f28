//! After a restart: which leases of the log still live.

use super::binding::Watch;
use super::ending::Outbox;
use super::engine::Engine;
use super::entry::{Binding, Entry, Handle, Offer, Subject, class_text, revocation_text};
use super::grant::{delivery_of, handle_secret};
use super::machine::{self, State};
use super::terms::Bound;
use crate::attestation::{BoundProcess, ProcessIdentity};
use crate::clock::{Moment, WallTime};
use crate::issuer::{Class, EarlyRevocation};
use crate::log::{BindingRecord, EndReason, LeaseRecord, LeaseState};
use crate::memory::SecretBuf;
use crate::names::CredentialName;
use std::collections::{HashMap, hash_map};
use std::pin::Pin;
use std::sync::Arc;

/// Finds a process again, in this boot; `None`: it has ended.
pub type Finder<'a> = &'a (dyn Fn(ProcessIdentity) -> Found<'a> + Send + Sync);

/// What a [`Finder`] resolves to.
pub type Found<'a> = Pin<Box<dyn Future<Output = Option<BoundProcess>> + Send + 'a>>;

/// What became of the leases of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// They live on.
    pub alive: usize,
    /// They ended by the restart, or are being revoked.
    pub ended: usize,
    /// They cannot be understood; the log names them, nothing is held for them.
    pub unreadable: usize,
}

impl Engine {
    /// Takes over the leases of the log. Those of another boot end; those bound
    /// to a process live on where it is found again; those bound to a connection
    /// end; those bound to nothing stay; revocations under way are taken up.
    /// `unseal` opens the secret part of a revocation handle; `None`: it cannot.
    ///
    /// Secrets are not in the log: see [`LeaseError::NeedsReopen`](super::LeaseError).
    pub async fn restore(
        self: &Arc<Self>,
        leases: Vec<LeaseRecord>,
        recorded_boot: Option<&str>,
        boot: &str,
        find: Finder<'_>,
        unseal: &(dyn Fn(&LeaseRecord) -> Option<SecretBuf> + Sync),
    ) -> Restored {
        let mut count = Restored::default();
        let mut known: HashMap<ProcessIdentity, Option<BoundProcess>> = HashMap::new();
        let same_boot = recorded_boot == Some(boot);
        for record in leases {
            if matches!(record.state, LeaseState::Ended | LeaseState::Failed) {
                continue;
            }
            let found = match (&record.binding, record.state) {
                (BindingRecord::Process { pid, start_time, pidfs, exe }, LeaseState::Active)
                    if same_boot =>
                {
                    let identity = ProcessIdentity {
                        pid: *pid,
                        start_time: *start_time,
                        pidfs_handle: pidfs.clone(),
                        exe: exe.clone(),
                    };
                    // One search for each process, not for each lease.
                    match known.get(&identity) {
                        Some(found) => found.clone(),
                        None => {
                            let found = find(identity.clone()).await;
                            known.insert(identity, found.clone());
                            found
                        }
                    }
                }
                _ => None,
            };
            let sealed = record.sealed.is_some().then(|| unseal(&record)).flatten();
            match self.restore_one(record, same_boot, found, sealed) {
                Some(true) => count.alive += 1,
                Some(false) => count.ended += 1,
                None => count.unreadable += 1,
            }
        }
        count
    }

    /// Whether it lives; `None`: it cannot be understood.
    fn restore_one(
        self: &Arc<Self>,
        record: LeaseRecord,
        same_boot: bool,
        found: Option<BoundProcess>,
        sealed: Option<SecretBuf>,
    ) -> Option<bool> {
        let now = self.clock.now();
        let state = record.state;
        let reason = if same_boot {
            end_of(&record, found.is_some(), now)
        } else {
            Some(EndReason::Rebooted)
        };
        let sealed = sealed.and_then(|bytes| handle_secret(&bytes).ok());
        let sealed = sealed.and_then(|secret| self.seal(&secret).ok());
        let (expires, at_most) = (record.expires, record.expires_at_most);
        let mut out = Outbox::default();
        let alive = {
            let mut table = self.table();
            let mut entry = self.entry_of(&mut table, record)?;
            if let Some(handle) = &mut entry.handle {
                handle.sealed = sealed;
            }
            if matches!(entry.state, State::Pending) {
                table.reserve_restored(entry.holder.uid);
            }
            match state {
                LeaseState::Pending | LeaseState::Active => {
                    let key = entry.binding.key();
                    let mut reason = reason;
                    if let (Some(process), None) = (found, reason)
                        && let hash_map::Entry::Vacant(free) = table.watches.entry(key)
                    {
                        match Watch::new(self, Bound::Process(process)) {
                            Ok(Some(watch)) => drop(free.insert_entry(watch)),
                            Ok(None) => {}
                            // It cannot be watched, so it cannot be kept.
                            Err(_) => reason = Some(EndReason::ProcessExited),
                        }
                    }
                    let number = table.insert(entry);
                    if state == LeaseState::Active {
                        let event = machine::Event::Granted { expires, at_most };
                        self.step(&mut table, number, event, now, "", &mut out);
                        table.activate(number);
                    }
                    if let Some(reason) = reason {
                        let event = machine::Event::ending(reason);
                        self.step(&mut table, number, event, now, "", &mut out);
                    }
                    reason.is_none()
                }
                LeaseState::Ending | LeaseState::Stuck => {
                    let number = table.insert(entry);
                    let event = machine::Event::RetryDue;
                    self.step(&mut table, number, event, now, "", &mut out);
                    false
                }
                LeaseState::Ended | LeaseState::Failed => false,
            }
        };
        self.perform(out);
        Some(alive)
    }

    fn entry_of(&self, table: &mut super::table::Table, record: LeaseRecord) -> Option<Box<Entry>> {
        let credential = CredentialName::new(&record.credential).ok()?;
        let class = [Class::Static, Class::Dynamic]
            .into_iter()
            .find(|class| class_text(*class) == record.class)?;
        let revocation = [EarlyRevocation::Exact, EarlyRevocation::Coarse, EarlyRevocation::None]
            .into_iter()
            .find(|revocation| revocation_text(*revocation) == record.revocation)?;
        let reason = record.end_reason.unwrap_or(EndReason::AgentStopping);
        let state = match record.state {
            LeaseState::Ending => State::Ending { reason, failures: 0 },
            LeaseState::Stuck => State::Stuck { reason },
            LeaseState::Pending | LeaseState::Active => State::Pending,
            LeaseState::Ended | LeaseState::Failed => return None,
        };
        let binding = match record.binding {
            BindingRecord::Process { pid, start_time, pidfs, exe } => {
                Binding::Process(Arc::new(ProcessIdentity {
                    pid,
                    start_time,
                    pidfs_handle: pidfs,
                    exe,
                }))
            }
            // Of an agent that is no more; numbers of this one begin anew.
            BindingRecord::Connection => Binding::Connection(u64::MAX),
            BindingRecord::None => Binding::None,
        };
        let offer = Offer {
            issuer_name: record.issuer_name.unwrap_or_else(|| record.issuer.clone()),
            issuer: record.issuer,
            class,
            revocation,
            renewable: record.renewable,
            hold_none: record.hold_none,
            policies: record.policies,
        };
        let handle = Handle {
            public: record.handle,
            sealed: None,
            backend_until: (class == Class::Dynamic).then(|| {
                let life = record.expires.since(record.issued);
                WallTime(record.issued_wall.0).plus(life)
            }),
        };
        let holder = record.holder;
        Some(Box::new(Entry {
            id: Arc::from(record.id.as_str()),
            request: Box::from(record.request.as_str()),
            subject: table.subjects.share(
                &credential,
                Subject { credential: credential.clone(), scope: record.scope },
            ),
            offer: table.offers.share(&(offer.issuer_name.clone(), offer.policies.clone()), offer),
            holder: table.holders.share(&(holder.pid, holder.start_time), holder),
            binding,
            state,
            issued: Moment { boot: record.issued, wall: record.issued_wall },
            expires: record.expires,
            at_most: record.expires_at_most,
            ttl_ms: record.ttl_ms,
            uses_left: record.uses_left,
            delivery: delivery_of(&record.delivery),
            clamped: false,
            revoking: false,
            note: (!record.note.is_empty()).then(|| record.note.into_boxed_str()),
            at_rest: None,
            outdated: record.outdated,
            handle: (class == Class::Dynamic).then(|| Box::new(handle)),
            retry: None,
        }))
    }
}

/// Why a lease of this boot ends by the restart; `None`: it does not.
fn end_of(record: &LeaseRecord, found: bool, now: Moment) -> Option<EndReason> {
    if record.state == LeaseState::Pending {
        // Nobody knows whether anything was minted: clean up.
        return Some(EndReason::AgentStopping);
    }
    if record.expires <= now.boot {
        return Some(EndReason::Expired);
    }
    match record.binding {
        BindingRecord::Process { .. } => (!found).then_some(EndReason::ProcessExited),
        BindingRecord::Connection => Some(EndReason::ConnectionClosed),
        BindingRecord::None => None,
    }
}
