//! What is known of a session, shared between it and its requests' handlers.

use super::{Peer, Refusal, Refused};
use crate::mutants::{Check, on};
use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// What handlers may ask about a session.
pub(super) struct State {
    status: watch::Sender<Status>,
    closing: AtomicBool,
    session: AtomicWaker,
    deadline: Instant,
    peer: Peer,
    refused: Refused,
}

#[derive(Default)]
struct Status {
    verdict: Verdict,
    closed: bool,
}

/// Whether the peer may be served.
#[derive(Clone, Default)]
pub(super) enum Verdict {
    /// The challenge is not answered yet.
    #[default]
    Waiting,
    /// Served, until something refuses it.
    Answered,
    /// Never again.
    Refused(Refusal),
}

impl State {
    /// A session whose challenge is to be answered by `deadline`.
    pub(super) fn new(peer: Peer, deadline: Instant, refused: Refused) -> Self {
        Self {
            status: watch::Sender::new(Status::default()),
            closing: AtomicBool::new(false),
            session: AtomicWaker::new(),
            deadline,
            peer,
            refused,
        }
    }

    pub(super) async fn answered(&self) -> Result<(), Refusal> {
        match self.verdict() {
            Verdict::Waiting if !on(Check::Challenge) => return Ok(()),
            Verdict::Answered => return Ok(()),
            Verdict::Refused(refusal) => return Err(refusal),
            Verdict::Waiting => {}
        }
        let mut status = self.status.subscribe();
        let known = |s: &Status| s.closed || !matches!(s.verdict, Verdict::Waiting);
        if timeout_at(self.deadline, status.wait_for(known)).await.is_err() {
            self.refuse(unanswered());
        }
        match self.verdict() {
            Verdict::Answered => Ok(()),
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Waiting => Err(Refusal::Gone),
        }
    }

    pub(super) fn close_soon(&self) {
        self.closing.store(true, Ordering::Release);
        self.session.wake();
    }

    pub(super) async fn closed(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.status.subscribe().wait_for(|status| status.closed).await;
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.status.borrow().verdict.clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whom [`State::close_soon`] is to wake.
    pub(super) fn register(&self, waker: &Waker) {
        self.session.register(waker);
    }

    /// The challenge is answered; a refusal stays one.
    pub(super) fn answer(&self) {
        self.status.send_if_modified(|status| {
            let waiting = matches!(status.verdict, Verdict::Waiting);
            if waiting {
                status.verdict = Verdict::Answered;
            }
            waiting
        });
    }

    /// Refuses all that comes; the first reason stays, and is reported, unless
    /// it is only that a client which was served has ended since.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let mut report = Some(refusal.clone());
        let first = self.status.send_if_modified(|status| {
            let first = !matches!(status.verdict, Verdict::Refused(_));
            if first {
                if matches!(status.verdict, Verdict::Answered) {
                    report = report.take().filter(|refusal| *refusal != Refusal::Gone);
                }
                status.verdict = Verdict::Refused(refusal);
            }
            first
        });
        if let Some(report) = report.filter(|_| first) {
            (self.refused)(self.peer, &report);
        }
    }

    /// The socket is closed.
    pub(super) fn close(&self) {
        self.status.send_modify(|status| status.closed = true);
    }
}

/// Why a peer is refused that lets the challenge's deadline pass.
pub(super) fn unanswered() -> Refusal {
    Refusal::Unverified("the peer did not answer the HTTP/2 PING in time".to_owned())
}
