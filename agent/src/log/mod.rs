//! The log: audit and journal at once. Every stage may write it; it knows none
//! of them.
//!
//! A directory of segments `00000000000000000000.jsonl`, named by the sequence
//! number of their first leaf. Appends are group-committed: one write and one
//! fdatasync for all that wait. When a write fails nothing is issued any more
//! until the agent is started again with the fault mended ([`LogError::Failed`]).

mod record;

pub use record::{
    BindingRecord, EndReason, Event, HolderRecord, LeaseRecord, LeaseState, Record, VERSION,
};
