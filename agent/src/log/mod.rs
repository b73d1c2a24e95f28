//! The log: audit and journal at once. Every stage may write it; it knows none
//! of them.
//!
//! A directory of segments `00000000000000000000.jsonl`, named by the sequence
//! number of their first leaf. Appends are group-committed: one write and one
//! fdatasync for all that wait. When a write fails nothing is issued any more
//! until the agent is started again with the fault mended ([`LogError::Failed`]).
//!
//! Every segment but the first begins with a snapshot of the leases that live,
//! and `<seq>.frontier` beside it keeps the tree before it, so that a start
//! reads the last segment only. `verify` reads them all and believes none of
//! that.

mod core;
mod error;
mod fold;
mod open;
mod record;
mod scan;
mod seal;
mod segment;
mod tail;
mod tree;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{Blame, Damage, LogError};
pub use fold::Folded;
pub use record::{
    BindingRecord, EndReason, Event, HolderRecord, KeyChange, LeaseRecord, LeaseState, Record,
    TargetRecord, VERSION,
};
pub use seal::{JOURNAL_KEY_LEN, SealError, Sealer};
pub use tail::Follower;
pub use verify::{Head, VerifyError, for_each_record, verify};
pub use writer::Log;

use std::sync::atomic::AtomicU64;

/// How often the log was written and synced since it was opened.
#[derive(Debug, Default)]
pub struct Stats {
    /// Writes of one batch each.
    pub writes: AtomicU64,
    /// Syncs (fdatasync) of one batch each.
    pub syncs: AtomicU64,
}
