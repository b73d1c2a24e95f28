//! `jsi renew`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::{TtlError, parse_ttl};
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
Counts from now and is cut to what policy and configuration allow; what the lease
has then is printed. Only its holder may renew it.
  jsi renew db/orders/toyssrurpyx5hwiwtwbctzkegi --ttl 15m")]
pub(crate) struct Arguments {
    /// The lease
    id: String,
    /// From now: 90s, 15m, 1h30m, 2d [default: what it was granted with]
    #[arg(long, value_name = "TIME", value_parser = ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    #[command(flatten)]
    output: OutputFlag,
}

/// For clap: the same TTL everywhere.
pub(super) fn ttl(text: &str) -> Result<Duration, TtlError> {
    parse_ttl(text)
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let lease = session::block_on(async {
        session::agent().await?.renew(&arguments.id, arguments.ttl).await
    })?;
    for warning in &lease.warnings {
        output::note(&format!("note: {warning}"));
    }
    output::print(
        arguments.output,
        || view::lease(&lease),
        || view::lease_table(std::slice::from_ref(&lease)),
    )
}
