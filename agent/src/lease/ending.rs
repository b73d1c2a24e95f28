//! Effects: records, watchers, deadlines, and revocation at issuers.

use super::LeaseError;
use super::engine::Engine;
use super::grant::HANDLE;
use super::machine::{self, Effect, Failure, State, transition};
use super::table::Table;
use super::terms::BindingKey;
use super::view::{Change, LeaseView};
use crate::clock::{BootTime, Moment};
use crate::issuer::{Issuer, IssuerError, RevocationHandle};
use crate::log::{EndReason, Event, LeaseState};
use crate::memory::SecretBuf;
use crate::names::LeaseId;
use crate::process::BootTimer;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Leases that end in one turn of the lock, so that a mass ending holds nobody up.
const TURN: usize = 256;

/// How long one revocation may take before it counts as failed.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be done once the lock is open.
#[derive(Default)]
pub(super) struct Outbox {
    records: Vec<Event>,
    changes: Vec<Change>,
    revoke: Vec<u64>,
    wake: bool,
    settled: bool,
}

impl Engine {
    /// Starts the timer. Must be called inside a tokio runtime; it runs as long
    /// as the engine lives.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let timer = BootTimer::new()?;
        let earlier = Arc::clone(&self.earlier);
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                // Not held while waiting, so that the engine can be dropped.
                let set = match engine.upgrade() {
                    Some(engine) => {
                        engine.tick();
                        timer.set(engine.first_deadline())
                    }
                    None => return,
                };
                // A timer that cannot be set must not keep a lease alive: look often.
                let nap = Duration::from_secs(if set.is_ok() { 60 } else { 1 });
                tokio::select! {
                    _ = timer.fired(), if set.is_ok() => {}
                    () = earlier.notified() => {}
                    () = tokio::time::sleep(nap) => {}
                }
            }
        });
        Ok(())
    }

    /// Does everything that is due by the clock.
    pub fn tick(self: &Arc<Self>) {
        loop {
            let now = self.clock.now();
            let mut out = Outbox::default();
            let mut done = 0;
            {
                let mut table = self.table();
                while done < TURN
                    && let Some((number, due)) = table.deadlines.pop(now.boot)
                {
                    let event = match due {
                        super::expiry::Due::Expiry => machine::Event::ExpiryReached,
                        super::expiry::Due::Retry => machine::Event::RetryDue,
                    };
                    self.step(&mut table, number, event, now, "", &mut out);
                    done += 1;
                }
            }
            self.perform(out);
            if done < TURN {
                return;
            }
        }
    }

    /// Ends every lease and waits, at most `wait`, for the revocations; how many
    /// are still under way then. With [`EndReason::AgentStopping`] nothing is
    /// granted from here on.
    pub async fn end_all(self: &Arc<Self>, reason: EndReason, wait: Duration) -> usize {
        let numbers = {
            let mut table = self.table();
            table.stopping |= reason == EndReason::AgentStopping;
            table.beginning_with("")
        };
        self.end_numbers(&numbers, reason);
        let all_settled = async {
            loop {
                let settled = self.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if self.table().ending() == 0 {
                    return;
                }
                settled.await;
            }
        };
        // tokio's clock is enough here: nobody waits through a suspend.
        let _ = tokio::time::timeout(wait, all_settled).await;
        self.table().ending()
    }

    /// The process or connection behind `key` has ended.
    pub(super) fn bound_ended(self: &Arc<Self>, key: BindingKey) {
        let reason = match key {
            BindingKey::Process { .. } => EndReason::ProcessExited,
            BindingKey::Connection(_) => EndReason::ConnectionClosed,
            BindingKey::None => return,
        };
        loop {
            let numbers = self.table().bound_to(key, TURN);
            if numbers.is_empty() {
                // A watch that no lease came to use (its grant failed).
                self.table().watches.remove(&key);
                return;
            }
            self.end_numbers(&numbers, reason);
        }
    }

    /// Ends these; the views are of those that were pending or active.
    pub(super) fn end_numbers(
        self: &Arc<Self>,
        numbers: &[u64],
        reason: EndReason,
    ) -> Vec<LeaseView> {
        let mut views = Vec::new();
        for turn in numbers.chunks(TURN) {
            let now = self.clock.now();
            let mut out = Outbox::default();
            {
                let mut table = self.table();
                for number in turn {
                    let Some(entry) = table.entries.get(number) else { continue };
                    if !matches!(entry.state, State::Pending | State::Active { .. }) {
                        continue;
                    }
                    let event = machine::Event::ending(reason);
                    self.step(&mut table, *number, event, now, "", &mut out);
                    let over = table.entries.get(number).map(|entry| entry.view(now));
                    views.extend(over.or_else(|| table.ended.back().map(|e| e.view(now))));
                }
            }
            self.perform(out);
        }
        views
    }

    /// One transition, with all that it changes in the table; what must wait for
    /// the lock goes into `out`. `error` is what a backend said, where it did.
    pub(super) fn step(
        &self,
        table: &mut Table,
        number: u64,
        event: machine::Event,
        now: Moment,
        error: &str,
        out: &mut Outbox,
    ) {
        let Some(entry) = table.entries.get_mut(&number) else { return };
        let before = entry.state;
        let (next, effects) = transition(before, event, now.boot);
        entry.state = next;
        let uid = entry.holder.uid;
        let live = |state| matches!(state, State::Pending | State::Active { .. });
        if matches!(before, State::Active { .. }) && !live(next) {
            table.deactivate(number);
        }
        if live(before) && !live(next) {
            table.unreserve(uid);
        }
        let mut revoke = false;
        for effect in effects.iter() {
            let Some(entry) = table.entries.get_mut(&number) else { return };
            match effect {
                Effect::Record(state) => {
                    out.records.extend(record(entry, state, error));
                }
                Effect::WipeSecret => entry.at_rest = None,
                Effect::StartRevocation => revoke = true,
                Effect::ScheduleExpiry(at) => out.wake |= table.expire_at(number, at),
                Effect::ScheduleRetry(at) => {
                    out.settled = true;
                    out.wake |= table.retry_at(number, Some(jitter(at, now.boot)));
                }
                Effect::NotifyHolder => {
                    if self.changes.receiver_count() > 0 {
                        let view = Arc::new(entry.view(now));
                        out.changes.push(change(before, next, view));
                    }
                }
            }
        }
        if matches!(next, State::Ended { .. } | State::Failed) && before != next {
            out.settled = true;
            table.retire(number);
        } else if revoke {
            self.start_revocation(table, number, now, out);
        }
    }

    /// What cannot be revoked before its time is over at once; the rest needs its issuer.
    fn start_revocation(&self, table: &mut Table, number: u64, now: Moment, out: &mut Outbox) {
        table.retry_at(number, None);
        let Some(entry) = table.entries.get_mut(&number) else { return };
        if !entry.revocable() {
            self.step(table, number, machine::Event::Revoked, now, "", out);
        } else if !entry.revoking {
            entry.revoking = true;
            out.revoke.push(number);
        }
    }

    /// Does what had to wait for the lock.
    pub(super) fn perform(self: &Arc<Self>, out: Outbox) {
        let Outbox { records, changes, revoke, wake, settled } = out;
        if !records.is_empty() {
            self.journal.append_background(records);
        }
        for change in changes {
            // Nobody listens any more: no loss.
            let _ = self.changes.send(change);
        }
        // Without a runtime the agent is going: the log has it as ending, and the
        // next start takes it up.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for number in revoke {
                let engine = Arc::clone(self);
                runtime.spawn(async move { engine.revoke_at_issuer(number).await });
            }
        }
        if wake {
            self.earlier.notify_one();
        }
        if settled {
            self.settled.notify_waiters();
        }
    }

    async fn revoke_at_issuer(self: Arc<Self>, number: u64) {
        let result = match self.handle_of(number) {
            Ok((issuer, handle)) => {
                match tokio::time::timeout(REVOKE_TIMEOUT, issuer.revoke(&handle)).await {
                    Ok(result) => result,
                    Err(_) => Err(IssuerError::Unavailable(format!(
                        "no answer within {} s",
                        REVOKE_TIMEOUT.as_secs()
                    ))),
                }
            }
            Err(error) => Err(error),
        };
        let (event, error) = match result {
            Ok(()) => (machine::Event::Revoked, String::new()),
            Err(error) => (machine::Event::RevokeFailed(failure(&error)), error.to_string()),
        };
        let now = self.clock.now();
        let mut out = Outbox::default();
        {
            let mut table = self.table();
            if let Some(entry) = table.entries.get_mut(&number) {
                entry.revoking = false;
            }
            self.step(&mut table, number, event, now, &error, &mut out);
        }
        self.perform(out);
    }

    /// Lengthens what was issued at its backend; what that granted.
    pub(super) async fn renew_at_issuer(
        &self,
        id: &LeaseId,
        ttl: Duration,
    ) -> Result<Duration, LeaseError> {
        let number = self.table().number(id.as_str()).ok_or(LeaseError::Ended)?;
        let said = |error: IssuerError| LeaseError::Issuer(error.to_string());
        let (issuer, handle) = self.handle_of(number).map_err(said)?;
        issuer.renew(&handle, ttl).await.map_err(said)
    }

    fn handle_of(&self, number: u64) -> Result<(Arc<dyn Issuer>, RevocationHandle), IssuerError> {
        let (name, public, sealed) = {
            let table = self.table();
            let entry = table.entries.get(&number);
            let entry =
                entry.ok_or_else(|| IssuerError::Refused("the lease is over".to_owned()))?;
            let handle = entry.handle.as_deref();
            let public: BTreeMap<_, _> = handle.map(|h| h.public.clone()).unwrap_or_default();
            (entry.offer.issuer_name.clone(), public, handle.and_then(|h| h.sealed.clone()))
        };
        let issuer = (self.issuers)(&name).ok_or_else(|| {
            IssuerError::Unavailable(format!("the issuer {name} is not configured any more"))
        })?;
        let sealed = match sealed {
            None => None,
            Some(sealed) => {
                let opened =
                    sealed.open().map_err(|error| IssuerError::Limit(error.to_string()))?;
                opened.field(HANDLE).map(|field| SecretBuf::from_slice(field.value.expose()))
            }
        };
        Ok((issuer, RevocationHandle { public, sealed }))
    }
}

/// Whether trying again may help.
fn failure(error: &IssuerError) -> Failure {
    match error {
        IssuerError::Refused(_) => Failure::Final,
        IssuerError::Locked
        | IssuerError::Missing(_)
        | IssuerError::Damaged(..)
        | IssuerError::Unavailable(_)
        | IssuerError::Scope(..)
        | IssuerError::Fact(_)
        | IssuerError::Keys(..)
        | IssuerError::Limit(_) => Failure::Transient,
    }
}

fn record(entry: &super::entry::Entry, state: LeaseState, error: &str) -> Option<Event> {
    let lease = entry.lease_id();
    let error = error.to_owned();
    let reason = entry.state.reason();
    Some(match state {
        LeaseState::Ending => Event::Ending { lease, reason: reason? },
        LeaseState::Ended => Event::Ended { lease, reason: reason?, outcome: entry.outcome() },
        LeaseState::Stuck => Event::Stuck { lease, reason: reason?, error },
        LeaseState::Failed => Event::Failed { lease, error },
        // Durable before the transition, or never.
        LeaseState::Pending | LeaseState::Active => return None,
    })
}

fn change(before: State, next: State, view: Arc<LeaseView>) -> Change {
    match next {
        State::Active { .. } if matches!(before, State::Active { .. }) => Change::Renewed(view),
        State::Pending | State::Active { .. } => Change::Granted(view),
        State::Ending { .. } => Change::Ending(view),
        State::Ended { .. } | State::Failed => Change::Ended(view),
        State::Stuck { .. } => Change::Stuck(view),
    }
}

/// Up to a fifth later, so that what failed together is not tried together.
fn jitter(at: BootTime, now: BootTime) -> BootTime {
    let mut random = [0_u8; 2];
    // Without random numbers there is no jitter, and nothing worse.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let pause = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
    let extra = pause / 5 * u64::from(u16::from_le_bytes(random)) / u64::from(u16::MAX);
    at.plus(Duration::from_millis(extra))
}
