//! `jsi policy`.

use crate::beside::become_agent;
use crate::failure::Failure;
use std::ffi::OsString;

#[derive(clap::Args)]
#[command(after_help = "\
For example:
  jsi policy check
  jsi policy check -v orders.cedar
  jsi policy test orders.test.toml")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Check configuration and policies by the agent's own loader
    #[command(disable_help_flag = true)]
    Check {
        /// What `jsi-agent policy check` takes; see `jsi policy check --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
    /// Decide the cases of a file by policy, and compare with what is expected
    #[command(disable_help_flag = true)]
    Test {
        /// What `jsi-agent policy test` takes; see `jsi policy test --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (name, rest) = match arguments.action {
        Action::Check { rest } => ("check", rest),
        Action::Test { rest } => ("test", rest),
    };
    become_agent(["policy".into(), name.into()].into_iter().chain(rest))
}
