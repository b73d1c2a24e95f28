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
        give_up_after(limit);
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

/// Ends the process then: a signal would have the shell speak of it.
fn give_up_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        let failure = Failure::new(format!(
            "the agent did not answer within {}",
            jsi_client::show_duration(limit)
        ));
        std::process::exit(failure.code(5).report().into());
    });
}
