//! `jsi-agent policy`: what is done with policies without an agent that runs.

use super::{check, policy_explain, policy_list, policy_test};
use clap::{Command, CommandFactory};
use std::ffi::OsString;
use std::process::ExitCode;

/// `jsi-agent policy` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let Some((name, rest)) = words.split_first() else {
        return asked(&["--help".into()], 2);
    };
    match name.to_str() {
        Some("check") => check::main(rest),
        Some("test") => policy_test::main(rest),
        Some("ls") => policy_list::main(rest),
        Some("explain") => policy_explain::main(rest),
        _ => asked(words, 2),
    }
}

/// Help, or what is wrong with the words.
fn asked(words: &[OsString], otherwise: u8) -> ExitCode {
    let name = OsString::from("jsi-agent policy");
    match command().try_get_matches_from(std::iter::once(&name).chain(words)) {
        Ok(_) => ExitCode::from(otherwise),
        Err(error) => {
            // Help goes to stdout, errors to stderr; neither can be helped if it fails.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(otherwise))
        }
    }
}

/// The words that it takes.
pub(super) fn command() -> Command {
    Command::new("jsi-agent policy")
        .about("Check, test, list and explain policies, without an agent that runs.")
        .subcommand_required(true)
        .subcommands([
            check::CheckArgs::command().name("check"),
            policy_test::TestArgs::command().name("test"),
            policy_list::ListArgs::command().name("ls"),
            policy_explain::ExplainArgs::command().name("explain"),
        ])
}
