//! Waiting for what other processes do, never longer than said.

use std::io::Write as _;
use std::time::{Duration, Instant};

/// Waits until `probe` gives something; panics with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// As [`until`] for a deadline that an issue names: asserted at ten times the
/// value, with the figure printed.
pub fn within(what: &str, named: Duration, mut probe: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    until(what, named * 10, || probe().then_some(()));
    let took = start.elapsed();
    // Past the capture of passing tests: the figure is to be seen in every run.
    let _ = writeln!(std::io::stderr(), "figure: {what}: {took:?} (named: {named:?})");
    took
}
