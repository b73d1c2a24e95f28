//! How many connections there may be, in total and of one uid, and how many more
//! a second.

use super::{Channel, Refusal};
use crate::config::Limits;
use crate::mutants::{Check, on};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections over the limit that are still told so, instead of just closed.
const RESERVE: u32 = 32;
/// Of those, how many one uid may have, so that it cannot take them all.
const RESERVE_PER_UID: u32 = 4;

/// Sockets that one uid may ask for by packets in a second, and at once after a
/// while of silence: each costs the attestor as much as a connection.
const BOOTSTRAPS_PER_SECOND: f64 = 50.0;
const BOOTSTRAPS_AT_ONCE: f64 = 100.0;
/// Uids whose packets are counted; the fullest buckets are forgotten first.
const BOOTSTRAP_UIDS: usize = 1024;

/// Connections for packets that may be open at once, and of one uid: each
/// `jsi exec --broker-fd` that runs holds one.
const BOOTSTRAPS: u32 = 256;
const BOOTSTRAPS_PER_UID: u32 = 64;
/// How many a second one uid is told so: to be told costs as much as to be served.
const TOLD_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Uids whose rates are kept; beyond, those that have rested are let go.
const RATES: usize = 4096;

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
    bootstraps: Mutex<HashMap<u32, Bucket>>,
    per_second: u32,
    /// By uid, each socket for itself: whoever floods one keeps nobody, not even
    /// of its own uid, from revoking.
    rates: DefaultKeyedRateLimiter<(u32, bool)>,
    told: DefaultKeyedRateLimiter<u32>,
}

/// What is left of a uid's [`BOOTSTRAPS_AT_ONCE`], and when it was so.
struct Bucket {
    left: f64,
    at: Instant,
}

#[derive(Default)]
struct Counts {
    open: Count,
    reserve: Count,
    bootstrap: Count,
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
    kind: Kind,
}

/// What a place is counted among.
#[derive(Clone, Copy)]
enum Kind {
    Open,
    Reserve,
    Bootstrap,
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
            bootstraps: Mutex::default(),
            per_second: limits.connects_per_second,
            rates: RateLimiter::keyed(Quota::per_second(
                NonZeroU32::new(limits.connects_per_second).unwrap_or(NonZeroU32::MIN),
            )),
            told: RateLimiter::keyed(Quota::per_second(TOLD_PER_SECOND)),
        })
    }

    /// Whether that uid may connect once more now. The first question of all, and
    /// the cheapest: what is refused here has cost one `accept`.
    ///
    /// # Errors
    /// `Refusal::Limit`, which names the limit.
    pub(super) fn admits(&self, uid: u32, channel: Channel) -> Result<(), Refusal> {
        let key = (uid, channel == Channel::Admin);
        if self.rates.check_key(&key).is_ok() || !on(Check::ConnectRate) {
            return Ok(());
        }
        Err(Refusal::Limit(format!(
            "uid {uid} connects more often than limits.connects_per_second = {} allows; wait, or raise it",
            self.per_second
        )))
    }

    /// Whether that uid may be told once more now that it is refused.
    pub(super) fn may_be_told(&self, uid: u32) -> bool {
        self.told.check_key(&uid).is_ok()
    }

    /// Lets go of the rates of uids that have not connected lately.
    pub(super) fn forget_rested(&self) {
        if self.rates.len() > RATES {
            self.rates.retain_recent();
            self.told.retain_recent();
        }
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
            return Ok(Slot { limits: Arc::clone(self), uid, kind: Kind::Open });
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
            kind: Kind::Reserve,
        })
    }

    /// Takes a place for a connection for packets.
    ///
    /// # Errors
    /// `Refusal::Limit`.
    pub(super) fn take_bootstrap(self: &Arc<Self>, uid: u32) -> Result<Slot, Refusal> {
        if self.lock().bootstrap.take(uid, BOOTSTRAPS, BOOTSTRAPS_PER_UID) {
            return Ok(Slot { limits: Arc::clone(self), uid, kind: Kind::Bootstrap });
        }
        Err(Refusal::Limit(format!(
            "too many bootstrap connections: at most {BOOTSTRAPS} at once, and {BOOTSTRAPS_PER_UID} of one uid"
        )))
    }

    /// How long a uid has to wait until it is given another socket by packet.
    pub(super) fn next_bootstrap(&self, uid: u32, now: Instant) -> Duration {
        let mut buckets = self.bootstraps.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + since * BOOTSTRAPS_PER_SECOND).min(BOOTSTRAPS_AT_ONCE)
        };
        if buckets.len() >= BOOTSTRAP_UIDS {
            buckets.retain(|_, bucket| filled(bucket) < BOOTSTRAPS_AT_ONCE);
        }
        let bucket = buckets.entry(uid).or_insert(Bucket { left: BOOTSTRAPS_AT_ONCE, at: now });
        *bucket = Bucket { left: filled(bucket) - 1.0, at: now };
        Duration::from_secs_f64((-bucket.left).max(0.0) / BOOTSTRAPS_PER_SECOND)
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
        let count = match self.kind {
            Kind::Open => &mut counts.open,
            Kind::Reserve => &mut counts.reserve,
            Kind::Bootstrap => &mut counts.bootstrap,
        };
        count.give_back(self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_uid_wait_for_their_turn_and_those_of_another_do_not() {
        let limits = AcceptLimits::new(&Limits::default());
        let start = Instant::now();
        let at_once = (0..150).map(|_| limits.next_bootstrap(1, start)).collect::<Vec<_>>();
        assert!(at_once[..100].iter().all(Duration::is_zero));
        assert_eq!(at_once[149], Duration::from_secs(1));
        assert!(limits.next_bootstrap(2, start).is_zero());
        assert!(limits.next_bootstrap(1, start + Duration::from_secs(2)).is_zero());
    }

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
        assert!(limits.admits(1, Channel::Agent).is_ok());
        let told: Vec<_> = std::iter::from_fn(|| limits.take_reserve(1)).collect();
        assert_eq!(told.len(), RESERVE_PER_UID as usize);
        assert!(limits.take_reserve(2).is_some());
    }

    #[test]
    fn one_uid_connects_at_most_so_often_and_another_does_not_notice() {
        let limits = AcceptLimits::new(&Limits { connects_per_second: 3, ..Limits::default() });
        let admitted =
            |uid| (0..100).filter(|_| limits.admits(uid, Channel::Agent).is_ok()).count();
        assert_eq!(admitted(1), 3);
        let Err(Refusal::Limit(why)) = limits.admits(1, Channel::Agent) else {
            panic!("a fourth was admitted")
        };
        assert!(why.contains("uid 1") && why.contains("limits.connects_per_second = 3"), "{why}");
        assert!(limits.admits(1, Channel::Admin).is_ok(), "an operator of that uid");
        assert_eq!(admitted(2), 3);
    }

    #[test]
    fn who_is_refused_all_the_time_is_told_so_seldom() {
        let limits = AcceptLimits::new(&Limits::default());
        let told = (0..1_000).filter(|_| limits.may_be_told(1)).count();
        assert_eq!(told, TOLD_PER_SECOND.get() as usize);
        assert!(limits.may_be_told(2), "others are told");
    }
}
