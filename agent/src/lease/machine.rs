//! The life of a lease as a pure function: no clock, no I/O, no lock. The
//! [engine](super::Engine) performs the effects.
//!
//! | state   | event               | next   | effects |
//! |---------|---------------------|--------|---------|
//! | pending | granted             | active | schedule expiry, notify |
//! | pending | mint failed         | failed | record, notify |
//! | pending | an end event        | ending | record, start revocation, notify |
//! | active  | renewed             | active | schedule expiry, notify (nothing once expired) |
//! | active  | expiry, too early   | active | schedule expiry |
//! | active  | an end event        | ending | wipe, record, start revocation, notify |
//! | ending  | revoked             | ended  | record, notify |
//! | ending  | revoke failed, transient, tries left | ending | schedule retry |
//! | ending  | revoke failed, transient, none left  | stuck  | record, schedule retry, notify |
//! | ending  | revoke failed, final | stuck | record, schedule retry, notify |
//! | ending  | retry due           | ending | start revocation |
//! | stuck   | retry due           | stuck  | start revocation |
//! | stuck   | revoked             | ended  | record, notify |
//! | stuck   | revoke failed       | stuck  | schedule retry |
//! | any     | anything else       | same   | none |
//!
//! End events: release asked, expiry reached (and really reached), process
//! exited, connection closed, revoke asked, agent stopping, uses spent, health
//! lost, approval withdrawn, rebooted. Grant and renewal are not recorded here:
//! their records must be durable *before* the transition.

use crate::clock::BootTime;
use crate::log::{EndReason, LeaseState};
use std::time::Duration;

/// Failed revocations before a lease is stuck.
pub(super) const REVOKE_TRIES: u8 = 6;
/// Pause after the first failed revocation; doubles with each further one.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(10);
/// Pause between tries once a lease is stuck.
pub(super) const RETRY_STUCK: Duration = Duration::from_secs(24 * 3600);

/// Where a lease is in its life, with what that state needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Recorded, nothing issued yet.
    Pending,
    /// Usable.
    Active {
        /// When it ends unless renewed.
        expires: BootTime,
        /// Beyond this no renewal goes.
        at_most: BootTime,
    },
    /// Being revoked.
    Ending {
        /// Why.
        reason: EndReason,
        /// Revocations that failed.
        failures: u8,
    },
    /// Over.
    Ended {
        /// Why.
        reason: EndReason,
    },
    /// Issuing failed.
    Failed,
    /// Revocation was refused for good.
    Stuck {
        /// Why it ended.
        reason: EndReason,
    },
}

/// What can happen to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It was issued, and the log says so durably.
    Granted {
        /// When it ends unless renewed.
        expires: BootTime,
        /// Beyond this no renewal goes.
        at_most: BootTime,
    },
    /// Issuing failed, and nothing was minted.
    MintFailed,
    /// Its holder asked for another expiry, and the log says so durably.
    Renewed {
        /// Clamped to what the grant allows.
        expires: BootTime,
    },
    /// Its holder gives it up.
    ReleaseAsked,
    /// Its deadline came.
    ExpiryReached,
    /// The process that it is bound to ended.
    ProcessExited,
    /// The connection that it is bound to closed.
    ConnectionClosed,
    /// An operator revokes it.
    RevokeAsked,
    /// The agent stops.
    AgentStopping,
    /// Its uses are spent.
    UsesSpent,
    /// The health check that it depends on failed.
    HealthLost,
    /// Its approval was withdrawn.
    ApprovalWithdrawn,
    /// The host booted anew.
    Rebooted,
    /// What was issued is dead, or cannot be killed before its own expiry.
    Revoked,
    /// The backend did not revoke.
    RevokeFailed(Failure),
    /// It is time to try again.
    RetryDue,
}

/// How a revocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may work later.
    Transient,
    /// It was refused.
    Final,
}

/// What the engine has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Write a record about the new state.
    Record(LeaseState),
    /// Ask the issuer to end what was issued.
    StartRevocation,
    /// Come back with [`Event::RetryDue`]; the engine adds jitter.
    ScheduleRetry(BootTime),
    /// Forget the secret.
    WipeSecret,
    /// Tell those who watch.
    NotifyHolder,
    /// Come back with [`Event::ExpiryReached`].
    ScheduleExpiry(BootTime),
}

/// At most this many effects follow from one event.
const MOST_EFFECTS: usize = 4;

/// The effects of one event, in the order in which they are to be performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects([Option<Effect>; MOST_EFFECTS]);

impl Effects {
    fn of<const N: usize>(effects: [Effect; N]) -> Self {
        const { assert!(N <= MOST_EFFECTS) }
        let mut all = [None; MOST_EFFECTS];
        for (slot, effect) in all.iter_mut().zip(effects) {
            *slot = Some(effect);
        }
        Self(all)
    }

    /// One after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = Effect> + '_ {
        self.0.iter().flatten().copied()
    }
}

impl State {
    /// The state's name, as log and clients see it.
    pub(super) fn name(self) -> LeaseState {
        match self {
            Self::Pending => LeaseState::Pending,
            Self::Active { .. } => LeaseState::Active,
            Self::Ending { .. } => LeaseState::Ending,
            Self::Ended { .. } => LeaseState::Ended,
            Self::Failed => LeaseState::Failed,
            Self::Stuck { .. } => LeaseState::Stuck,
        }
    }

    /// Why it ends or ended.
    pub(super) fn reason(self) -> Option<EndReason> {
        match self {
            Self::Pending | Self::Active { .. } | Self::Failed => None,
            Self::Ending { reason, .. } | Self::Ended { reason } | Self::Stuck { reason } => {
                Some(reason)
            }
        }
    }
}

impl Event {
    /// The event that ends a lease for that reason.
    pub(super) fn ending(reason: EndReason) -> Self {
        match reason {
            EndReason::Released => Self::ReleaseAsked,
            EndReason::Expired => Self::ExpiryReached,
            EndReason::ProcessExited => Self::ProcessExited,
            EndReason::ConnectionClosed => Self::ConnectionClosed,
            EndReason::Revoked => Self::RevokeAsked,
            EndReason::AgentStopping => Self::AgentStopping,
            EndReason::UsesSpent => Self::UsesSpent,
            EndReason::HealthLost => Self::HealthLost,
            EndReason::ApprovalWithdrawn => Self::ApprovalWithdrawn,
            EndReason::Rebooted => Self::Rebooted,
        }
    }

    /// Why a lease ends by it; `None`: it ends none.
    fn end_reason(self) -> Option<EndReason> {
        Some(match self {
            Self::ReleaseAsked => EndReason::Released,
            Self::ExpiryReached => EndReason::Expired,
            Self::ProcessExited => EndReason::ProcessExited,
            Self::ConnectionClosed => EndReason::ConnectionClosed,
            Self::RevokeAsked => EndReason::Revoked,
            Self::AgentStopping => EndReason::AgentStopping,
            Self::UsesSpent => EndReason::UsesSpent,
            Self::HealthLost => EndReason::HealthLost,
            Self::ApprovalWithdrawn => EndReason::ApprovalWithdrawn,
            Self::Rebooted => EndReason::Rebooted,
            Self::Granted { .. }
            | Self::MintFailed
            | Self::Renewed { .. }
            | Self::Revoked
            | Self::RevokeFailed(_)
            | Self::RetryDue => return None,
        })
    }
}

/// What `event` makes of `state` at `now`, and what is to be done about it.
pub(super) fn transition(state: State, event: Event, now: BootTime) -> (State, Effects) {
    match state {
        State::Pending => pending(event),
        State::Active { expires, at_most } => active(expires, at_most, event, now),
        State::Ending { reason, failures } => ending(reason, failures, event, now),
        State::Stuck { reason } => stuck(reason, event, now),
        State::Ended { .. } | State::Failed => (state, Effects::of([])),
    }
}

fn pending(event: Event) -> (State, Effects) {
    match event {
        Event::Granted { expires, at_most } => {
            let expires = expires.min(at_most);
            let effects = [Effect::ScheduleExpiry(expires), Effect::NotifyHolder];
            (State::Active { expires, at_most }, Effects::of(effects))
        }
        Event::MintFailed => {
            let effects = [Effect::Record(LeaseState::Failed), Effect::NotifyHolder];
            (State::Failed, Effects::of(effects))
        }
        _ => match event.end_reason() {
            Some(reason) => (State::Ending { reason, failures: 0 }, end()),
            None => (State::Pending, Effects::of([])),
        },
    }
}

fn active(expires: BootTime, at_most: BootTime, event: Event, now: BootTime) -> (State, Effects) {
    let same = State::Active { expires, at_most };
    match event {
        Event::Renewed { expires: asked } if now < expires => {
            let expires = asked.min(at_most);
            let effects = [Effect::ScheduleExpiry(expires), Effect::NotifyHolder];
            (State::Active { expires, at_most }, Effects::of(effects))
        }
        Event::ExpiryReached if now < expires => {
            (same, Effects::of([Effect::ScheduleExpiry(expires)]))
        }
        _ => match event.end_reason() {
            Some(reason) => {
                let effects = [
                    Effect::WipeSecret,
                    Effect::Record(LeaseState::Ending),
                    Effect::StartRevocation,
                    Effect::NotifyHolder,
                ];
                (State::Ending { reason, failures: 0 }, Effects::of(effects))
            }
            None => (same, Effects::of([])),
        },
    }
}

/// A pending lease holds no secret yet.
fn end() -> Effects {
    let record = Effect::Record(LeaseState::Ending);
    Effects::of([record, Effect::StartRevocation, Effect::NotifyHolder])
}

fn ending(reason: EndReason, failures: u8, event: Event, now: BootTime) -> (State, Effects) {
    match event {
        Event::Revoked => ended(reason),
        Event::RevokeFailed(Failure::Transient) if failures + 1 < REVOKE_TRIES => {
            let pause = RETRY_FIRST.saturating_mul(1 << failures);
            let retry = Effect::ScheduleRetry(now.plus(pause));
            (State::Ending { reason, failures: failures + 1 }, Effects::of([retry]))
        }
        Event::RevokeFailed(Failure::Transient | Failure::Final) => {
            let retry = Effect::ScheduleRetry(now.plus(RETRY_STUCK));
            let effects = [Effect::Record(LeaseState::Stuck), retry, Effect::NotifyHolder];
            (State::Stuck { reason }, Effects::of(effects))
        }
        Event::RetryDue => {
            (State::Ending { reason, failures }, Effects::of([Effect::StartRevocation]))
        }
        _ => (State::Ending { reason, failures }, Effects::of([])),
    }
}

fn stuck(reason: EndReason, event: Event, now: BootTime) -> (State, Effects) {
    match event {
        Event::Revoked => ended(reason),
        Event::RevokeFailed(_) => {
            let retry = Effect::ScheduleRetry(now.plus(RETRY_STUCK));
            (State::Stuck { reason }, Effects::of([retry]))
        }
        Event::RetryDue => (State::Stuck { reason }, Effects::of([Effect::StartRevocation])),
        _ => (State::Stuck { reason }, Effects::of([])),
    }
}

fn ended(reason: EndReason) -> (State, Effects) {
    let effects = [Effect::Record(LeaseState::Ended), Effect::NotifyHolder];
    (State::Ended { reason }, Effects::of(effects))
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
