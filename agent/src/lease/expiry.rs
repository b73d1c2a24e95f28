//! One queue of deadlines for all leases.

use crate::clock::BootTime;
use std::collections::BTreeSet;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A lease expires.
    Expiry,
    /// A revocation is tried again.
    Retry,
}

/// Deadlines by time. Each lease has at most one of each kind, and what is no
/// longer needed is taken out at once, so the queue never outgrows the leases.
#[derive(Default)]
pub(super) struct Deadlines(BTreeSet<(BootTime, u64, Due)>);

impl Deadlines {
    /// Adds one; true where it is now the first.
    pub(super) fn insert(&mut self, at: BootTime, lease: u64, due: Due) -> bool {
        self.0.insert((at, lease, due));
        self.0.first() == Some(&(at, lease, due))
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, at: BootTime, lease: u64, due: Due) {
        self.0.remove(&(at, lease, due));
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<BootTime> {
        self.0.first().map(|(at, _, _)| *at)
    }

    /// Takes the first out, where it is due at `now`.
    pub(super) fn pop(&mut self, now: BootTime) -> Option<(u64, Due)> {
        let (at, lease, due) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some((lease, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_early() {
        let mut queue = Deadlines::default();
        assert!(queue.insert(BootTime(20), 1, Due::Expiry));
        assert!(queue.insert(BootTime(10), 2, Due::Retry));
        assert!(!queue.insert(BootTime(30), 3, Due::Expiry));
        queue.remove(BootTime(30), 3, Due::Expiry);
        assert_eq!(queue.first(), Some(BootTime(10)));
        assert_eq!(queue.pop(BootTime(9)), None);
        assert_eq!(queue.pop(BootTime(20)), Some((2, Due::Retry)));
        assert_eq!(queue.pop(BootTime(20)), Some((1, Due::Expiry)));
        assert_eq!(queue.pop(BootTime(99)), None);
    }
}
