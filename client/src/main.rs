//! `jsi`: asks the agent for credentials, and operates it.
#![forbid(unsafe_code)]

mod beside;
mod commands;
mod failure;
mod obtain;
mod output;
mod place;
mod plan;
mod policy_text;
mod project;
mod session;
mod terminal;
mod view;

fn main() -> std::process::ExitCode {
    commands::main()
}
