//! Errors and warnings about policies, for a terminal, a pipe, and as JSON.

use super::printable;
use crate::policy::Fault;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// Columns where nothing says how many there are.
const WIDTH: usize = 80;
/// Fewer are not believed.
const LEAST_WIDTH: usize = 20;

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The agent refuses it.
    Error,
    /// The agent takes it.
    Warning,
}

/// How it is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    colour: bool,
    /// Columns; `None`: as long as it is, for files and programs.
    width: Option<usize>,
}

impl Style {
    /// As suits standard error.
    pub(super) fn of_stderr() -> Self {
        let stderr = std::io::stderr();
        let objection = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = stderr.is_terminal();
        Self { colour: terminal && !objection, width: terminal.then(|| columns(&stderr)) }
    }

    /// Without colour, and as long as it is.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { colour: false, width: None }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn columns(terminal: &impl std::os::fd::AsFd) -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || terminal_size::terminal_size_of(terminal).map(|size| usize::from(size.0.0));
    let width = said.or_else(asked);
    width.filter(|width| *width >= LEAST_WIDTH).unwrap_or(WIDTH)
}

/// One error or warning with its place, the line that is meant, and what helps.
pub(super) fn text(severity: Severity, fault: &Fault, style: Style) -> String {
    let (label, colour) = match severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
    };
    let place = match fault.line {
        0 => String::new(),
        line => format!("{}:{line}:{}: ", fault.file, fault.column),
    };
    // A policy without an @id is called by its place, which stands there already.
    let called = |name: &&String| **name != format!("{}:{}", fault.file, fault.line);
    let name = fault.policy.as_ref().filter(called);
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    let head = format!("{place}{name}{}", fault.message);
    let mut text = format!("{}: {}\n", style.paint(colour, label), printable(&head));
    if fault.line > 0 && !fault.source_line.is_empty() {
        text.push_str(&source(fault, style, colour));
    }
    if let Some(help) = &fault.help {
        text.push_str(&format!("  {} {}\n", style.paint("1", "help:"), printable(help)));
    }
    text
}

/// The line and what is meant in it, cut to the terminal.
fn source(fault: &Fault, style: Style, colour: &str) -> String {
    let number = fault.line.to_string();
    let margin = " ".repeat(number.len());
    let room =
        style.width.map_or(usize::MAX, |width| width.saturating_sub(number.len() + 6).max(10));
    let skipped = if fault.offset + fault.width.min(room / 2) > room {
        fault.offset.saturating_sub(room / 3)
    } else {
        0
    };
    let line: String = printable(&fault.source_line).chars().skip(skipped).take(room).collect();
    let at = fault.offset - skipped;
    let marks = fault.width.min(room.saturating_sub(at)).max(1);
    let carets = style.paint(colour, &"^".repeat(marks));
    format!("  {number} | {line}\n  {margin} | {}{carets}\n", " ".repeat(at))
}

/// The same for programs.
pub(super) fn json(fault: &Fault) -> Value {
    json!({
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "width": fault.width,
        "source": fault.source_line,
        "policy": fault.policy,
        "message": fault.message,
        "help": fault.help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str, offset: usize) -> Fault {
        Fault {
            file: "a.cedar".to_owned(),
            line: 7,
            column: offset + 1,
            source_line: line.to_owned(),
            offset,
            width: 4,
            message: "no \x1b[31m such".to_owned(),
            help: Some("did you mean it?".to_owned()),
            policy: None,
        }
    }

    #[test]
    fn an_error_shows_its_place_its_line_and_what_helps() {
        let shown = text(Severity::Error, &fault("permit(what);", 7), Style::plain());
        assert_eq!(
            shown,
            "error: a.cedar:7:8: no \u{fffd}[31m such\n  7 | permit(what);\n    |        ^^^^\n  \
             help: did you mean it?\n"
        );
    }

    #[test]
    fn a_narrow_terminal_shows_the_part_that_is_meant() {
        let line = format!("{}what{}", "a".repeat(100), "b".repeat(100));
        for width in [20, 40, 80] {
            let style = Style { colour: false, width: Some(width) };
            let shown = text(Severity::Warning, &fault(&line, 100), style);
            let [_, source, mark, _] = shown.lines().collect::<Vec<_>>()[..] else { panic!() };
            assert!(source.chars().count() <= width, "{shown}");
            let at = mark.find('^').unwrap();
            assert_eq!(&source[at..at + 4], "what", "{shown}");
        }
    }
}
