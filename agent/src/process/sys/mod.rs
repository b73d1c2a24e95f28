//! Thin wrappers round system calls that no library wraps, one file a topic.

pub mod fds;
pub mod fork;
pub mod peer;
pub mod pidfd;
pub mod signal;
