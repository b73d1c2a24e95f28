//! When to renew, and when to try again. Numbers only.

use std::time::Duration;

/// First wait after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(30);
/// Nothing is done more often than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// A gain below this is none: clocks and roundings make as much.
const GAIN: Duration = Duration::from_millis(250);

/// How long to wait before a lease with so much time left is renewed: two
/// thirds of it, less 10 to 20 %, so that many that began together do not
/// renew together. `chance` is any number, each as likely as another.
pub(super) fn renew_after(left: Duration, chance: u8) -> Duration {
    let less = 100 + 100 * u32::from(chance) / 255; // per mille
    (left * 2 / 3 * (1000 - less) / 1000).max(SHORTEST)
}

/// How long to wait after so many failures in a row: twice as long each time,
/// less up to a quarter, and never so long that nothing of `left` would remain.
pub(super) fn back_off(failures: u32, left: Option<Duration>, chance: u8) -> Duration {
    let wait = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    let wait = wait - wait / 4 * u32::from(chance) / 255;
    left.map_or(wait, |left| wait.min(left / 3)).max(SHORTEST)
}

/// A renewal moved the end.
pub(super) fn helped(before: Duration, after: Duration) -> bool {
    after > before + GAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lease_is_renewed_between_53_and_60_hundredths_of_its_time() {
        let left = Duration::from_secs(900);
        assert_eq!(renew_after(left, 0), Duration::from_secs(540));
        assert_eq!(renew_after(left, 255), Duration::from_secs(480));
        assert_eq!(renew_after(Duration::ZERO, 0), SHORTEST);
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits: Vec<_> = (0..9).map(|n| back_off(n, None, 0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert_eq!(back_off(3, None, 255), Duration::from_secs(3));
    }

    #[test]
    fn an_end_that_does_not_move_is_no_help() {
        let at = Duration::from_secs;
        assert!(helped(at(10), at(11)));
        assert!(!helped(at(10), at(10)) && !helped(at(10), at(9)));
        assert!(!helped(at(10), at(10) + Duration::from_millis(200)));
    }

    proptest! {
        #[test]
        fn a_renewal_always_comes_before_the_end(ms in 200..u64::from(u32::MAX), chance: u8) {
            let left = Duration::from_millis(ms);
            prop_assert!(renew_after(left, chance) < left);
        }

        #[test]
        fn a_try_is_never_put_off_beyond_the_end(n: u32, ms in 400..10_000_000u64, chance: u8) {
            let left = Duration::from_millis(ms);
            let wait = back_off(n, Some(left), chance);
            prop_assert!(wait < left && wait >= SHORTEST);
        }
    }
}
