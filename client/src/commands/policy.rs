//! `jsi policy check`.

use crate::beside::become_agent;
use crate::failure::Failure;
use std::ffi::OsString;

#[derive(clap::Args)]
#[command(after_help = "\
For example:
  jsi policy check
  jsi policy check -v orders.cedar")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Check configuration and policies by the agent's own loader
    #[command(disable_help_flag = true)]
    Check {
        /// What `jsi-agent check` takes; see `jsi policy check --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Action::Check { rest } = arguments.action;
    become_agent(std::iter::once("check".into()).chain(rest))
}
