//! `jsi`: asks the agent for credentials, and operates it.
#![forbid(unsafe_code)]

mod alarm;
mod beside;
mod commands;
mod failure;
mod files;
mod keep;
mod obtain;
mod output;
mod plan;
mod policy_text;
mod ready;
#[cfg(test)]
mod redact;
mod session;
mod signals;
mod terminal;
mod view;

fn main() -> std::process::ExitCode {
    commands::main()
}
