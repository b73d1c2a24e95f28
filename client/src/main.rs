//! `jsi`: asks the agent for credentials, and operates it.
#![forbid(unsafe_code)]

mod alarm;
mod beside;
mod commands;
mod complete;
mod doctor;
mod failure;
mod files;
mod hidden;
mod keep;
mod live;
mod obtain;
mod output;
mod passphrase;
mod place;
mod plan;
mod policy_text;
mod project;
mod ready;
mod redact;
mod session;
mod signals;
mod supervise;
mod terminal;
mod view;

fn main() -> std::process::ExitCode {
    // Before anything is looked at on behalf of whoever started it.
    if let Err(error) = jsi_client::group::lay_down() {
        eprintln!("jsi: cannot lay down the group of its file: {error}");
        return std::process::ExitCode::FAILURE;
    }
    commands::main()
}
