//! Leases that are kept alive and watched while something uses them.
//!
//! A task of its own, since a call that waits for the agent must not be cut
//! short by whatever else happens. It tells what has become of the leases;
//! what to do about it is not its business.

mod timing;

use crate::alarm::{Alarm, boot_time};
use crate::session;
use jsi_client::v1::lease_event::Kind;
use jsi_client::v1::{EndReason, Lease, LeaseEvent, LeaseState, Reason};
use jsi_client::{Agent, Error, Watch};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The task, as others see it. It ends when this is dropped.
pub(crate) struct Keeper {
    orders: UnboundedSender<Order>,
    news: UnboundedReceiver<News>,
}

/// What has become of a lease.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// It has so much time left now.
    Renewed(Box<Lease>),
    /// Another secret stands behind it.
    Rotated(String),
    /// It has ended.
    Ended(String, EndReason),
    /// It ends then, and cannot be lengthened any more.
    Last(String, Duration),
    /// Something that a person should know.
    Trouble(String),
}

enum Order {
    /// Keep these from now on, and give those back.
    Keep { leases: Vec<Lease>, release: Vec<String> },
}

impl Keeper {
    /// Starts on leases that the requester of this process holds. `renew`: to
    /// lengthen them, too. Needs a tokio runtime with I/O.
    pub(crate) fn start(leases: &[Lease], renew: bool) -> io::Result<Self> {
        let (orders, ordered) = unbounded_channel();
        let (told, news) = unbounded_channel();
        let mut task = Task {
            ordered,
            told,
            renew,
            agent: None,
            watch: None,
            alarm: Alarm::new()?,
            leases: Vec::new(),
            failures: 0,
            connect_at: Some(Duration::ZERO),
        };
        task.keep(leases);
        tokio::spawn(task.run());
        Ok(Self { orders, news })
    }

    /// Keeps others instead, and gives back what took their place.
    pub(crate) fn keep(&self, leases: Vec<Lease>, release: Vec<String>) {
        let _ = self.orders.send(Order::Keep { leases, release }); // it ends with this only
    }

    /// What happens next. Loses nothing when dropped halfway.
    pub(crate) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}

struct Task {
    ordered: UnboundedReceiver<Order>,
    told: UnboundedSender<News>,
    renew: bool,
    agent: Option<Agent>,
    watch: Option<Watch>,
    alarm: Alarm,
    leases: Vec<Kept>,
    /// Attempts in a row at reaching the agent.
    failures: u32,
    connect_at: Option<Duration>,
}

struct Kept {
    id: String,
    until: Duration,
    renew_at: Option<Duration>,
    failures: u32,
    /// The present watch has shown it.
    present: bool,
    /// It was said that it cannot be lengthened.
    last: bool,
}

impl Task {
    async fn run(mut self) {
        loop {
            let due = self.leases.iter().filter_map(|lease| lease.renew_at);
            let due = due.chain(self.connect_at).min();
            if self.alarm.set(due).is_err() {
                return;
            }
            tokio::select! {
                order = self.ordered.recv() => match order {
                    None => return,
                    Some(Order::Keep { leases, release }) => {
                        self.keep(&leases);
                        self.release(release).await;
                    }
                },
                event = next_event(&mut self.watch), if self.watch.is_some() => match event {
                    Some(event) => self.happened(event).await,
                    None => self.lost(),
                },
                _ = self.alarm.wait() => self.act().await,
            }
        }
    }

    fn tell(&self, news: News) {
        let _ = self.told.send(news); // nobody listens any more: the next recv ends this
    }

    fn keep(&mut self, leases: &[Lease]) {
        let now = boot_time();
        // A watch tells of what is granted before it is known here.
        let watching = self.watch.is_some() && self.failures == 0;
        self.leases = leases
            .iter()
            .map(|lease| {
                let until = now + left(lease);
                let renew_at = self.renew.then(|| now + timing::renew_after(left(lease), chance()));
                Kept {
                    id: lease.id.clone(),
                    until,
                    renew_at,
                    failures: 0,
                    present: watching,
                    last: false,
                }
            })
            .collect();
    }

    async fn release(&mut self, ids: Vec<String>) {
        let Ok(agent) = self.agent().await else { return };
        for id in ids {
            let _ = agent.release(&id).await; // it ends by itself, later
        }
    }

    async fn agent(&mut self) -> Result<&Agent, Error> {
        if self.agent.is_none() {
            self.agent = Some(session::agent().await?);
        }
        self.agent.as_ref().ok_or(Error::Protocol("there is no connection"))
    }

    /// Does what is due.
    async fn act(&mut self) {
        let now = boot_time();
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect().await;
        }
        let due = |kept: &Kept| kept.renew_at.is_some_and(|at| at <= now);
        let ids: Vec<_> =
            self.leases.iter().filter(|kept| due(kept)).map(|k| k.id.clone()).collect();
        for id in ids {
            self.renew(&id).await;
        }
    }

    async fn connect(&mut self) {
        let watch = match self.agent().await {
            Ok(agent) => agent.watch("", false).await,
            Err(error) => Err(error),
        };
        match watch {
            Ok(watch) => {
                (self.watch, self.connect_at) = (Some(watch), None);
                self.leases.iter_mut().for_each(|kept| kept.present = false);
            }
            Err(error) => {
                if self.failures == 0 {
                    self.tell(News::Trouble(format!("the agent tells nothing of leases: {error}")));
                }
                self.lost();
            }
        }
    }

    /// The agent is gone, or was replaced: looked for again, later and later.
    fn lost(&mut self) {
        self.watch = None;
        self.agent = None;
        self.connect_at = Some(boot_time() + timing::back_off(self.failures, None, chance()));
        self.failures = self.failures.saturating_add(1);
    }

    async fn happened(&mut self, event: LeaseEvent) {
        let kind = event.kind();
        let Some(lease) = event.lease else {
            match kind {
                Kind::Synced => self.synced().await,
                Kind::Lost => self.lost(),
                _ => {}
            }
            return;
        };
        let Some(kept) = self.leases.iter_mut().find(|kept| kept.id == lease.id) else { return };
        kept.present = true;
        match kind {
            Kind::Present if lease.outdated => self.tell(News::Rotated(lease.id)),
            Kind::Rotated => self.tell(News::Rotated(lease.id)),
            Kind::Renewed => {
                kept.until = boot_time() + left(&lease);
                self.tell(News::Renewed(Box::new(lease)));
            }
            Kind::Ending | Kind::Ended | Kind::Stuck => {
                let reason = lease.end_reason();
                self.ended(&lease.id, reason);
            }
            _ => {}
        }
    }

    /// All that live have been shown.
    async fn synced(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            self.tell(News::Trouble("the agent tells of leases again".to_owned()));
        }
        let absent = self.leases.iter().filter(|kept| !kept.present);
        let absent: Vec<_> = absent.map(|kept| kept.id.clone()).collect();
        for id in absent {
            self.look(&id).await;
        }
    }

    /// What a watch has not shown may have ended while nobody listened, or have
    /// been granted just now, or not be for this program to see.
    async fn look(&mut self, id: &str) {
        let Ok(agent) = self.agent().await else { return };
        match agent.lease(id).await {
            Ok(lease) if lease.state() == LeaseState::Active => {}
            Ok(lease) => self.ended(id, lease.end_reason()),
            Err(error) if is_over(&error) => match agent.who_am_i().await {
                Ok((who, _)) if who.via == "direct" => self.tell(News::Trouble(format!(
                    "the agent does not show {id} to this jsi, which it does not know as its \
                     client (genuine_clients, enrolled_clients): it can be neither renewed nor watched"
                ))),
                Ok(_) => self.ended(id, EndReason::Unspecified),
                Err(_) => {} // asked again with the next watch
            },
            Err(_) => {} // asked again with the next watch
        }
    }

    fn ended(&mut self, id: &str, reason: EndReason) {
        self.leases.retain(|kept| kept.id != id);
        self.tell(News::Ended(id.to_owned(), reason));
    }

    async fn renew(&mut self, id: &str) {
        let answer = match self.agent().await {
            Ok(agent) => agent.renew(id, None).await,
            Err(error) => Err(error),
        };
        let now = boot_time();
        let Some(kept) = self.leases.iter_mut().find(|kept| kept.id == id) else { return };
        match answer {
            Ok(lease) => {
                let (before, failures) = (kept.until, std::mem::take(&mut kept.failures));
                kept.until = now + left(&lease);
                let helped = timing::helped(before, kept.until);
                kept.renew_at = helped.then(|| now + timing::renew_after(left(&lease), chance()));
                let last = !helped && !std::mem::replace(&mut kept.last, true);
                if failures > 0 {
                    self.tell(News::Trouble(format!("{id} is renewed again")));
                }
                self.tell(if last {
                    News::Last(id.to_owned(), left(&lease))
                } else {
                    News::Renewed(Box::new(lease))
                });
            }
            Err(error) if is_over(&error) => self.ended(id, EndReason::Unspecified),
            Err(error) if is_final(&error) => {
                kept.renew_at = None;
                kept.last = true;
                let left = kept.until.saturating_sub(now);
                self.tell(News::Trouble(format!("{id} cannot be renewed: {error}")));
                self.tell(News::Last(id.to_owned(), left));
            }
            Err(error) => {
                let left = kept.until.saturating_sub(now);
                kept.renew_at = Some(now + timing::back_off(kept.failures, Some(left), chance()));
                kept.failures = kept.failures.saturating_add(1);
                let first = kept.failures == 1;
                if left.is_zero() {
                    self.ended(id, EndReason::Expired);
                } else if first {
                    self.tell(News::Trouble(format!("{id} could not be renewed: {error}")));
                }
                if !matches!(error, Error::Refused(_)) {
                    self.agent = None;
                }
            }
        }
    }
}

/// The lease is no more.
fn is_over(error: &Error) -> bool {
    let reason = error.refusal().and_then(|refusal| refusal.reason);
    matches!(reason, Some(Reason::LeaseEnded | Reason::UnknownLease))
}

/// Asking again would give the same answer.
fn is_final(error: &Error) -> bool {
    let reason = error.refusal().and_then(|refusal| refusal.reason);
    matches!(
        reason,
        Some(
            Reason::DeniedByPolicy
                | Reason::NotRenewable
                | Reason::RequesterRefused
                | Reason::CallerNotVerified
                | Reason::UnknownCredential
        )
    )
}

async fn next_event(watch: &mut Option<Watch>) -> Option<LeaseEvent> {
    watch.as_mut()?.next().await.ok()?
}

/// What a lease has left, to the nanosecond.
pub(crate) fn left(lease: &Lease) -> Duration {
    let left = lease.remaining.unwrap_or_default();
    Duration::new(
        u64::try_from(left.seconds).unwrap_or_default(),
        u32::try_from(left.nanos).unwrap_or_default(),
    )
}

/// How long to wait after so many failures in a row of anything.
pub(crate) fn back_off(failures: u32) -> Duration {
    timing::back_off(failures, None, chance())
}

/// Any number, each as likely as another.
fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness all renew at the same time, and that is all.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    byte[0]
}
