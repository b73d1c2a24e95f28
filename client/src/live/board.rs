//! What is on the board: pure, and told what time it is.

use super::follow::News;
use crate::view;
use jsi_client::v1::{Lease, LeaseState, lease_event};
use std::time::Duration;

/// How long one that has ended is still shown.
const FADING: Duration = Duration::from_secs(5);

/// The leases that are shown.
pub(crate) struct Board {
    pub(crate) prefix: String,
    pub(crate) all: bool,
    rows: Vec<Row>,
    /// Not in front of what is there, but instead of it: the agent is gone, say.
    pub(crate) notice: String,
    /// A list is coming in anew: what it does not hold is gone.
    listing: bool,
}

/// A lease on the board.
pub(crate) struct Row {
    pub(crate) lease: Lease,
    /// When it was heard of last, and what was left then.
    heard: Duration,
    left: Duration,
    /// What the whole bar stands for.
    pub(crate) whole: Duration,
    /// When it ended.
    pub(crate) ended: Option<Duration>,
    /// Of the list that is coming in, or heard of since.
    present: bool,
}

impl Row {
    /// What is left now; nothing of one that is not active.
    pub(crate) fn left(&self, now: Duration) -> Duration {
        match self.state() {
            Some(LeaseState::Active) => self.left.saturating_sub(now.saturating_sub(self.heard)),
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn state(&self) -> Option<LeaseState> {
        LeaseState::try_from(self.lease.state).ok()
    }
}

impl Board {
    pub(crate) fn new(prefix: &str, all: bool) -> Self {
        let (prefix, notice) = (prefix.to_owned(), String::new());
        Self { prefix, all, rows: Vec::new(), notice, listing: true }
    }

    /// Takes what is new.
    pub(crate) fn hear(&mut self, news: News, now: Duration) {
        match news {
            News::Changed { kind, lease } => self.change(kind, *lease, now),
            News::Synced => {
                self.notice.clear();
                // What is not there any more ended while nobody told.
                for row in self.rows.iter_mut().filter(|row| !row.present) {
                    row.ended.get_or_insert(now);
                }
                self.listing = false;
            }
            News::Lost => self.list_anew(),
            News::Gone(why) => self.notice = format!("no agent ({why}); trying again"),
            News::Back => self.list_anew(),
        }
        self.sort(now);
    }

    fn list_anew(&mut self) {
        self.listing = true;
        self.rows.iter_mut().for_each(|row| row.present = false);
    }

    fn change(&mut self, kind: i32, lease: Lease, now: Duration) {
        let left = lease.remaining.as_ref().map(view::to_std).unwrap_or_default();
        let ended = !matches!(
            LeaseState::try_from(lease.state),
            Ok(LeaseState::Pending | LeaseState::Active | LeaseState::Ending | LeaseState::Stuck)
        );
        let granted = match (&lease.issued_at, &lease.expires_at) {
            (Some(from), Some(to)) => Duration::from_secs(
                u64::try_from(to.seconds.saturating_sub(from.seconds)).unwrap_or_default(),
            ),
            _ => Duration::ZERO,
        };
        let renewed = kind == i32::from(lease_event::Kind::Renewed);
        let known = self.rows.iter().position(|row| row.lease.id == lease.id);
        let before = known.map(|at| self.rows.swap_remove(at));
        let whole = match &before {
            _ if renewed => left,
            Some(row) => row.whole.max(left),
            None => granted.max(left),
        };
        let ended = ended.then(|| before.and_then(|row| row.ended).unwrap_or(now));
        self.rows.push(Row { lease, heard: now, left, whole, ended, present: true });
    }

    /// Drops what ended long enough ago.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.rows.retain(|row| row.ended.is_none_or(|ended| now.saturating_sub(ended) < FADING));
        self.sort(now);
    }

    /// What ends soonest first; what has ended last.
    fn sort(&mut self, now: Duration) {
        self.rows.sort_by(|a, b| {
            let key = |row: &Row| (row.ended.is_some(), row.left(now));
            key(a).cmp(&key(b)).then_with(|| a.lease.id.cmp(&b.lease.id))
        });
    }

    /// Those to show, in order.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many have not ended.
    pub(crate) fn live(&self) -> usize {
        self.rows.iter().filter(|row| row.ended.is_none()).count()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lease_event::Kind;

    pub(crate) fn lease(id: &str, state: LeaseState, left: u64) -> Lease {
        Lease {
            id: id.to_owned(),
            state: state.into(),
            remaining: Some(prost_types::Duration { seconds: left.cast_signed(), nanos: 0 }),
            holder_exe: "/usr/bin/psql".to_owned(),
            holder_pid: 4711,
            holder_uid: 1000,
            ..Lease::default()
        }
    }

    pub(crate) fn changed(kind: Kind, lease: Lease) -> News {
        News::Changed { kind: kind.into(), lease: Box::new(lease) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ids(board: &Board) -> Vec<&str> {
        board.rows().iter().map(|row| row.lease.id.as_str()).collect()
    }

    #[test]
    fn time_runs_between_events_and_what_ends_soonest_is_first() {
        let mut board = Board::new("", false);
        board.hear(changed(Kind::Present, lease("a/1", LeaseState::Active, 900)), at(100));
        board.hear(changed(Kind::Granted, lease("a/2", LeaseState::Active, 60)), at(100));
        assert_eq!(ids(&board), ["a/2", "a/1"]);
        assert_eq!(board.rows()[0].left(at(130)), at(30));
        assert_eq!(board.rows()[0].left(at(500)), at(0));
        board.hear(changed(Kind::Renewed, lease("a/2", LeaseState::Active, 3600)), at(130));
        assert_eq!(ids(&board), ["a/1", "a/2"]);
        assert_eq!(board.rows()[1].whole, at(3600));
    }

    #[test]
    fn what_has_ended_is_shown_for_a_while_and_then_not() {
        let mut board = Board::new("", false);
        board.hear(changed(Kind::Present, lease("a/1", LeaseState::Active, 9)), at(0));
        board.hear(changed(Kind::Ended, lease("a/1", LeaseState::Ended, 0)), at(1));
        board.forget(at(3));
        assert_eq!((board.live(), board.rows().len()), (0, 1));
        board.forget(at(7));
        assert!(board.rows().is_empty());
    }

    #[test]
    fn leases_that_ended_while_the_agent_was_away_end_on_the_board() {
        let mut board = Board::new("", false);
        for id in ["a/1", "a/2"] {
            board.hear(changed(Kind::Present, lease(id, LeaseState::Active, 900)), at(0));
        }
        board.hear(News::Synced, at(0));
        board.hear(News::Gone("stopped".to_owned()), at(1));
        assert!(board.notice.contains("stopped") && board.live() == 2);
        board.hear(News::Back, at(5));
        board.hear(changed(Kind::Present, lease("a/2", LeaseState::Active, 890)), at(5));
        board.hear(News::Synced, at(5));
        assert!(board.notice.is_empty());
        assert_eq!((board.live(), ids(&board)), (1, vec!["a/2", "a/1"]));
    }

    #[test]
    fn a_state_of_a_later_version_counts_as_ended_and_does_not_break_anything() {
        let mut board = Board::new("", false);
        let mut strange = lease("a/1", LeaseState::Active, 9);
        strange.state = 99;
        board.hear(News::Changed { kind: 99, lease: Box::new(strange) }, at(0));
        assert_eq!((board.live(), board.rows().len()), (0, 1));
        assert_eq!(board.rows()[0].left(at(0)), at(0));
    }
}
