//! How many connections there may be, in total and of one uid.

use super::{Channel, Refusal};
use crate::config::Limits;
use crate::mutants::{Check, on};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections over the limit that are still told so, instead of just closed.
const RESERVE: u32 = 32;
/// Of those, how many one uid may have, so that it cannot take them all.
const RESERVE_PER_UID: u32 = 4;

/// Connections over the limits that the admin socket has to itself, so that
/// whoever takes all the others cannot keep an operator from revoking.
const OPERATORS: u32 = 8;

/// Limits of both sockets together, and what is open.
pub struct AcceptLimits {
    connections: u32,
    per_uid: u32,
    pub(super) challenge_timeout: Duration,
    pub(super) write_timeout: Duration,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    open: Count,
    reserve: Count,
}

#[derive(Default)]
struct Count {
    total: u32,
    by_uid: HashMap<u32, u32>,
}

/// A place among the connections that are allowed; given back when it is dropped.
pub(super) struct Slot {
    limits: Arc<AcceptLimits>,
    uid: u32,
    reserve: bool,
}

impl AcceptLimits {
    /// From the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections: limits.connections,
            per_uid: if on(Check::ConnectionsPerUid) {
                limits.connections_per_uid
            } else {
                u32::MAX
            },
            challenge_timeout: limits.challenge_timeout,
            write_timeout: limits.write_timeout,
            counts: Mutex::new(Counts::default()),
        })
    }

    /// Connections that are open now, without those over the limit.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.lock().open.total
    }

    /// The most that may be open at once.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.connections
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `Refusal::Limit`, which says which limit is reached.
    pub(super) fn take(self: &Arc<Self>, uid: u32, channel: Channel) -> Result<Slot, Refusal> {
        let more = if channel == Channel::Admin { OPERATORS } else { 0 };
        let (all, each) =
            (self.connections.saturating_add(more), self.per_uid.saturating_add(more));
        if self.lock().open.take(uid, all, each) {
            return Ok(Slot { limits: Arc::clone(self), uid, reserve: false });
        }
        let (total, per_uid) = (self.connections, self.per_uid);
        Err(Refusal::Limit(format!(
            "too many connections: at most {total} at once, and {per_uid} of one uid"
        )))
    }

    /// Takes a place for a connection that is only told that it is refused.
    /// `None`: there is not even that, close it.
    pub(super) fn take_reserve(self: &Arc<Self>, uid: u32) -> Option<Slot> {
        self.lock().reserve.take(uid, RESERVE, RESERVE_PER_UID).then(|| Slot {
            limits: Arc::clone(self),
            uid,
            reserve: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn take(&mut self, uid: u32, limit: u32, per_uid: u32) -> bool {
        if self.total >= limit || self.by_uid.get(&uid).is_some_and(|&n| n >= per_uid) {
            return false;
        }
        if per_uid == 0 {
            return false;
        }
        self.total += 1;
        *self.by_uid.entry(uid).or_default() += 1;
        true
    }

    fn give_back(&mut self, uid: u32) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_uid.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_uid.remove(&uid);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.limits.lock();
        let count = if self.reserve { &mut counts.reserve } else { &mut counts.open };
        count.give_back(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_all_connections_and_places_come_back() {
        let limits = AcceptLimits::new(&Limits {
            connections: 3,
            connections_per_uid: 2,
            ..Limits::default()
        });
        let first = limits.take(1, Channel::Agent).unwrap();
        let _second = limits.take(1, Channel::Agent).unwrap();
        assert!(matches!(limits.take(1, Channel::Agent), Err(Refusal::Limit(_))));
        let _other = limits.take(2, Channel::Agent).unwrap();
        assert!(limits.take(3, Channel::Agent).is_err(), "the total holds too");
        let operator = limits.take(1, Channel::Admin).unwrap();
        drop((first, operator));
        let _again = limits.take(1, Channel::Agent).unwrap();
        assert_eq!(limits.open(), 3);
        let told: Vec<_> = std::iter::from_fn(|| limits.take_reserve(1)).collect();
        assert_eq!(told.len(), RESERVE_PER_UID as usize);
        assert!(limits.take_reserve(2).is_some());
    }
}
