//! Tables, JSON and colour.

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

/// A person reads standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Tells a person something on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}"); // what was asked for does not depend on it
}

/// Colours text where the stream is a terminal and nobody objects.
pub(crate) fn paint(stream: &impl IsTerminal, colour: &str, text: &str) -> String {
    let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !objection {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Lays out rows under a heading, in columns as wide as they need to be.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let shown = |cell: &str| -> String {
        let cell: String = cell.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect();
        if cell.is_empty() { "-".to_owned() } else { cell }
    };
    let mut lines = vec![heading.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()));
    let widths: Vec<usize> = (0..heading.len())
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|c| c.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            out.push_str(&format!("{cell:width$}  "));
        }
        let out = out.trim_end();
        text.push_str(&if number == 0 { paint(&io::stdout(), "1", out) } else { out.to_owned() });
        text.push('\n');
    }
    text
}

/// Lays out names and values, one pair a line; pairs without a value are left out.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let value: String = value.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect();
        text.push_str(&format!("{name:width$}  {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows =
            vec![vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "STATE"], &rows), "ID   STATE\na    bb\nccc  -\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!table(&["A"], &[vec!["\x1b[31m".to_owned()]]).contains('\x1b'));
        assert!(!pairs(&[("a", "x\x1b]0;".to_owned())]).contains('\x1b'));
        // C1 controls and what turns the direction of writing.
        for bad in ['\u{9b}', '\u{202e}', '\u{2066}'] {
            assert!(!table(&["A"], &[vec![bad.to_string()]]).contains(bad));
            assert!(!pairs(&[("a", bad.to_string())]).contains(bad));
            let json = serde_json::json!({ "a": bad.to_string() });
            let text = escaped(&format!("{json:#}"));
            assert!(!text.contains(bad), "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        }
    }
}
