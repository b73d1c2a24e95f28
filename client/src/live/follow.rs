//! One watch after another: what breaks is opened again.

use crate::failure::Failure;
use crate::session;
use jsi_client::v1::{Lease, lease_event};
use jsi_client::{Agent, Error, Kind, Watch};
use std::time::Duration;

/// How long to wait before connecting again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What there is to tell.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A lease changed, or was there when the watch began.
    Changed {
        /// A [`lease_event::Kind`], or a number of a later version.
        kind: i32,
        lease: Box<Lease>,
    },
    /// All that were there have been told.
    Synced,
    /// The agent could not keep up with telling: what follows is all that is there.
    Lost,
    /// The agent is gone, and why.
    Gone(String),
    /// An agent answers again: what follows is all that is there.
    Back,
}

/// Follows the leases of a prefix.
pub(crate) struct Follow {
    prefix: String,
    all: bool,
    /// The agent is kept, since its connection carries the watch.
    open: Option<(Agent, Watch)>,
    pause: Duration,
}

impl Follow {
    /// Begins to follow.
    pub(crate) async fn start(prefix: &str, all: bool) -> Result<Self, Failure> {
        let open = Some(open(prefix, all).await?);
        Ok(Self { prefix: prefix.to_owned(), all, open, pause: FIRST_PAUSE })
    }

    /// What there is to tell next. Ends only where trying again is of no use.
    pub(crate) async fn next(&mut self) -> Result<News, Failure> {
        let Some((_, watch)) = &mut self.open else { return self.again().await };
        let event = match watch.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(self.gone("it ended the watch")),
            Err(error) if may_return(&error) => return Ok(self.gone(&error.to_string())),
            Err(error) => return Err(error.into()),
        };
        self.pause = FIRST_PAUSE;
        match (event.lease, lease_event::Kind::try_from(event.kind)) {
            (_, Ok(lease_event::Kind::Synced)) => Ok(News::Synced),
            (_, Ok(lease_event::Kind::Lost)) => {
                // A new watch lists anew.
                self.open = Some(open(&self.prefix, self.all).await?);
                Ok(News::Lost)
            }
            (Some(lease), _) => Ok(News::Changed { kind: event.kind, lease: Box::new(lease) }),
            // Of a later version, and without a lease there is nothing to show.
            (None, _) => Box::pin(self.next()).await,
        }
    }

    fn gone(&mut self, why: &str) -> News {
        self.open = None;
        News::Gone(why.to_owned())
    }

    async fn again(&mut self) -> Result<News, Failure> {
        loop {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            match open(&self.prefix, self.all).await {
                Ok(fresh) => {
                    self.open = Some(fresh);
                    return Ok(News::Back);
                }
                Err(error) if may_return(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn open(prefix: &str, all: bool) -> Result<(Agent, Watch), Error> {
    let agent = if all { session::agent_of_operators().await? } else { session::agent().await? };
    let watch = agent.watch(prefix, all).await?;
    Ok((agent, watch))
}

/// Waiting may help: the agent is being restarted, say.
fn may_return(error: &Error) -> bool {
    match error {
        Error::Untrusted(_) => false,
        error => error.kind() == Kind::Unreachable,
    }
}
