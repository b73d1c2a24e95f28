//! `jsi watch`.

use crate::failure::Failure;
use crate::live::{self, lines::Form};
use crate::output::{Format, OutputFlag};

#[derive(clap::Args)]
#[command(after_help = "\
One line for each lease that is there, then one for each change: time, what
happened, lease, what is left or why it ended, holder. It goes on when the agent
is restarted. jsi leases --watch draws the same as bars.
  jsi watch db/
  jsi watch --all -o json | jq 'select(.kind == \"ended\")'")]
pub(crate) struct Arguments {
    /// Only leases whose ID begins with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// Everybody's, by the admin socket
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let form = match arguments.output.format {
        Format::Table => Form::Words,
        Format::Json => Form::Json,
    };
    live::print_lines(&arguments.prefix, arguments.all, form)
}
