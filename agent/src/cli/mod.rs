//! The `jsi-agent` command line, one file for each subcommand.

mod asking;
mod askpass;
mod audit;
mod check;
mod diagnostics;
mod facts;
mod init;
mod lifetime;
#[cfg(test)]
mod manual;
mod places;
mod policy;
mod policy_explain;
mod policy_list;
mod policy_test;
mod record_line;
mod rekey;
mod serve;
mod silent;
mod surroundings;
mod template;

use crate::attestation::attestor;
use crate::process;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// A subcommand: takes the arguments behind its name, prints its own errors.
type Subcommand = fn(&[OsString]) -> ExitCode;

/// Recognised as the very first word only; `jsi-agent -- init` runs a COMMAND
/// called init. One line for each, its file beside this one.
const SUBCOMMANDS: &[(&str, Subcommand)] = &[
    ("askpass", askpass::main),
    ("audit", audit::main),
    ("check", check::main),
    ("facts", facts::main),
    ("init", init::main),
    ("policy", policy::main),
    ("rekey", rekey::main),
];

/// The roles of the agent's own processes, which execute this binary again.
const ROLES: process::Start = process::Start {
    broker: |context| Ok(crate::pipeline::run(context)?),
    attestor: |link, config, settings| {
        let advisory = crate::config::advisory(&config);
        let again = move || {
            let config = settings.load().map_err(|error| error.to_string())?;
            let advisory = crate::config::advisory(&config);
            Ok((config, advisory))
        };
        attestor::run_with(link, &config, advisory, Box::new(again))
    },
    launcher: process::launcher::run,
    unwrap: crate::store::answer,
};

/// Runs the command and maps its result to an exit code, once.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = crate::mutants::begin() {
        // There is nobody else to tell.
        drop(writeln!(io::stderr(), "jsi-agent: {error}"));
        return ExitCode::from(2);
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if process::of_arguments(&arguments).is_some() {
        return process::start(&arguments, ROLES);
    }
    let subcommand = arguments.split_first().and_then(|(first, rest)| {
        Some((SUBCOMMANDS.iter().find(|(name, _)| first == name)?.1, rest))
    });
    match subcommand {
        Some((run, rest)) => run(rest),
        None => serve::main(&arguments),
    }
}

/// The words behind a subcommand's name as its arguments; else its help or what
/// is wrong with them has been printed, and this is how to exit.
fn parsed<A: clap::Parser>(name: &str, words: &[OsString]) -> Result<A, ExitCode> {
    let name = OsString::from(name);
    A::try_parse_from(std::iter::once(&name).chain(words)).map_err(|error| {
        // Help goes to stdout, errors to stderr; neither can be helped if it fails.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// An error with all that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What others wrote, without what a terminal obeys or what turns the direction
/// of writing.
fn printable(text: &str) -> String {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}
