//! `jsi`: asks the agent for credentials, and operates it.
#![forbid(unsafe_code)]

mod beside;
mod commands;
mod failure;
mod obtain;
mod output;
mod plan;
mod policy_text;
mod session;
mod terminal;
mod view;

fn main() -> std::process::ExitCode {
    commands::main()
}
