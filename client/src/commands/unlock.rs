//! `jsi unlock`.

use crate::failure::Failure;
use crate::{output, session, terminal};
use zeroize::Zeroizing;

#[derive(clap::Args)]
#[command(after_help = "\
The passphrase is asked for on the terminal, or read from standard input (one
trailing newline is taken off).
  jsi unlock")]
pub(crate) struct Arguments {
    /// Send no passphrase: the identity is a key file
    #[arg(long)]
    no_passphrase: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let passphrase = if arguments.no_passphrase {
        Zeroizing::new(Vec::new())
    } else if terminal::present() {
        terminal::ask_secret("Passphrase (empty for a key file)")?
    } else {
        let mut input = terminal::all_input()?;
        terminal::strip_newline(&mut input);
        input
    };
    session::block_on(async { session::admin().await?.unlock(passphrase).await })?;
    output::note("unlocked");
    Ok(())
}
