//! What the tests stand on: a real agent in a world of its own, real peers
//! with uids of their own, real hostile programs.
//!
//! A test begins with [`Setup::host`] or [`Setup::user`], starts a [`Host`],
//! and runs programs against it. Dropping the host ends the agent and removes
//! the world.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this crate is test code: a broken expectation ends the test, and figures are printed"
)]

mod agent;
mod command;
mod grpc;
mod log;
mod manual;
mod mutants;
mod namespace;
mod policy;
mod postgres;
mod program;
mod setup;
mod stage;
mod talk;
mod tmux;
mod wait;
mod world;

pub use agent::{Host, Pids};
pub use command::{Outcome, Program};
pub use grpc::{Client, Delivered, Failure};
use log::within_log;
pub use log::{find, kinds, lease_ids};
pub use manual::{Golden, configuration_page, keep_manual, manual_page};
pub use mutants::{mutants, shipped};
pub use policy::{digest, permit, permit_digest, permit_with};
pub use postgres::Postgres;
pub use program::compile;
pub use setup::Setup;
pub use stage::Stage;
pub use talk::Talk;
pub use tmux::Terminal;
pub use wait::{until, within};
pub use world::{Mode, Peer, World, random_secret};

/// The peers that tests use: two uids that no account has.
pub const PEERS: [Peer; 2] = [Peer { uid: 20_001 }, Peer { uid: 20_002 }];

/// Are we root? Half of the tests need other uids.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ends the test as *not run* unless it is run by root. tests/run counts these
/// (by the file that `JSI_TESTS_NOT_RUN` names) and never reports them as passed.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::is_root() {
            $crate::not_run(module_path!(), line!(), "it needs uids of its own: run it as root");
            return;
        }
    };
}

/// Records that a test was not run, and why.
pub fn not_run(module: &str, line: u32, why: &str) {
    use std::io::Write;
    let test = match std::thread::current().name() {
        Some(test) if test != "main" => format!("{module}: {test}"),
        _ => format!("{module}:{line}"),
    };
    println!("not run: {test}: {why}");
    if let Some(path) = std::env::var_os("JSI_TESTS_NOT_RUN") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = writeln!(file.expect("the not-run list opens"), "{test}: {why}");
    }
}
