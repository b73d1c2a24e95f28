//! The rules, one file a topic. Each takes facts and gives findings; none reads
//! anything.

pub(super) mod agent;
pub(super) mod client;
pub(super) mod clock;
pub(super) mod credentials;
pub(super) mod disk;
pub(super) mod dumps;
pub(super) mod files;
pub(super) mod kernel;
pub(super) mod limits;
