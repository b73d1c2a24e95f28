//! Time: `CLOCK_BOOTTIME` for deadlines, the wall clock for people.
//!
//! Deadlines count suspended time, and no jump of the wall clock moves one.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Milliseconds of `CLOCK_BOOTTIME`: since boot, suspended time included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

impl BootTime {
    /// That much later; stays at the end of time rather than wrap.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// From `earlier` until now; zero where it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// That much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let nanos = i128::from(self.0) * 1_000_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|at| at.format(RFC3339_MILLIS).ok())
            .unwrap_or_else(|| format!("{} ms after the epoch", self.0))
    }
}

/// Always three digits, so that columns of them align.
const RFC3339_MILLIS: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For deadlines.
    pub boot: BootTime,
    /// For people.
    pub wall: WallTime,
}

/// Where time comes from.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The kernel's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved; for tests of pure code.
    /// Both clocks read `millis`.
    #[must_use]
    pub fn manual(millis: Arc<AtomicU64>) -> Self {
        Self(Source::Manual(millis))
    }

    /// Both clocks now.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System => Moment {
                boot: BootTime(read(ClockId::CLOCK_BOOTTIME)),
                wall: WallTime(read(ClockId::CLOCK_REALTIME)),
            },
            Source::Manual(millis) => {
                let at = millis.load(Ordering::SeqCst);
                Moment { boot: BootTime(at), wall: WallTime(at) }
            }
        }
    }
}

fn read(clock: ClockId) -> u64 {
    // These two clocks exist on every Linux that the agent runs on; the end of
    // time would end every lease, which is the safe side.
    clock_gettime(clock).map_or(u64::MAX, |at| {
        let secs = u64::try_from(at.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(at.tv_nsec()).unwrap_or(0);
        secs * 1_000 + nanos / 1_000_000
    })
}

/// This boot's ID (random(4), `/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// When /proc cannot be read.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
