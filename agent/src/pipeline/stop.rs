//! What the broker waits for: signals, its companions, COMMAND; and the order
//! of stopping.

use super::{Pipeline, RunError};
use crate::attestation::Attestor;
use crate::log::{EndReason, Event};
use crate::process::{Notice, ended, notify};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long calls under way may take once the agent stops.
const CALLS: Duration = Duration::from_millis(500);

/// Why the agent stops and yet revokes nothing: another one takes its place.
const HAND_OVER: &str = "SIGUSR2";

/// Whose end ends the agent.
pub(super) struct Watched {
    pub(super) attestor: Attestor,
    pub(super) attestor_pidfd: OwnedFd,
    pub(super) launcher_pidfd: OwnedFd,
    pub(super) command: Option<OwnedFd>,
}

/// The agent's signals. Until they are taken, each of them simply ends the
/// process: so they are taken before anybody is told that the agent is ready.
pub(super) struct Signals {
    hangup: Signal,
    user: Signal,
    terminate: Signal,
    interrupt: Signal,
    hand_over: Signal,
}

impl Signals {
    pub(super) fn take() -> Result<Self, RunError> {
        let take = |kind| signal(kind).map_err(|error| RunError::Io("a signal handler", error));
        Ok(Self {
            hangup: take(SignalKind::hangup())?,
            user: take(SignalKind::user_defined1())?,
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hand_over: take(SignalKind::user_defined2())?,
        })
    }
}

type Server = JoinHandle<Result<(), tonic::transport::Error>>;

/// Serves until something ends it, then stops in order: no new connections,
/// leases revoked (unless another agent is to take them over), the log closed.
pub(super) async fn wait(
    pipeline: &Arc<Pipeline>,
    watched: Watched,
    signals: Signals,
    servers: [Server; 2],
    stopping: &watch::Sender<bool>,
) -> Result<(), RunError> {
    let Signals { mut hangup, mut user, mut terminate, mut interrupt, mut hand_over } = signals;
    let Watched { attestor, attestor_pidfd, launcher_pidfd, command } = watched;
    // One that cannot be watched counts as ended.
    let attestor_end = ended(attestor_pidfd);
    let launcher_end = ended(launcher_pidfd);
    let command_end = async {
        match command {
            Some(pidfd) => ended(pidfd).await,
            None => std::future::pending().await,
        }
    };
    let [mut agent, mut admin] = servers;
    tokio::pin!(attestor_end, launcher_end, command_end);
    let why = loop {
        tokio::select! {
            // Nothing is revoked here: without its companions the agent cannot
            // tell who asks. The log knows what lives.
            _ = &mut attestor_end => return Err(RunError::Lost("attestor")),
            () = attestor.broken() => return Err(RunError::Lost("attestor")),
            _ = &mut launcher_end => return Err(RunError::Lost("launcher")),
            _ = &mut command_end => break "command ended",
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            // What lives is in the log; the next start takes it up.
            _ = hand_over.recv() => break HAND_OVER,
            _ = hangup.recv() => reload(pipeline).await,
            _ = user.recv() => end_leases(pipeline).await,
            ended = &mut agent => { server_ended(ended)?; break "the agent socket's server ended" }
            ended = &mut admin => { server_ended(ended)?; break "the admin socket's server ended" }
        }
    };
    tell(Notice::Stopping);
    tracing::info!(why, "stopping");
    if why != HAND_OVER {
        revoke_all(pipeline).await;
    }
    stopping.send_replace(true);
    for server in [&mut agent, &mut admin] {
        if !server.is_finished() && tokio::time::timeout(CALLS, &mut *server).await.is_err() {
            // Idle connections and watches never end by themselves.
            server.abort();
        }
    }
    pipeline.denials.settle();
    let stopped = Event::Stopped { why: why.to_owned() };
    pipeline.log.append(stopped).await?;
    Ok(())
}

async fn revoke_all(pipeline: &Pipeline) {
    let wait = pipeline.in_force().config.stop_timeout;
    let left = pipeline.engine.end_all(EndReason::AgentStopping, wait).await;
    if left > 0 {
        tracing::warn!(left, "leases could not be revoked in time; the log keeps them");
    }
}

fn server_ended(
    ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> Result<(), RunError> {
    match ended {
        Ok(result) => Ok(result?),
        Err(broken) => Err(RunError::Io("a server", std::io::Error::other(broken))),
    }
}

/// SIGHUP: what is invalid is refused and said in the agent's own log.
async fn reload(pipeline: &Pipeline) {
    tell(Notice::Reloading);
    match pipeline.reload_in_force(None).await {
        Ok(done) => tracing::info!(policies = done.policies, "reloaded"),
        Err(failure) => tracing::error!("reload refused: {}", failure.message),
    }
    tell(Notice::Ready);
}

/// Tells the service manager; one that does not listen changes nothing.
fn tell(notice: Notice) {
    if let Err(error) = notify(notice) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// SIGUSR1: ends every lease.
async fn end_leases(pipeline: &Arc<Pipeline>) {
    let all = crate::lease::Selector { all: true, ..Default::default() };
    let ended = pipeline.engine.revoke(&all);
    let detail = format!("{} leases by SIGUSR1", ended.len());
    if let Err(failure) = pipeline.record_admin("revoke", detail, None).await {
        tracing::error!("{}", failure.message);
    }
}
