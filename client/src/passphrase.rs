//! Asking for the agent's passphrase: on the terminal, by pinentry, or from
//! standard input.

use crate::beside::ask_agent;
use crate::failure::Failure;
use crate::terminal;
use std::io;
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Longest that the agent takes, in bytes.
const MAX_LEN: usize = 4096;

/// Where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Standard input, to its end.
    Input,
    /// The controlling terminal.
    Terminal,
    /// pinentry.
    Pinentry,
}

impl From {
    /// What flags say; else a terminal, a pipe or a file, or, where standard
    /// input is none of them, pinentry.
    pub(crate) fn of(stdin: bool, pinentry: bool) -> Self {
        match (stdin, pinentry) {
            (true, _) => Self::Input,
            (_, true) => Self::Pinentry,
            _ if terminal::present() => Self::Terminal,
            _ if input_is_device() => Self::Pinentry,
            _ => Self::Input,
        }
    }

    /// A wrong answer can be given again.
    pub(crate) fn is_person(self) -> bool {
        self != Self::Input
    }

    /// Asks; `error`: what was wrong with the last answer.
    pub(crate) fn ask(self, error: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Failure> {
        fits(match self {
            Self::Input => {
                let mut input = terminal::all_input()?;
                terminal::strip_newline(&mut input);
                input
            }
            Self::Terminal => terminal::ask_secret("Passphrase")?,
            Self::Pinentry => by_pinentry(error, false)?,
        })
    }

    /// Asks for a new one, twice where a person types it.
    pub(crate) fn ask_new(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let new = match self {
            Self::Input => self.ask(None)?,
            Self::Pinentry => by_pinentry(None, true)?,
            Self::Terminal => {
                let first = terminal::ask_secret("New passphrase")?;
                if *first != *terminal::ask_secret("The same again")? {
                    return Err(Failure::new("the two passphrases differ; nothing was locked"));
                }
                first
            }
        };
        if new.is_empty() {
            return Err(Failure::new("an empty passphrase locks nothing")
                .advise("jsi lock without --passphrase locks until: jsi unlock"));
        }
        fits(new)
    }
}

fn fits(passphrase: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if passphrase.len() > MAX_LEN {
        return Err(Failure::usage("a passphrase has at most 4096 bytes"));
    }
    Ok(passphrase)
}

/// The one who speaks with pinentry is `jsi-agent askpass`.
fn by_pinentry(error: Option<&str>, new: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut arguments = vec!["askpass".into()];
    if let Some(error) = error {
        arguments.extend(["--error".into(), error.into()]);
    }
    if new {
        arguments.push("--repeat".into());
    }
    match ask_agent(arguments)? {
        (0, passphrase) => Ok(passphrase),
        (130, _) => Err(Failure::new("cancelled; nothing was changed").code(130)),
        // It has said why.
        (_, _) => Err(Failure::Quiet(1)),
    }
}

/// `/dev/null` and the like: neither a person nor a value is there.
fn input_is_device() -> bool {
    use nix::sys::stat::{SFlag, fstat};
    fstat(io::stdin().as_fd()).is_ok_and(|found| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
    })
}
