//! `jsi policy`.

mod remove;

use crate::beside::become_agent;
use crate::failure::Failure;
use std::ffi::OsString;

#[derive(clap::Args)]
#[command(after_help = "\
check, test and ls need no agent that runs; each takes --help.
  jsi policy check
  jsi policy check -v orders.cedar
  jsi policy test orders.test.toml
  jsi policy rm allow-db-orders-psql")]
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
    /// List policies: whom they permit what, and where they stand
    #[command(disable_help_flag = true)]
    Ls {
        /// What `jsi-agent policy ls` takes; see `jsi policy ls --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
    /// Remove a policy that has a file of its own, as jsi allow writes it
    Rm(remove::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (name, rest) = match arguments.action {
        Action::Check { rest } => ("check", rest),
        Action::Test { rest } => ("test", rest),
        Action::Ls { rest } => ("ls", rest),
        Action::Rm(arguments) => return remove::run(arguments),
    };
    become_agent(["policy".into(), name.into()].into_iter().chain(rest))
}
