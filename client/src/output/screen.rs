//! The terminal that is printed to: its width, its characters, its colours.

use clap::ValueEnum;
use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, stdout};
use std::sync::OnceLock;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a terminal that does not say how many it has.
const USUAL_COLUMNS: usize = 80;
/// Narrower than that nothing is laid out; lines break where they break.
const FEWEST_COLUMNS: usize = 10;

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR or TERM=dumb object
    Auto,
    /// Also into pipes
    Always,
    /// Never
    Never,
}

/// Said once, by the command line, before anything is printed.
static COLOUR: OnceLock<When> = OnceLock::new();

/// What `--color` said.
pub(crate) fn set_colour(when: When) {
    let _ = COLOUR.set(when); // it is set once
}

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns; `None`: it is no terminal, and nothing is shortened.
    pub(crate) columns: Option<usize>,
    /// Lines.
    pub(crate) lines: usize,
    /// Characters beyond ASCII are shown.
    pub(crate) unicode: bool,
    /// The cursor can be moved.
    pub(crate) moves: bool,
}

impl Screen {
    /// Standard output as it is now: terminals change their size.
    pub(crate) fn now() -> Self {
        let terminal = stdout().is_terminal();
        let size = terminal_size::terminal_size_of(stdout());
        let said = |name| env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
        let known = |number: u16| (number > 0).then_some(usize::from(number));
        let columns = size.and_then(|(columns, _)| known(columns.0)).or_else(|| said("COLUMNS"));
        let lines = size.and_then(|(_, lines)| known(lines.0)).or_else(|| said("LINES"));
        Self {
            columns: terminal.then(|| columns.unwrap_or(USUAL_COLUMNS).max(FEWEST_COLUMNS)),
            lines: lines.unwrap_or(24),
            unicode: !terminal || is_utf8(&|name| env::var_os(name)),
            moves: terminal && !is_dumb(env::var_os("TERM")),
        }
    }

    /// What stands for what was left out.
    pub(crate) fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { ".." }
    }

    /// Text as this screen can show it.
    pub(crate) fn shown(self, text: &str) -> String {
        let shown = |c: char| match c {
            c if c.is_ascii() && !super::moves(c) => c,
            c if self.unicode && !super::moves(c) => c,
            _ if self.unicode => '\u{fffd}',
            _ => '?',
        };
        text.chars().map(shown).collect()
    }
}

/// By locale(7): LC_ALL, else LC_CTYPE, else LANG.
fn is_utf8(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn is_dumb(term: Option<OsString>) -> bool {
    term.is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Columns that text takes on a terminal: wide characters take two, combining
/// ones none.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Text in at most that many columns; what is left out is in its middle, since
/// digests, paths and IDs differ at their ends.
pub(crate) fn fit(text: &str, columns: usize, ellipsis: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(width(ellipsis)) else {
        return take(text.chars(), columns);
    };
    let tail: String = take(text.chars().rev(), room / 2).chars().rev().collect();
    let head = take(text.chars(), room - width(&tail));
    format!("{head}{ellipsis}{tail}")
}

fn take(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| {
        let wide = UnicodeWidthChar::width(*c).unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    characters.take_while(fits).collect()
}

/// Colours text where the stream is a terminal and nobody objects.
pub(crate) fn paint(stream: &impl IsTerminal, colour: &str, text: &str) -> String {
    let wanted = COLOUR.get().copied().unwrap_or(When::Auto);
    if coloured(wanted, stream.is_terminal(), &|name| env::var_os(name)) {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The flag decides, then NO_COLOR (no-color.org), then CLICOLOR_FORCE and
/// CLICOLOR (bixense.com/clicolors), then the terminal.
fn coloured(when: When, terminal: bool, variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto if set("NO_COLOR").is_some() => false,
        When::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        When::Auto => {
            terminal && !is_dumb(variable("TERM")) && set("CLICOLOR").is_none_or(|v| v != "0")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
    }

    #[test]
    fn colour_is_for_terminals_unless_somebody_says_otherwise() {
        let xterm = ("TERM", "xterm");
        for (when, terminal, vars, wanted) in [
            (When::Auto, true, &[xterm][..], true),
            (When::Auto, false, &[xterm], false),
            (When::Auto, true, &[], false),
            (When::Auto, true, &[("TERM", "dumb")], false),
            (When::Auto, true, &[xterm, ("NO_COLOR", "1")], false),
            (When::Auto, true, &[xterm, ("NO_COLOR", "")], true),
            (When::Auto, false, &[xterm, ("CLICOLOR_FORCE", "1")], true),
            (When::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (When::Auto, false, &[xterm, ("CLICOLOR_FORCE", "0")], false),
            (When::Auto, true, &[xterm, ("CLICOLOR", "0")], false),
            (When::Always, false, &[("NO_COLOR", "1")], true),
            (When::Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            assert_eq!(coloured(when, terminal, &with(vars)), wanted, "{when:?} {vars:?}");
        }
    }

    #[test]
    fn the_locale_says_whether_characters_are_shown() {
        for (vars, utf8) in [
            (&[("LANG", "C.UTF-8")][..], true),
            (&[("LANG", "de_DE.utf8")], true),
            (&[("LANG", "C")], false),
            (&[], false),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
        ] {
            assert_eq!(is_utf8(&with(vars)), utf8, "{vars:?}");
        }
    }

    #[test]
    fn text_is_shortened_in_its_middle_by_columns() {
        assert_eq!(fit("abcdefghij", 10, "…"), "abcdefghij");
        assert_eq!(fit("abcdefghij", 7, "…"), "abc…hij");
        assert_eq!(fit("abcdefghij", 7, ".."), "abc..ij");
        assert_eq!(fit("abcdefghij", 1, ".."), "a");
        assert_eq!(fit("abc", 0, "…"), "");
        // Each of these takes two columns.
        assert_eq!(fit("日本語日本語", 7, "…"), "日本…語");
        assert!(width(&fit("日本語日本語", 6, "…")) <= 6);
        // Combining marks stay with what they follow at the head.
        assert_eq!(width("e\u{301}"), 1);
        assert!(width(&fit(&"e\u{301}".repeat(20), 9, "…")) <= 9);
    }

    #[test]
    fn what_a_screen_cannot_show_is_replaced() {
        let screen = Screen { columns: None, lines: 24, unicode: true, moves: false };
        assert_eq!(screen.shown("a\x1bö"), "a\u{fffd}ö");
        let ascii = Screen { unicode: false, ..screen };
        assert_eq!(ascii.shown("a\x1bö"), "a??");
    }
}
