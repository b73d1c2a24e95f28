//! What is printed: JSON, tables, colour; for whom, and how wide.

mod layout;
mod screen;

pub(crate) use layout::{hanging, indented_pairs, pairs, table};
pub(crate) use screen::{Screen, When, fit, paint, set_colour, width};

use crate::failure::Failure;
use clap::ValueEnum;
use serde_json::Value;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `-o table|json`, for commands that print one.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputFlag {
    /// How to print it: a table for people, JSON for programs
    #[arg(
        short = 'o',
        long = "output",
        value_name = "table|json",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) format: Format,
}

/// Prints a value as JSON, or what `table` makes of it.
pub(crate) fn print(
    flag: OutputFlag,
    json: impl FnOnce() -> Value,
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match flag.format {
        Format::Json => to_stdout(escaped(&format!("{:#}\n", json())).as_bytes()),
        Format::Table => to_stdout(table().as_bytes()),
    }
}

/// What terminals obey, or what shows text in another order than it has:
/// paths, units and notes are chosen by whoever is looked at.
pub(crate) fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text without them.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}

/// JSON in which such characters are escaped too: serde_json leaves those above
/// U+001F as they are, and they stand in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && moves(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// One JSON value on a line of its own, for streams of them.
pub(crate) fn json_line(value: &Value) -> String {
    escaped(&format!("{value}")) + "\n"
}

/// Nobody can read what is written there any more: the other end of the pipe is
/// closed, the terminal has gone.
pub(crate) fn stdout_is_gone() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let out = io::stdout();
    let mut asked = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let lost = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut asked, PollTimeout::ZERO).is_ok()
        && asked[0].revents().is_some_and(|found| found.intersects(lost))
}

/// Writes to standard output past std's buffer, which would keep a copy.
pub(crate) fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let written =
        io::stdout().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).write_all(bytes));
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Quiet(1)),
        Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
    }
}

/// What is written there stays there.
pub(crate) fn stdout_is_regular_file() -> bool {
    use nix::sys::stat::{SFlag, fstat};
    fstat(io::stdout()).is_ok_and(|found| {
        SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
    })
}

/// A person would see it.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A person reads standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Tells a person something on standard error.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(noted(text, "\n").as_bytes()); // what was asked for does not depend on it
}

/// The same on a terminal that is raw.
pub(crate) fn note_raw(text: &str) {
    let _ = io::stderr().write_all(noted(text, "\r\n").as_bytes()); // as above
}

/// Lines of what can be printed: names and messages in it are chosen by others.
fn noted(text: &str, end: &str) -> String {
    text.split('\n').map(|line| printable(line) + end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_moves_the_cursor_by_its_lines_only() {
        assert_eq!(noted("a\x1b[2Jb\rc\nd", "\n"), "a\u{fffd}[2Jb\u{fffd}c\nd\n");
        assert_eq!(noted("a\nb", "\r\n"), "a\r\nb\r\n");
    }

    #[test]
    fn json_escapes_what_moves_the_cursor() {
        // C1 controls and what turns the direction of writing.
        for bad in ['\u{9b}', '\u{202e}', '\u{2066}'] {
            let json = serde_json::json!({ "a": bad.to_string() });
            let text = escaped(&format!("{json:#}"));
            assert!(!text.contains(bad), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        }
    }
}
