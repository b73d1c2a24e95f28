//! `jsi-agent policy`: what is done with policies without an agent that runs.

use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: jsi-agent policy COMMAND

  check    Check configuration and policies, with the loaders that the agent uses
  test     Decide the cases of a file by policy, and compare with what is expected
  ls       List policies: whom they permit what, and where they stand
  explain  The other half of jsi explain --policy-dir

Each takes --help.";

/// `jsi-agent policy` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    match words.split_first() {
        Some((name, rest)) if name == "check" => super::check::main(rest),
        Some((name, rest)) if name == "test" => super::policy_test::main(rest),
        Some((name, rest)) if name == "ls" => super::policy_list::main(rest),
        Some((name, rest)) if name == "explain" => super::policy_explain::main(rest),
        Some((name, _)) if name == "--help" || name == "-h" => super::printed(USAGE),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
