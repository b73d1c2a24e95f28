//! An accepted socket as tonic reads and writes it.

use super::Refusal;

/// What handlers may ask about a session.
pub(super) struct State;

impl State {
    pub(super) async fn answered(&self) -> Result<(), Refusal> {
        Ok(())
    }
    pub(super) fn close_soon(&self) {}
    pub(super) async fn closed(&self) {}
}
