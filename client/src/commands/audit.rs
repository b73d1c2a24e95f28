//! `jsi audit`: the log is read by `jsi-agent`, which knows its format.

use crate::beside::become_agent;
use crate::failure::Failure;
use crate::session;
use std::ffi::OsString;

#[derive(clap::Args)]
#[command(disable_help_flag = true, after_help = "Actions: tail, show, verify, head.")]
pub(crate) struct Arguments {
    /// tail, show, verify or head, and what `jsi-agent audit` takes with it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    rest: Vec<OsString>,
}

/// The log's place is the running agent's, unless one is given or no agent
/// answers; then `jsi-agent` looks where its configuration says.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut rest = arguments.rest;
    let named = |arg: &OsString| {
        let text = arg.to_string_lossy();
        text == "--log" || text.starts_with("--log=") || text == "--help" || text == "-h"
    };
    if !rest.iter().any(named) {
        let status = session::block_on(async { session::admin().await?.status().await });
        if let Ok(status) = status
            && !status.log_dir.is_empty()
        {
            // Behind the action, before what may be its operands.
            rest.splice(1..1, ["--log".into(), status.log_dir.into()]);
        }
    }
    become_agent(std::iter::once("audit".into()).chain(rest))
}
