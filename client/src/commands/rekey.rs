//! `jsi rekey`: the agent's own work, since it knows keys.

use crate::beside::become_agent;
use crate::failure::Failure;
use std::ffi::OsString;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What `jsi-agent rekey` takes; see `jsi rekey --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    become_agent(std::iter::once("rekey".into()).chain(arguments.rest))
}
