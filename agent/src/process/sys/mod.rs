//! Thin wrappers round system calls that no library wraps, one file a topic.

pub mod fds;
pub mod features;
pub mod fork;
pub mod image;
pub mod mappings;
pub mod peer;
pub mod pidfd;
pub(super) mod readable;
pub mod signal;
pub(super) mod timer;
