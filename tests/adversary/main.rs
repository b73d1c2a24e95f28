//! Real hostile programs against a real agent, each named as a prohibition,
//! with its legitimate twin served beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod attack;
mod bootstrap;
mod connection;
mod files;
mod flood;
mod image;
mod isolated;
mod libraries;
mod mapped;
mod mutants;
mod pids;
mod policy;
mod requester;
mod setgid;
mod sockets;
mod swaps;
mod table;
mod target;
mod workload;

use jsi_tests::Talk;
use std::path::Path;
use std::time::Duration;

/// Waits until the process runs that program.
fn await_exe(talk: &Talk, program: &str) {
    let link = format!("/proc/{}/exe", talk.pid());
    jsi_tests::until("the exec", Duration::from_secs(5), || {
        (std::fs::read_link(&link).ok()? == Path::new(program)).then_some(())
    });
}
