//! The `jsi-agent` command line, one file for each subcommand.

use std::process::ExitCode;

/// Runs the command and maps its result to an exit code, once.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
