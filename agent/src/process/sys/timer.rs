//! timerfd(CLOCK_BOOTTIME): wakes when suspended time is counted in, which
//! tokio's own timers (CLOCK_MONOTONIC) do not (timerfd_create(2)).

use crate::clock::BootTime;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use tokio::io::unix::AsyncFd;

/// One timer that fires at an absolute time of `CLOCK_BOOTTIME`.
pub struct BootTimer {
    fd: AsyncFd<Descriptor>,
}

impl BootTimer {
    /// A timer that is not set. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// No descriptor is left, or there is no runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        // SAFETY: the descriptor is owned by the `TimerFd` inside `Descriptor`, which
        // always answers with the same one and keeps it open until it is dropped.
        let fd = unsafe { AsyncFd::register(Descriptor(timer))? };
        Ok(Self { fd })
    }

    /// Sets it to that time, or, with `None`, off. A time that has passed fires at once.
    ///
    /// # Errors
    /// timerfd_settime(2) fails.
    pub fn set(&self, at: Option<BootTime>) -> io::Result<()> {
        let timer = &self.fd.get_ref().0;
        match at {
            None => timer.unset()?,
            Some(at) => {
                // A zero would switch the timer off; times past what the kernel
                // takes (KTIME_MAX, 292 years) are as good as never.
                let millis = at.0.clamp(1, MAX_MILLIS);
                let secs = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
                let nanos = i64::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
                timer.set(
                    Expiration::OneShot(TimeSpec::new(secs, nanos)),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?;
            }
        }
        Ok(())
    }

    /// Resolves when it has fired since it was last set. May be dropped and called again.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn fired(&self) -> io::Result<()> {
        loop {
            let mut guard = self.fd.readable().await?;
            let mut count = [0_u8; 8];
            match nix::unistd::read(self.fd.get_ref().0.as_fd(), &mut count) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EAGAIN) => guard.clear_ready(),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// A hundred years.
const MAX_MILLIS: u64 = 100 * 365 * 24 * 3600 * 1000;

/// `TimerFd` gives no `AsRawFd`, which [`AsyncFd`] asks for.
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::time::Duration;

    #[tokio::test]
    async fn fires_no_earlier_than_it_was_set_to() {
        let clock = Clock::system();
        let timer = BootTimer::new().unwrap();
        let due = clock.now().boot.plus(Duration::from_millis(30));
        timer.set(Some(due)).unwrap();
        timer.fired().await.unwrap();
        assert!(clock.now().boot >= due);
        timer.set(Some(BootTime(0))).unwrap();
        timer.fired().await.unwrap();
    }

    #[tokio::test]
    async fn does_not_fire_once_it_is_set_off() {
        let timer = BootTimer::new().unwrap();
        timer.set(Some(BootTime(1))).unwrap();
        timer.set(None).unwrap();
        let fired = tokio::time::timeout(Duration::from_millis(50), timer.fired()).await;
        assert!(fired.is_err());
    }
}
