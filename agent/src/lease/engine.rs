//! Performs what the machine decides, and answers for leases that live.

use super::ending::Outbox;
use super::entry::{Subject, delivery_text};
use super::machine::{self, State};
use super::table::{Ceilings, Table, slot};
use super::terms::{BindingKey, Filter, LeaseError, Selector};
use super::view::{Change, LeaseView, Watcher};
use super::{Issuers, Journal};
use crate::clock::{BootTime, Clock, Moment};
use crate::config::Limits;
use crate::issuer::{AtRest, Class, Sealing};
use crate::log::{EndReason, Event};
use crate::memory::Secret;
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Delivery, Limits as PolicyLimits, RequesterKey};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

/// Changes that a slow watcher may lag behind before it is told [`Change::Lost`].
const WATCH_BACKLOG: usize = 1_024;

/// A lease that has less than this left is not handed out again.
const REUSE_LEFT: Duration = Duration::from_secs(1);

/// What the engine is made of.
pub struct EngineParts {
    /// Time.
    pub clock: Clock,
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Shields the secrets of live leases.
    pub sealing: Arc<dyn Sealing>,
    /// Issuers by kind, for renewal and revocation.
    pub issuers: Issuers,
    /// [`Limits::leases`] and [`Limits::leases_per_uid`].
    pub limits: Limits,
}

/// All leases of the agent.
pub struct Engine {
    pub(super) clock: Clock,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) sealing: Arc<dyn Sealing>,
    pub(super) issuers: Issuers,
    pub(super) changes: broadcast::Sender<Change>,
    /// The first deadline has changed.
    pub(super) earlier: Arc<Notify>,
    /// A revocation has come to an end.
    pub(super) settled: Notify,
    locked: AtomicBool,
    table: Mutex<Table>,
}

impl Engine {
    /// An engine without leases. Nothing runs until [`Engine::start`].
    #[must_use]
    pub fn new(parts: EngineParts) -> Arc<Self> {
        let EngineParts { clock, journal, sealing, issuers, limits } = parts;
        let ceilings = Ceilings { total: limits.leases, per_uid: limits.leases_per_uid };
        Arc::new(Self {
            clock,
            journal,
            sealing,
            issuers,
            changes: broadcast::Sender::new(WATCH_BACKLOG),
            earlier: Arc::new(Notify::new()),
            settled: Notify::new(),
            locked: AtomicBool::new(false),
            table: Mutex::new(Table::new(ceilings)),
        })
    }

    /// A live lease that this request may share: the same requester, credential,
    /// scope and binding, kept, with uses left, and not about to expire (a tenth
    /// of its TTL, or a second). `limits` are those of now: a lease that was
    /// granted under laxer ones is not shared.
    #[must_use]
    pub fn reusable(
        &self,
        key: &RequesterKey,
        credential: &CredentialName,
        scope: &BTreeMap<String, String>,
        binding: BindingKey,
        limits: &PolicyLimits,
    ) -> Option<LeaseId> {
        if limits.hold_none {
            return None;
        }
        let subject = Subject { credential: credential.clone(), scope: scope.clone() };
        let slot = slot(key, &subject, binding);
        let now = self.clock.now().boot;
        let table = self.table();
        let mut found = table.reusable(slot).filter(|entry| {
            let left = entry.expires.since(now);
            *entry.subject == subject
                && entry.binding.key() == binding
                && entry.is_of(key)
                && entry.may_read(key)
                && entry.holder.digest == key.digest
                && entry.uses_left != Some(0)
                && limits.max_uses.is_none_or(|most| entry.uses_left.is_some_and(|u| u <= most))
                && entry.expires <= entry.issued.boot.plus(limits.max_ttl)
                && left >= REUSE_LEFT
                && left >= Duration::from_millis(entry.ttl_ms / 10)
        });
        found.next().map(super::entry::Entry::lease_id)
    }

    /// The secret of a live lease once more: its use is counted and the delivery
    /// is durable in the log before the secret is opened.
    ///
    /// # Errors
    /// [`LeaseError::NeedsReopen`] after a restart (see there), before anything
    /// is counted; otherwise why not.
    pub async fn redeliver(
        self: &Arc<Self>,
        id: &LeaseId,
        key: &RequesterKey,
        request: &RequestId,
        delivery: Delivery,
    ) -> Result<(LeaseView, Secret), LeaseError> {
        self.unlocked()?;
        let counted = self.with_live(id, |entry, _, _| {
            if !entry.may_read(key) {
                return Err(LeaseError::NotFound);
            }
            match (&entry.at_rest, entry.uses_left) {
                (_, Some(0)) => return Err(LeaseError::UsesSpent),
                (None, _) if entry.offer.hold_none => return Err(LeaseError::NotHeld),
                (None, _) => return Err(LeaseError::NeedsReopen),
                (Some(_), _) => {}
            }
            entry.uses_left = entry.uses_left.map(|left| left - 1);
            entry.delivery = delivery;
            Ok(entry.uses_left)
        });
        let uses_left = counted.map_err(|error| self.or_ended(id, key, error))?;
        let delivered = Event::Delivered {
            request: request.clone(),
            lease: id.clone(),
            delivery: delivery_text(delivery).to_owned(),
            uses_left,
        };
        self.journal.append(delivered, None).await?;
        // It may have ended, or the agent been locked, while the record was written.
        self.unlocked()?;
        let (view, at_rest) = self.with_live(id, |entry, now, _| {
            let at_rest = match uses_left {
                Some(0) => entry.at_rest.take(),
                _ => entry.at_rest.clone(),
            };
            let Some(at_rest) = at_rest else {
                // Replaced meanwhile: what was not delivered is not spent.
                entry.uses_left = entry.uses_left.map(|left| left + 1);
                return Err(LeaseError::NeedsReopen);
            };
            entry.outdated = false;
            Ok((LeaseView { reused: true, ..entry.view(now) }, at_rest))
        })?;
        let secret = at_rest.open().map_err(|error| LeaseError::Limit(error.to_string()))?;
        Ok((view, secret))
    }

    /// Gives a lease of before a restart its secret back, as its issuer opened it
    /// again. Nothing is kept for leases that keep nothing.
    ///
    /// # Errors
    /// It is not this requester's, has ended, or guarded memory is exhausted;
    /// [`LeaseError::NeedsReopen`] where a secret was replaced since
    /// [`Engine::rotations`] said `rotations`.
    pub fn attach(
        self: &Arc<Self>,
        id: &LeaseId,
        key: &RequesterKey,
        secret: &Secret,
        rotations: u64,
    ) -> Result<(), LeaseError> {
        self.unlocked()?;
        let at_rest: Arc<dyn AtRest> = self
            .sealing
            .seal_secret(secret)
            .map_err(|error| LeaseError::Limit(error.to_string()))?;
        self.with_live(id, |entry, _, now| {
            if !entry.may_read(key) {
                return Err(LeaseError::NotFound);
            }
            if now != rotations {
                return Err(LeaseError::NeedsReopen);
            }
            if entry.at_rest.is_none() && !entry.offer.hold_none && entry.uses_left != Some(0) {
                entry.at_rest = Some(at_rest);
            }
            Ok(())
        })
    }

    /// Moves a lease's expiry to `increment` from now (`None`: the TTL that it was
    /// granted with); it may come earlier. Clamped, with a warning, to what the
    /// grant allows and, counted from issue, to `max_ttl`, which policy says now.
    /// Durable before it is answered; the answer has the real expiry.
    ///
    /// # Errors
    /// Not this requester's, not renewable, ended, or the log cannot be written.
    pub async fn renew(
        self: &Arc<Self>,
        id: &LeaseId,
        key: &RequesterKey,
        increment: Option<Duration>,
        max_ttl: Option<Duration>,
    ) -> Result<LeaseView, LeaseError> {
        self.unlocked()?;
        let live = self.with_live(id, |entry, _, _| {
            if !entry.is_of(key) {
                return Err(LeaseError::NotFound);
            }
            if !entry.offer.renewable {
                return Err(LeaseError::NotRenewable(entry.subject.credential.clone()));
            }
            let asked = increment.unwrap_or(Duration::from_millis(entry.ttl_ms));
            if asked.is_zero() {
                return Err(LeaseError::Zero);
            }
            let most = max_ttl
                .map_or(entry.at_most, |most| entry.at_most.min(entry.issued.boot.plus(most)));
            let dynamic = entry.offer.class == Class::Dynamic;
            Ok((asked, dynamic, most))
        });
        let (mut asked, dynamic, most) = live.map_err(|error| self.or_ended(id, key, error))?;
        let mut warnings = Vec::new();
        let left = most.since(self.clock.now().boot);
        if asked > left {
            warnings.push(clamped(asked, left, "it may not live longer"));
            asked = left;
        }
        if dynamic {
            let granted = self.renew_at_issuer(id, asked).await?;
            if granted < asked {
                warnings.push(clamped(asked, granted, "its issuer allows no more"));
                asked = granted;
            }
        }
        let now = self.clock.now();
        let expires = now.boot.plus(asked).min(most);
        let renewed = Event::Renewed {
            lease: id.clone(),
            expires,
            expires_at: now.wall.plus(asked).rfc3339(),
        };
        self.journal.append(renewed, None).await?;
        let mut out = Outbox::default();
        let view = {
            let mut table = self.table();
            let now = self.clock.now();
            let number = table.number(id.as_str()).ok_or(LeaseError::Ended)?;
            self.step(&mut table, number, machine::Event::Renewed { expires }, now, "", &mut out);
            match table.entries.get(&number) {
                Some(entry) if matches!(entry.state, State::Active { .. }) => Ok(entry.view(now)),
                _ => Err(LeaseError::Ended),
            }
        };
        self.perform(out);
        let mut view = view?;
        view.warnings.extend(warnings);
        Ok(view)
    }

    /// Ends one's own lease; the record follows in the background. Releasing one
    /// that has ended is no error.
    ///
    /// # Errors
    /// [`LeaseError::NotFound`]: unknown, another's, or ended too long ago.
    pub fn release(
        self: &Arc<Self>,
        id: &LeaseId,
        key: &RequesterKey,
    ) -> Result<LeaseView, LeaseError> {
        // Still there and this requester's?
        self.get(id, Some(key))?;
        self.end(id, EndReason::Released)
    }

    /// Ends a lease whoever holds it: health lost, approval withdrawn, uses spent.
    ///
    /// # Errors
    /// [`LeaseError::NotFound`]
    pub fn end(self: &Arc<Self>, id: &LeaseId, reason: EndReason) -> Result<LeaseView, LeaseError> {
        let now = self.clock.now();
        let mut out = Outbox::default();
        {
            let mut table = self.table();
            if let Some(number) = table.number(id.as_str()) {
                let event = machine::Event::ending(reason);
                self.step(&mut table, number, event, now, "", &mut out);
            }
        }
        self.perform(out);
        self.get(id, None)
    }

    /// One lease as it is now; with a key only if it is that requester's.
    ///
    /// # Errors
    /// [`LeaseError::NotFound`]: unknown, or another's.
    pub fn get(&self, id: &LeaseId, key: Option<&RequesterKey>) -> Result<LeaseView, LeaseError> {
        let now = self.clock.now();
        let table = self.table();
        let live = table.number(id.as_str()).and_then(|number| table.entries.get(&number));
        let entry = live.map(|entry| &**entry).or_else(|| table.remembered(id.as_str()));
        entry
            .filter(|entry| key.is_none_or(|key| entry.is_of(key)))
            .map(|entry| entry.view(now))
            .ok_or(LeaseError::NotFound)
    }

    /// A live lease whose secret is in memory, with the public part of what its
    /// issuer needs to know it again.
    #[must_use]
    pub fn minted(&self, id: &LeaseId) -> Option<(LeaseView, BTreeMap<String, String>)> {
        let now = self.clock.now();
        let table = self.table();
        let entry = table.number(id.as_str()).and_then(|number| table.entries.get(&number))?;
        entry.at_rest.as_ref()?;
        let public = entry.handle.as_ref().map(|handle| handle.public.clone());
        Some((entry.view(now), public.unwrap_or_default()))
    }

    /// Leases in the order of their issue; those that ended, in the order of
    /// their end, come first.
    #[must_use]
    pub fn list(&self, filter: &Filter) -> Vec<LeaseView> {
        let now = self.clock.now();
        let table = self.table();
        list(&table, filter, now)
    }

    /// The leases as they are now, and every change from then on.
    #[must_use]
    pub fn subscribe(&self, filter: &Filter) -> (Vec<LeaseView>, Watcher) {
        let now = self.clock.now();
        let table = self.table();
        // Under the lock, so that no change falls between the two; one that is
        // just being announced may come twice.
        (list(&table, filter, now), Watcher(self.changes.subscribe()))
    }

    /// Ends every lease that matches, as an operator's act (which the caller
    /// records). The views are of those that end by this call.
    pub fn revoke(self: &Arc<Self>, selector: &Selector) -> Vec<LeaseView> {
        let picks_something = selector.all
            || !selector.prefix.is_empty()
            || selector.credential.is_some()
            || selector.digest.is_some()
            || selector.uid.is_some()
            || selector.unit.is_some()
            || selector.container.is_some();
        if !picks_something {
            return Vec::new();
        }
        let numbers = {
            let table = self.table();
            let mut numbers = table.beginning_with(&selector.prefix);
            numbers.retain(|number| {
                table.entries.get(number).is_some_and(|entry| {
                    let holder = &entry.holder;
                    let credential = &entry.subject.credential;
                    selector.credential.as_ref().is_none_or(|c| c == credential)
                        && selector
                            .digest
                            .as_ref()
                            .is_none_or(|d| holder.digest.as_ref() == Some(d))
                        && selector.uid.is_none_or(|uid| holder.uid == uid)
                        && selector.unit.as_ref().is_none_or(|u| holder.unit.as_ref() == Some(u))
                        && selector
                            .container
                            .as_ref()
                            .is_none_or(|c| holder.container.as_ref() == Some(c))
                })
            });
            numbers
        };
        self.end_numbers(&numbers, EndReason::Revoked)
    }

    /// Pending and active leases: in total, and of `uid`.
    #[must_use]
    pub fn counts(&self, uid: u32) -> (u32, u32) {
        self.table().counts(uid)
    }

    /// Locks or unlocks: a locked engine grants, renews and hands out nothing;
    /// leases still end.
    pub fn set_locked(&self, locked: bool) {
        self.locked.store(locked, Ordering::SeqCst);
    }

    /// Locked by [`Engine::set_locked`].
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::SeqCst)
    }

    pub(super) fn unlocked(&self) -> Result<(), LeaseError> {
        if self.locked.load(Ordering::SeqCst) { Err(LeaseError::Locked) } else { Ok(()) }
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // A panic aborts the agent; in tests the table is still whole enough.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a lease that is active and, by the clock, has time left; it
    /// hears the time and [`Engine::rotations`] as well.
    fn with_live<T>(
        self: &Arc<Self>,
        id: &LeaseId,
        work: impl FnOnce(&mut super::entry::Entry, Moment, u64) -> Result<T, LeaseError>,
    ) -> Result<T, LeaseError> {
        let now = self.clock.now();
        let mut out = Outbox::default();
        let result = {
            let mut table = self.table();
            let number = table.number(id.as_str()).ok_or(LeaseError::NotFound)?;
            let rotations = table.rotations;
            match table.entries.get_mut(&number) {
                Some(entry) => match entry.state {
                    State::Active { expires, .. } if now.boot < expires => {
                        work(entry, now, rotations)
                    }
                    State::Active { .. } => {
                        // The timer is late (the host was suspended): end it now.
                        let event = machine::Event::ExpiryReached;
                        self.step(&mut table, number, event, now, "", &mut out);
                        Err(LeaseError::NotFound)
                    }
                    _ => Err(LeaseError::NotFound),
                },
                None => Err(LeaseError::NotFound),
            }
        };
        self.perform(out);
        result
    }

    /// Tells the one who held a lease that it has ended; to others it never was.
    fn or_ended(&self, id: &LeaseId, key: &RequesterKey, error: LeaseError) -> LeaseError {
        match self.get(id, Some(key)) {
            Ok(view) if view.end_reason.is_some() => LeaseError::Ended,
            _ => error,
        }
    }

    /// When something is next due.
    pub(super) fn first_deadline(&self) -> Option<BootTime> {
        self.table().deadlines.first()
    }
}

fn list(table: &Table, filter: &Filter, now: Moment) -> Vec<LeaseView> {
    let ended = table.ended.iter().filter(|_| filter.ended).map(|entry| &**entry);
    let ended = ended.filter(|entry| entry.id.starts_with(&filter.prefix));
    let numbers = table.beginning_with(&filter.prefix);
    let live = numbers.iter().filter_map(|number| Some(&**table.entries.get(number)?));
    ended
        .chain(live)
        .filter(|entry| {
            filter.keys.as_ref().is_none_or(|keys| keys.iter().any(|key| entry.is_of(key)))
        })
        .map(|entry| entry.view(now))
        .collect()
}

fn clamped(asked: Duration, granted: Duration, why: &str) -> String {
    format!("asked for {} s, got {} s: {why}", asked.as_secs(), granted.as_secs())
}
