//! `jsi-agent askpass`: asks for a passphrase by pinentry and prints it, for
//! `jsi unlock` and `jsi lock --passphrase`, which read it from a pipe.

use crate::config;
use crate::memory::SecretBuf;
use crate::process::pinentry::{Pinentry, PinentryError, Question};
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ask for a passphrase by pinentry and print it.
#[derive(Debug, Parser)]
#[command(
    name = "jsi-agent askpass",
    after_help = "\
Exit code 0: it stands on standard output, which must not be a terminal. 130: the
person would not. For jsi unlock --pinentry, which reads it from a pipe."
)]
pub(super) struct AskpassArgs {
    /// What was wrong with the last one.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// A new one, to be typed twice.
    #[arg(long)]
    repeat: bool,
    /// The pinentry to use [default: that of the configuration].
    #[arg(long, value_name = "FILE")]
    pinentry: Option<PathBuf>,
}

/// `jsi-agent askpass` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: AskpassArgs = match super::parsed("jsi-agent askpass", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    if io::stdout().is_terminal() {
        eprintln!(
            "jsi-agent askpass: standard output is a terminal, which would show the passphrase"
        );
        return ExitCode::from(2);
    }
    // Nothing of this uid is to read it here.
    let _ = nix::sys::prctl::set_dumpable(false);
    match asked(&args) {
        Ok(Some(passphrase)) => print(&passphrase),
        Ok(None) => ExitCode::from(130),
        Err(error) => {
            eprintln!("jsi-agent askpass: {error}");
            ExitCode::FAILURE
        }
    }
}

fn asked(args: &AskpassArgs) -> Result<Option<SecretBuf>, PinentryError> {
    let program = args.pinentry.clone().unwrap_or_else(|| {
        // Without a configuration that holds there is still somebody to ask.
        config::load(None, None).map_or_else(|_| "/usr/bin/pinentry".into(), |found| found.pinentry)
    });
    let mut pinentry = Pinentry::start(&program, PATIENCE)?;
    pinentry.ask(Question {
        description: if args.repeat {
            "A passphrase to lock the jsi agent with"
        } else {
            "The passphrase of the jsi agent's secret store"
        },
        prompt: "Passphrase:",
        error: args.error.as_deref(),
        repeat: args.repeat,
    })
}

/// Past the buffer of std, which would keep a copy.
fn print(passphrase: &SecretBuf) -> ExitCode {
    use std::os::fd::AsFd;
    let written = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| std::fs::File::from(fd).write_all(passphrase.expose()));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
