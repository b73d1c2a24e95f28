//! Denials and refusals on their way into the log: whoever can only be refused
//! must not be able to fill the disk by it. What is left out is counted, and the
//! count stands in the log. Nothing else is ever left out.

use crate::connection::{Peer, Refusal};
use crate::log::{Event, Log};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the number of records left out is written.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Seconds of the rate that may be used up at once.
const BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// All uids together have this many times the rate of one: a user with a range
/// of uids (subuid(5)) is many.
const UIDS: u32 = 20;
/// Uids that get a record of their own each time; the others share one.
const NAMED: usize = 16;
/// Uids that are counted apart between two of those records.
const COUNTED: usize = 4096;

/// The bound, and what was left out.
pub(super) struct Denials {
    log: Log,
    each: DefaultKeyedRateLimiter<u32>,
    all: DefaultDirectRateLimiter,
    left_out: Mutex<LeftOut>,
}

#[derive(Default)]
struct LeftOut {
    by_uid: BTreeMap<u32, u64>,
    others: u64,
}

impl Denials {
    /// Writes to `log` at most `per_second` records for one uid, in the long run.
    pub(super) fn new(log: Log, per_second: u32) -> Self {
        let quota = |times: u32| {
            let rate = NonZeroU32::new(per_second.saturating_mul(times));
            let rate = rate.unwrap_or(NonZeroU32::MIN);
            Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST))
        };
        Self {
            log,
            each: RateLimiter::keyed(quota(1)),
            all: RateLimiter::direct(quota(UIDS)),
            left_out: Mutex::default(),
        }
    }

    /// A request of that uid was denied.
    pub(super) fn denied(&self, uid: u32, event: Event) {
        if self.admits(uid) {
            self.log.append_background(event);
        }
    }

    /// A connection was refused.
    pub(super) fn refused(&self, peer: Peer, why: &Refusal) {
        if self.admits(peer.uid) {
            tracing::warn!(pid = peer.pid, uid = peer.uid, %why, "connection refused");
            let reason = why.to_string();
            self.log.append_background(Event::Refused { pid: peer.pid, uid: peer.uid, reason });
        }
    }

    /// Writes what was left out, again and again.
    pub(super) async fn tell(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TOLD_EVERY).await;
            self.settle();
        }
    }

    /// Writes what was left out since the last time.
    pub(super) fn settle(&self) {
        let LeftOut { by_uid, mut others } = std::mem::take(&mut *self.lock());
        let mut counts: Vec<_> = by_uid.into_iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (at, (uid, count)) in counts.into_iter().enumerate() {
            if at < NAMED {
                self.suppressed(Some(uid), count);
            } else {
                others += count;
            }
        }
        if others > 0 {
            self.suppressed(None, others);
        }
        self.each.retain_recent();
        self.each.shrink_to_fit();
    }

    fn suppressed(&self, uid: Option<u32>, count: u64) {
        tracing::warn!(uid, count, "denials and refusals were left out of the log");
        self.log.append_background(Event::Suppressed { uid, count });
    }

    /// Whether there is room for one more of that uid; counts it if not.
    fn admits(&self, uid: u32) -> bool {
        if self.each.check_key(&uid).is_ok() && self.all.check().is_ok() {
            return true;
        }
        let mut left_out = self.lock();
        if left_out.by_uid.len() >= COUNTED && !left_out.by_uid.contains_key(&uid) {
            left_out.others += 1;
        } else {
            *left_out.by_uid.entry(uid).or_default() += 1;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, LeftOut> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn events(dir: &std::path::Path) -> (u64, Vec<String>) {
        let (mut refused, mut suppressed) = (0, Vec::new());
        for entry in std::fs::read_dir(dir).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            for line in text.lines() {
                refused += u64::from(line.contains("\"kind\":\"refused\""));
                if let Some(at) = line.find("\"kind\":\"suppressed\"") {
                    suppressed.push(line[at..].to_owned());
                }
            }
        }
        (refused, suppressed)
    }

    fn refuse(denials: &Denials, uid: u32, times: u32) {
        for _ in 0..times {
            denials.refused(Peer { pid: 7, uid, gid: 7 }, &Refusal::Gone);
        }
    }

    #[tokio::test]
    async fn one_uid_cannot_fill_the_log_and_does_not_silence_another() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), Clock::system(), None, 1 << 20).unwrap();
        let denials = Denials::new(log.clone(), 1);
        refuse(&denials, 1000, 500);
        refuse(&denials, 1001, 3);
        denials.settle();
        denials.settle();
        log.flush().await.unwrap();
        let (refused, suppressed) = events(dir.path());
        // A slow machine may have let a few more tokens come meanwhile.
        assert!((13..60).contains(&refused), "{refused}");
        assert_eq!(suppressed.len(), 1, "{suppressed:?}");
        assert!(suppressed[0].contains("\"uid\":1000"), "{suppressed:?}");
        assert!(suppressed[0].contains(&format!("\"count\":{}", 503 - refused)), "{suppressed:?}");
    }

    #[tokio::test]
    async fn many_uids_cannot_fill_the_log_either() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(dir.path(), Clock::system(), None, 1 << 20).unwrap();
        let denials = Denials::new(log.clone(), 1);
        for uid in 0..6000 {
            refuse(&denials, 100_000 + uid, 1);
        }
        denials.settle();
        log.flush().await.unwrap();
        let (refused, suppressed) = events(dir.path());
        assert!((200..1200).contains(&refused), "{refused}");
        assert_eq!(suppressed.len(), NAMED + 1);
    }
}
