//! `jsi leases`.

use crate::failure::Failure;
use crate::live::{self, lines::Form};
use crate::output::{self, Format, OutputFlag, Screen};
use crate::{session, view};

#[derive(clap::Args)]
#[command(after_help = "\
The last column says how the secret was handed over; an environment is exposed.
  jsi leases db/
  jsi leases --all --ended -o json
  jsi leases --watch          # bars of what is left; q ends")]
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
    /// Show them as they change, with bars of what is left; into a pipe, as lines
    #[arg(short, long, conflicts_with = "ended")]
    watch: bool,
    /// With --watch: lines, as for a screen reader, rather than a board
    #[arg(long, requires = "watch")]
    plain: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { prefix, all, ended, watch, plain, output } = arguments;
    if watch {
        return match output.format {
            Format::Json => live::print_lines(&prefix, all, Form::Json),
            // A board needs a terminal whose cursor can be moved.
            Format::Table if plain || !Screen::now().moves => {
                live::print_lines(&prefix, all, Form::Words)
            }
            Format::Table => live::board(&prefix, all),
        };
    }
    let leases = session::block_on(async {
        let agent =
            if all { session::agent_of_operators().await? } else { session::agent().await? };
        agent.leases(&prefix, all, ended).await
    })?;
    output::print(output, || view::leases(&leases), || view::lease_table(&leases))
}
