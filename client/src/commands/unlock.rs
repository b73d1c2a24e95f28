//! `jsi unlock`.

use crate::failure::Failure;
use crate::passphrase::From;
use crate::{output, session};
use jsi_client::v1::{Reason, StatusResponse};
use zeroize::Zeroizing;

/// As ssh-add and sudo.
const TRIES: u32 = 3;

#[derive(clap::Args)]
#[command(after_help = "\
A passphrase is asked for only where one is needed: on the terminal, by pinentry
where standard input is no terminal, pipe or file, or from a pipe (one trailing
newline is taken off). A plugin's PIN or touch is asked for by the agent.
  jsi unlock
  jsi unlock --pinentry
  sudo systemd-creds decrypt --name=jsi-identity IDENTITY - | jsi unlock --stdin")]
pub(crate) struct Arguments {
    /// Send no passphrase
    #[arg(long)]
    no_passphrase: bool,
    /// Ask by pinentry, even on a terminal
    #[arg(long, conflicts_with_all = ["no_passphrase", "stdin"])]
    pinentry: bool,
    /// Read the passphrase from standard input
    #[arg(long, conflicts_with = "no_passphrase")]
    stdin: bool,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let status = session::block_on(async { session::admin().await?.status().await })?;
    if !status.locked {
        output::note("it is not locked");
        return Ok(());
    }
    let wanted = arguments.stdin || arguments.pinentry || needs_passphrase(&status);
    if arguments.no_passphrase || !wanted {
        if opens_with(&status) == "plugin" {
            output::note("the identity's plugin is asked; it may wait for a PIN or a touch");
        }
        unlock(Zeroizing::new(Vec::new()))?;
    } else {
        ask_and_unlock(From::of(arguments.stdin, arguments.pinentry))?;
    }
    output::note("unlocked");
    Ok(())
}

fn ask_and_unlock(from: From) -> Result<(), Failure> {
    let mut wrong: Option<String> = None;
    for left in (0..TRIES).rev() {
        match unlock(from.ask(wrong.as_deref())?) {
            Err(jsi_client::Error::Refused(refusal))
                if from.is_person()
                    && left > 0
                    && refusal.reason == Some(Reason::WrongPassphrase) =>
            {
                let tries = if left == 1 { "1 try" } else { "2 tries" };
                let text = format!("{}; {tries} left", refusal.message);
                output::note(&text);
                wrong = Some(text);
            }
            result => return Ok(result?),
        }
    }
    Ok(())
}

/// Each try has a connection of its own.
fn unlock(passphrase: Zeroizing<Vec<u8>>) -> Result<(), jsi_client::Error> {
    session::block_on_client(async { session::admin().await?.unlock(passphrase).await })
}

fn opens_with(status: &StatusResponse) -> &str {
    status.lock.as_ref().map_or("", |lock| lock.unlock_with.as_str())
}

/// An agent that does not say may need one.
fn needs_passphrase(status: &StatusResponse) -> bool {
    matches!(opens_with(status), "" | "passphrase")
}
