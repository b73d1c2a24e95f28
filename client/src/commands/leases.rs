//! `jsi leases`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};

#[derive(clap::Args)]
#[command(after_help = "\
The last column says how the secret was handed over; an environment is exposed.
  jsi leases db/
  jsi leases --all --ended -o json")]
pub(crate) struct Arguments {
    /// Only leases whose ID begins with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// Everybody's, by the admin socket
    #[arg(long)]
    all: bool,
    /// Ended ones that are still remembered, too
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { prefix, all, ended, output } = arguments;
    let leases = session::block_on(async {
        let agent =
            if all { session::agent_of_operators().await? } else { session::agent().await? };
        agent.leases(&prefix, all, ended).await
    })?;
    output::print(output, || view::leases(&leases), || view::lease_table(&leases))
}
