//! Places in policy files, and what is wrong or doubtful there.

use cedar_policy::ffi::DetailedError;
use std::fmt;

/// Characters of a source line that are shown: a policy on one line of a
/// megabyte is not printed whole.
const MAX_SHOWN: usize = 160;
/// Of those, before the place that is meant.
const BEFORE: usize = 60;

/// One thing that is wrong with a policy file, or worth a second look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// That line of the file, shortened around the place.
    pub source_line: String,
    /// Where the place is in `source_line`, from 0, in characters.
    pub offset: usize,
    /// How many characters are meant; at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What helps; `None`: the message says it.
    pub help: Option<String>,
    /// The policy's name, where it is about one that could be read.
    pub policy: Option<String>,
}

impl Fault {
    /// The file as a whole.
    pub(super) fn of_file(file: String, message: String) -> Self {
        Self { file, message, width: 1, ..Self::default() }
    }

    /// Without the source: the policy's name, or the place, in front.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let Self { file, line, column, message, policy, .. } = self;
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        match policy {
            Some(name) => format!("{name}: {message}{help}"),
            None if *line == 0 => format!("{message}{help}"),
            None => format!("{file}:{line}:{column}: {message}{help}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, source_line, offset, width, message, .. } = self;
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        if *line == 0 {
            return write!(f, "{message}{help}");
        }
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "{file}:{line}:{column}: {message}{help}")?;
        writeln!(f, "  {line} | {source_line}")?;
        write!(f, "  {margin} | {}{}", " ".repeat(*offset), "^".repeat(*width))
    }
}

/// A text, with where its lines begin: faults of ten thousand policies are
/// placed without reading it anew for each.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { file, text, lines }
    }

    /// Cedar's own error, at its place.
    pub(super) fn cedar(&self, error: &DetailedError) -> Fault {
        let span = error.source_locations.first().map(|label| label.loc);
        let (start, end) = span.map_or((0, 1), |span| (span.start, span.end));
        let mut message = error.message.clone();
        let label = error.source_locations.first().and_then(|label| label.label.as_deref());
        if let Some(label) = label.filter(|label| !message.contains(*label)) {
            message.push_str(&format!(": {label}"));
        }
        let meant = self.text.get(start..end);
        let width = meant.map_or(1, |it| it.lines().next().unwrap_or("").chars().count());
        Fault { message, help: error.help.clone(), ..self.place(start, width) }
    }

    /// A place without a message yet.
    pub(super) fn place(&self, at: usize, width: usize) -> Fault {
        let mut at = at.min(self.text.len());
        // An error at the end of the text is shown behind its last word.
        if at == self.text.len() {
            at = self.text.trim_end().len();
        }
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let rest = self.text.get(start..).unwrap_or_default();
        let column = self.text.get(start..at).unwrap_or_default().chars().count();
        let (source_line, offset) = shortened(rest.lines().next().unwrap_or_default(), column);
        let room = source_line.chars().count().saturating_sub(offset).max(1);
        Fault {
            file: self.file.to_owned(),
            line,
            column: column + 1,
            source_line,
            offset,
            width: width.clamp(1, room),
            ..Fault::default()
        }
    }
}

/// As much of a line as is shown, and where the place is in it. Tabs become
/// blanks, so that the mark stands below what it means.
fn shortened(line: &str, column: usize) -> (String, usize) {
    let blank = |c: char| if c == '\t' { ' ' } else { c };
    let skipped = if column > MAX_SHOWN - BEFORE { column - BEFORE } else { 0 };
    let mut shown: String = line.chars().skip(skipped).take(MAX_SHOWN).map(blank).collect();
    if line.chars().count() > skipped + MAX_SHOWN {
        shown.push('…');
    }
    if skipped > 0 { (format!("…{shown}"), column - skipped + 1) } else { (shown, column) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_lines_with_tabs_and_other_scripts() {
        let text = "one\n\täö x\nlast";
        let source = Source::new("a", text);
        let fault = source.place(text.find('x').unwrap(), 1);
        assert_eq!((fault.line, fault.column, fault.offset), (2, 5, 4));
        assert_eq!(fault.source_line, " äö x");
        // In the middle of a character, at the end, and beyond it.
        assert_eq!(source.place(text.find('ö').unwrap() + 1, 1).column, 3);
        assert_eq!(source.place(text.len(), 1).line, 3);
        assert_eq!(source.place(9_999, 1).line, 3);
        assert_eq!(Source::new("a", "").place(0, 1).line, 1);
    }

    #[test]
    fn a_line_of_a_megabyte_is_not_shown_whole() {
        let text = format!("{}x{}", "a".repeat(500_000), "b".repeat(500_000));
        let fault = Source::new("a", &text).place(500_000, 1_000);
        assert_eq!(fault.source_line.chars().nth(fault.offset), Some('x'));
        assert!(fault.to_string().chars().count() < 600 && fault.column == 500_001);
    }
}
