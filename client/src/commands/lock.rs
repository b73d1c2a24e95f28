//! `jsi lock`.

use crate::failure::Failure;
use crate::{output, session};

#[derive(clap::Args)]
#[command(after_help = "\
For example:
  jsi lock")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: Arguments) -> Result<(), Failure> {
    session::block_on(async { session::admin().await?.lock().await })?;
    output::note("locked; open it with: jsi unlock");
    Ok(())
}
