//! `jsi release`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
Only the holder may release a lease; jsi revoke is for operators.
  jsi release db/orders/toyssrurpyx5hwiwtwbctzkegi")]
pub(crate) struct Arguments {
    /// The leases
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Give up on an agent that does not answer for so long: 2s
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl)]
    within: Option<Duration>,
    #[command(flatten)]
    output: OutputFlag,
}

/// Tries all of them; the first failure is the command's.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(limit) = arguments.within {
        // Without a handler SIGALRM ends the process; nothing here is half-done.
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        nix::unistd::alarm::set(seconds.max(1));
    }
    let (released, failed) = session::block_on(async {
        let agent = session::agent().await?;
        let mut released = Vec::new();
        let mut failed = Vec::new();
        for id in &arguments.ids {
            match agent.release(id).await {
                Ok(lease) => released.push(lease),
                Err(error) => failed.push((id, error)),
            }
        }
        Ok::<_, jsi_client::Error>((released, failed))
    })?;
    output::print(
        arguments.output,
        || view::leases(&released),
        || if released.is_empty() { String::new() } else { view::lease_table(&released) },
    )?;
    let mut failed = failed.into_iter();
    let Some((_, first)) = failed.next() else {
        return Ok(());
    };
    let failure = Failure::from(first);
    Err(failed.fold(failure, |failure, (id, error)| failure.advise(format!("{id}: {error}"))))
}
