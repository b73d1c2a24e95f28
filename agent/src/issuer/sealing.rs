//! How the secrets of live leases rest: the seam to
//! [`memory`](crate::memory)'s shield.

use crate::memory::{MemoryError, Secret, Shield, Shielded};
use std::sync::Arc;

/// Shields secrets: plaintext exists only while it is delivered or used.
pub trait Sealing: Send + Sync + 'static {
    /// Shields a copy of `secret`; the caller drops (and so wipes) the original.
    ///
    /// # Errors
    /// Guarded memory is exhausted.
    fn seal_secret(&self, secret: &Secret) -> Result<Arc<dyn AtRest>, SealingError>;
}

/// A shielded secret. When its last owner drops it, nothing is left of it.
pub trait AtRest: Send + Sync + 'static {
    /// The plaintext, in memory that is wiped when dropped.
    ///
    /// # Errors
    /// Guarded memory is exhausted, or what rests was tampered with.
    fn open(&self) -> Result<Secret, SealingError>;
}

/// Why a secret could not be shielded or opened; the agent's own limits or memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// Guarded memory is exhausted; the text says how to get more.
    #[error("{0}")]
    Limit(String),
    /// What rests does not open under the key of this agent.
    #[error("a shielded secret could not be opened: {0}")]
    Broken(String),
}

impl Sealing for Arc<Shield> {
    fn seal_secret(&self, secret: &Secret) -> Result<Arc<dyn AtRest>, SealingError> {
        let sealed = Shield::seal_secret(self, secret).map_err(explain)?;
        Ok(Arc::new(Resting { shield: Self::clone(self), sealed }))
    }
}

/// A shielded secret with what opens it.
struct Resting {
    shield: Arc<Shield>,
    sealed: Shielded,
}

impl AtRest for Resting {
    fn open(&self) -> Result<Secret, SealingError> {
        self.shield.open_secret(&self.sealed).map_err(explain)
    }
}

fn explain(error: MemoryError) -> SealingError {
    match error {
        MemoryError::Limit { .. } | MemoryError::TooLong(_) | MemoryError::Exhausted => {
            SealingError::Limit(error.to_string())
        }
        MemoryError::Os(..) | MemoryError::Canary | MemoryError::Forged => {
            SealingError::Broken(error.to_string())
        }
    }
}
