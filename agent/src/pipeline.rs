//! The composition root: the only file that imports every stage.

use crate::process::{BrokerContext, ended};
use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Why the broker ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// One of the other two processes has ended.
    #[error("the {0} has ended, so the agent ends")]
    Companion(&'static str),
    /// The kernel refused.
    #[error("the broker cannot go on")]
    Os(#[from] io::Error),
}

/// Serves until the agent is to end. No stage is composed yet: the processes
/// stand, and end together.
///
/// # Errors
/// See [`RunError`].
pub fn run(context: BrokerContext) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let command = context.command;
        let command_ended = async {
            match command {
                Some(pidfd) => ended(pidfd).await,
                None => std::future::pending().await,
            }
        };
        context.ready.signal()?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = command_ended => Ok(()),
            _ = ended(context.attestor_pidfd) => Err(RunError::Companion("attestor")),
            _ = ended(context.launcher_pidfd) => Err(RunError::Companion("launcher")),
        }
    })
}
