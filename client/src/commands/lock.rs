//! `jsi lock`.

use crate::failure::Failure;
use crate::passphrase::From;
use crate::{output, session};

#[derive(clap::Args)]
#[command(after_help = "\
Locked, the agent has wiped its keys: it issues, renews and reads nothing. Leases
still end, and can be revoked. jsi status shows both lists.
  jsi lock
  jsi lock --passphrase    # as ssh-add -x: jsi unlock then asks for it

The passphrase holds until the agent ends: a new agent opens by its identity.
Where the identity has a passphrase, that one unlocks, and none is taken here.")]
pub(crate) struct Arguments {
    /// Take a passphrase without which nobody unlocks this agent
    #[arg(long)]
    passphrase: bool,
    /// Ask for it by pinentry, even on a terminal
    #[arg(long, requires = "passphrase", conflicts_with = "stdin")]
    pinentry: bool,
    /// Read it from standard input
    #[arg(long, requires = "passphrase")]
    stdin: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let passphrase = arguments
        .passphrase
        .then(|| From::of(arguments.stdin, arguments.pinentry).ask_new())
        .transpose()?;
    session::block_on(async { session::admin().await?.lock(passphrase).await })?;
    output::note("locked; open it with: jsi unlock");
    Ok(())
}
