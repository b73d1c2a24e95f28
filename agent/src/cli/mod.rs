//! The `jsi-agent` command line, one file for each subcommand.

mod audit;
mod check;
mod init;
mod lifetime;
mod places;
mod record_line;
mod serve;
mod template;

use crate::attestation::attestor;
use crate::process;
use clap::Parser;
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// A subcommand: takes the arguments behind its name, prints its own errors.
type Subcommand = fn(&[OsString]) -> ExitCode;

/// Recognised as the very first word only; `jsi-agent -- init` runs a COMMAND
/// called init. One line for each, its file beside this one.
const SUBCOMMANDS: &[(&str, Subcommand)] = &[
    ("audit", |words| {
        parsed("audit", words, |args: &audit::AuditArgs| {
            finish(audit::run(args, &mut io::stdout().lock()), audit::AuditError::exit_code)
        })
    }),
    ("check", |words| {
        parsed("check", words, |args: &check::CheckArgs| {
            check::run(args).unwrap_or_else(|error| finish(Err(error), |_| 1))
        })
    }),
    ("init", |words| {
        parsed("init", words, |args: &init::InitArgs| {
            finish(init::run(args, &mut io::stdout().lock()), |_| 1)
        })
    }),
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
};

/// Runs the command and maps its result to an exit code, once.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if process::of_arguments(&arguments).is_some() {
        return process::start(&arguments, ROLES);
    }
    let subcommand = arguments
        .split_first()
        .and_then(|(first, rest)| Some((SUBCOMMANDS.iter().find(|(name, _)| first == name)?.1, rest)));
    match subcommand {
        Some((run, rest)) => run(rest),
        None => serve::main(&arguments),
    }
}

/// The words behind a subcommand's name, as its arguments.
#[derive(Parser)]
#[command(version)]
struct Behind<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn parsed<A: clap::Args>(name: &str, words: &[OsString], run: impl Fn(&A) -> ExitCode) -> ExitCode {
    let full = std::iter::once(OsString::from(format!("jsi-agent {name}")));
    match Behind::<A>::try_parse_from(full.chain(words.iter().cloned())) {
        Ok(behind) => run(&behind.args),
        Err(error) => {
            // Help goes to stdout, errors to stderr; nothing is lost where
            // neither can be written.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { 2 } else { 0 })
        }
    }
}

/// The whole chain of an error, printed once, at the edge.
fn finish<E: Error>(result: Result<(), E>, code: impl Fn(&E) -> u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            let code = code(&error);
            let _ = io::Write::write_all(&mut io::stderr(), format!("jsi-agent: {text}\n").as_bytes());
            ExitCode::from(code)
        }
    }
}
