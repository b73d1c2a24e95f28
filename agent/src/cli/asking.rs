//! Asking whoever runs a command of ours.

use super::silent;
use crate::memory::SecretBuf;
use crate::store::Asking;
use std::io::{self, BufRead, IsTerminal};
use zeroize::Zeroizing;

/// Longest passphrase, in bytes.
const MAX_PASSPHRASE: usize = 4096;

/// Where passphrases come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passphrases {
    /// The terminal, without echo.
    Terminal,
    /// Standard input, one a line.
    Input,
    /// There is nobody to ask.
    Nobody,
}

impl Passphrases {
    /// Standard input where it is asked for, else a terminal if there is one.
    pub(super) fn of(stdin: bool) -> Self {
        match stdin {
            true => Self::Input,
            false if io::stdin().is_terminal() && io::stderr().is_terminal() => Self::Terminal,
            false => Self::Nobody,
        }
    }

    /// Asks for one that exists.
    pub(super) fn ask(self, whose: &str) -> io::Result<SecretBuf> {
        match self {
            Self::Terminal => {
                silent::line(&format!("Passphrase of {whose}: ")).map(|mut line| taken(&mut line))
            }
            Self::Input => read_line(),
            Self::Nobody => Err(io::Error::other(format!(
                "the passphrase of {whose} is wanted, and there is no terminal; give it with --stdin"
            ))),
        }
    }

    /// Asks for a new one, twice where it is typed.
    pub(super) fn ask_new(self) -> io::Result<SecretBuf> {
        let new = match self {
            Self::Terminal => {
                let first = taken(&mut *silent::line("New passphrase: ")?);
                let again = taken(&mut *silent::line("The same again: ")?);
                if !first.same(again.expose()) {
                    return Err(io::Error::other("the two passphrases differ"));
                }
                first
            }
            other => other.ask("the new identity")?,
        };
        if new.is_empty() {
            return Err(io::Error::other("an empty passphrase protects nothing"));
        }
        if std::str::from_utf8(new.expose()).is_err() {
            return Err(io::Error::other("the passphrase is not UTF-8, which age wants"));
        }
        Ok(new)
    }
}

fn taken(line: &mut Vec<u8>) -> SecretBuf {
    SecretBuf::new(std::mem::take(line))
}

/// One line of standard input, byte by byte: a buffer would take the next
/// line's too, and keep a copy.
fn read_line() -> io::Result<SecretBuf> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE + 1));
    let mut input = io::stdin().lock();
    loop {
        let (byte, used) = match input.fill_buf()?.first() {
            None => (None, 0),
            Some(byte) => (Some(*byte), 1),
        };
        input.consume(used);
        match byte {
            None if line.is_empty() => {
                return Err(io::Error::other("standard input has no line for a passphrase"));
            }
            None | Some(b'\n') => return Ok(taken(&mut line)),
            Some(_) if line.len() == MAX_PASSPHRASE => {
                return Err(io::Error::other("a passphrase has at most 4096 bytes"));
            }
            Some(byte) => line.push(byte),
        }
    }
}

/// What plugins ask, on the terminal.
pub(super) struct OnTerminal;

impl Asking for OnTerminal {
    fn tell(&self, text: &str) {
        eprintln!("{}", printable(text));
    }

    fn ask(&self, text: &str, _secret: bool) -> Option<SecretBuf> {
        // Without echo, whatever it is.
        silent::line(&format!("{} ", printable(text))).ok().map(|mut line| taken(&mut line))
    }

    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.unwrap_or("no");
        let question =
            format!("{} (y: {}, n: {}) ", printable(text), printable(yes), printable(no));
        let answer = silent::line(&question).ok()?;
        Some(answer.eq_ignore_ascii_case(b"y") || answer.eq_ignore_ascii_case(b"yes"))
    }
}

/// What others wrote must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
