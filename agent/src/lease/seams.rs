//! What the engine needs of the log, as narrow as it is.

use crate::issuer::Issuer;
use crate::log::{Event, Log};
use crate::memory::SecretBuf;
use std::pin::Pin;
use std::sync::Arc;

/// Resolves once the record is durable.
pub type Durable = Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>;

/// The log, as the lease stage writes it.
pub trait Journal: Send + Sync + 'static {
    /// Writes `event`, and before it, sealed, what of it is secret. The future
    /// resolves when both are durable; records that one task appends keep their
    /// order. Dropping the future does not take the record back.
    fn append(&self, event: Event, sealed: Option<SecretBuf>) -> Durable;
    /// Writes `events` one behind the other with the next group, without anybody
    /// waiting. Never blocks for long.
    fn append_background(&self, events: Vec<Event>);
}

/// The log cannot be written: nothing may be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot be written: {0}")]
pub struct JournalError(pub String);

/// Finds the issuer of a name, for renewal and revocation; `None`: it is not configured any more.
pub type Issuers = Arc<dyn Fn(&str) -> Option<Arc<dyn Issuer>> + Send + Sync>;

impl Journal for Log {
    fn append(&self, event: Event, sealed: Option<SecretBuf>) -> Durable {
        // Both take the record's place before the future is first polled.
        let failed = |error: crate::log::LogError| JournalError(error.to_string());
        match sealed {
            None => {
                let durable = Self::append(self, event);
                Box::pin(async move { durable.await.map_err(failed) })
            }
            Some(secret) => {
                let durable = self.append_with_sealed(event, secret);
                Box::pin(async move { durable.await.map_err(failed) })
            }
        }
    }
    fn append_background(&self, events: Vec<Event>) {
        for event in events {
            Self::append_background(self, event);
        }
    }
}
