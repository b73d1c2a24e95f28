//! A time to wait for, by a clock that counts suspended time, as leases do.

use crate::ready::Readable;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::time::Duration;

/// Goes off once at the time it was last set to.
pub(crate) struct Alarm(Readable);

impl Alarm {
    /// Set to nothing. Needs a tokio runtime with I/O.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(Readable::new(timerfd_create(TimerfdClockId::Boottime, flags)?)?))
    }

    /// At a time of [`boot_time`]; `None`: never.
    pub(crate) fn set(&self, at: Option<Duration>) -> io::Result<()> {
        // Zero would unset it.
        let at = at.map(|at| at.max(Duration::from_nanos(1))).unwrap_or_default();
        let it_value = Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let new = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &new)?;
        Ok(())
    }

    /// Until it goes off. Loses nothing when dropped halfway.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.read(&mut [0; 8]).await.map(drop)
    }
}

/// Time since the host booted, suspended time with it.
pub(crate) fn boot_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}
