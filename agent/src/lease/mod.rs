//! Stage 6: the time-bounded grant of one secret to one requester.
//!
//! The machine is a pure function; the engine performs its effects. Leases live
//! under one short lock that is never held across an await, a sync or a system
//! call that may block.

mod binding;
mod ending;
mod engine;
mod entry;
mod expiry;
mod grant;
mod machine;
mod restore;
mod rotation;
mod seams;
mod table;
mod terms;
mod view;

#[cfg(test)]
mod binding_test;
#[cfg(test)]
mod fakes;
#[cfg(test)]
mod rotation_test;
#[cfg(test)]
mod tests;

pub use engine::{Engine, EngineParts};
pub use grant::Granted;
pub use restore::{Finder, Found, Restored};
pub use seams::{Durable, Issuers, Journal, JournalError};
pub use terms::{BindingKey, Bound, Filter, Grant, LeaseError, Selector, Terms};
pub use view::{Change, LeaseView, Watcher};
