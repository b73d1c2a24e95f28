//! Real processes: how the agent's three start, what they give up, what
//! COMMAND feels of it (nothing), and that they end together.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod endings;
mod home;
mod start;
