//! How many refused connections the log takes of one uid: connecting costs a
//! peer nothing, and a log that is full stops the agent for everybody.

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records a second of one uid.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// As many at once, after silence.
const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Uids beyond which those that are quiet are forgotten.
const MANY_UIDS: usize = 4096;

/// Lets so many through, and counts the others.
pub(super) struct Quiet {
    rate: DefaultKeyedRateLimiter<u32>,
    left_out: AtomicU64,
}

impl Quiet {
    pub(super) fn new() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self { rate: RateLimiter::keyed(quota), left_out: AtomicU64::new(0) }
    }

    /// What to record of a refusal of `uid`; `None`: nothing, it is counted and
    /// told with the next one.
    pub(super) fn say(&self, uid: u32, reason: String) -> Option<String> {
        if self.rate.len() > MANY_UIDS {
            self.rate.retain_recent();
        }
        if self.rate.check_key(&uid).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        match self.left_out.swap(0, Ordering::Relaxed) {
            0 => Some(reason),
            more => Some(format!("{reason} (and {more} more refusals before it)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_does_not_fill_the_log() {
        let quiet = Quiet::new();
        let said = (0..10_000).filter(|_| quiet.say(1, "no".to_owned()).is_some()).count();
        assert!((100..1_000).contains(&said), "{said}");
        let other = quiet.say(2, "no".to_owned()).unwrap();
        assert!(other.contains("more refusals"), "{other}");
    }
}
