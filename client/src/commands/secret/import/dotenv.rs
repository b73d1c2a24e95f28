//! dotenv files, read by the rules that shells and dotenv libraries share.
//!
//! `NAME=value`, `export NAME=value`, blank lines and `#` comments. A value without
//! quotes ends at the line's end or at a `#` in front or behind a blank, and knows `\$`. Between single quotes
//! everything is as it is written; between double quotes `\n \r \t \\ \" \$` and
//! `` \` `` mean what they mean to dotenv libraries, and any other backslash is itself. Quoted
//! values may have several lines, whose CRLF become LF. Nothing is expanded.

use super::item::{Fault, Found, Item};
use crate::commands::secret::input::{Filled, ONLY_FIELD};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The variables of a file, in its order, and what is wrong in it. A fault in one
/// line leaves the others as they are.
pub(super) fn parse(text: &[u8]) -> Vec<Found> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader { text, at: 0, line: 1, torn: false };
    let mut lines: Vec<Line> = Vec::new();
    while let Some(line) = reader.next_line() {
        lines.push(line);
    }
    for at in 1..lines.len() {
        let torn = lines.get(at).filter(|line| line.name.is_none()).map(|line| line.number);
        if let (Some(torn), Some(before)) = (torn, lines.get_mut(at - 1))
            && before.number + 1 == torn
            && before.value.as_ref().is_ok_and(|value| value.bare)
        {
            let why = format!("it seems to go on in line {torn}: put all of it in quotes");
            before.value = Err(why);
        }
    }
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in &lines {
        if let Some(name) = &line.name {
            places.entry(name.clone()).or_default().push(line.number);
        }
    }
    let mut found = Vec::new();
    for line in lines {
        let twice = line.name.as_ref().and_then(|name| places.get(name)).filter(|at| at.len() > 1);
        match twice {
            None => found.push(line.found()),
            // Told once, where it stands first.
            Some(at) if at.first() == Some(&line.number) => {
                let at: Vec<_> = at.iter().map(ToString::to_string).collect();
                let why = format!("it stands in lines {}: keep one of them", at.join(" and "));
                found.push(Err(Fault::failed(line.shown(), why)));
            }
            Some(_) => {}
        }
    }
    found
}

/// One assignment, or what stands in its place.
struct Line {
    number: usize,
    name: Option<String>,
    value: Result<Value, String>,
}

struct Value {
    bytes: Zeroizing<Vec<u8>>,
    /// There is a `$` in it that a shell would act on.
    expands: bool,
    /// It stood in no quotes.
    bare: bool,
}

impl Line {
    fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("line {}", self.number))
    }

    fn found(self) -> Found {
        let source = self.shown();
        let failed = |why: &str| Err(Fault::failed(source.clone(), why));
        let Value { bytes, expands, .. } = match self.value {
            Ok(value) => value,
            Err(why) => return failed(&why),
        };
        if bytes.contains(&0) {
            return failed("its value has a NUL byte, which no variable can have");
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return failed("its value is not UTF-8; keep it as base64 in a JSON file");
        };
        if text.contains("${jsi:") {
            return Err(Fault::skipped(source, "it refers to a stored credential already"));
        }
        let mut item = Item::new(source, Vec::new());
        if expands {
            item.warning = Some(format!(
                "line {}: what stands behind '$' in {} is not expanded",
                self.number, item.source
            ));
        }
        let name = ONLY_FIELD.to_owned();
        item.fields.push(Filled { name, value: bytes, sensitive: true, is_default: true });
        Ok(item)
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    /// The line before was none, and perhaps a part of a value.
    torn: bool,
}

impl Reader<'_> {
    /// The next assignment or fault; `None` at the end.
    fn next_line(&mut self) -> Option<Line> {
        loop {
            self.skip_blanks();
            match self.peek()? {
                b'\n' | b'\r' | b'#' => self.skip_line(),
                _ => break,
            }
        }
        let number = self.line;
        let name = self.name();
        self.skip_blanks();
        let (Some(name), Some(b'=')) = (name, self.peek()) else {
            // Perhaps a part of a value: not even its first word is shown.
            self.skip_line();
            self.torn = true;
            let why = "it is neither NAME=value nor a comment; a value of several lines stands in \
                       quotes";
            return Some(Line { number, name: None, value: Err(why.to_owned()) });
        };
        self.at += 1;
        self.skip_blanks();
        let value = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote),
            Some(b'`') => {
                self.skip_line();
                Err("a backquote does not quote here; use \" or '".to_owned())
            }
            _ => Ok(self.bare()),
        };
        // The end of base64 looks like a name with an empty value behind it.
        let torn = std::mem::take(&mut self.torn)
            && value.as_ref().is_ok_and(|value| value.bytes.iter().all(|b| *b == b'='));
        let name = (!torn).then_some(name);
        let value = if torn {
            Err("it looks like the end of a value that stands in no quotes".to_owned())
        } else {
            value
        };
        Some(Line { number, name, value })
    }

    /// A name, with `export` in front or without.
    fn name(&mut self) -> Option<String> {
        let name = self.word()?;
        if name == "export" && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.skip_blanks();
            return self.word();
        }
        Some(name)
    }

    fn word(&mut self) -> Option<String> {
        let begin = self.at;
        if !self.peek().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') {
            return None;
        }
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            self.at += 1;
        }
        Some(String::from_utf8_lossy(self.text.get(begin..self.at)?).into_owned())
    }

    /// A value without quotes.
    fn bare(&mut self) -> Value {
        let begin = self.at;
        let rest = self.text.get(begin..).unwrap_or_default();
        let len = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        let line = rest.get(..len).unwrap_or_default();
        let comment = (0..line.len()).find(|at| {
            let before = at.checked_sub(1).and_then(|at| line.get(at));
            line.get(*at) == Some(&b'#') && before.is_none_or(|b| matches!(b, b' ' | b'\t'))
        });
        let value = line.get(..comment.unwrap_or(len)).unwrap_or_default().trim_ascii_end();
        self.skip_line();
        let mut bytes = Zeroizing::new(Vec::with_capacity(value.len()));
        let mut expanding = false;
        for (at, byte) in value.iter().enumerate() {
            let dollar = *byte == b'\\' && value.get(at + 1) == Some(&b'$');
            let literal = at.checked_sub(1).and_then(|at| value.get(at)) == Some(&b'\\');
            expanding |= !literal && begins_expansion(value.get(at..).unwrap_or_default());
            if !dollar {
                bytes.push(*byte);
            }
        }
        Value { expands: expanding, bytes, bare: true }
    }

    fn quoted(&mut self, quote: u8) -> Result<Value, String> {
        let begun = self.line;
        self.at += 1;
        let rest = self.text.len() - self.at.min(self.text.len());
        // As long as it can get: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(rest.min(self.ahead(quote))));
        let mut expanding = false;
        loop {
            let Some(byte) = self.peek() else {
                return Err(format!(
                    "the quote that begins in line {begun} is never closed: nothing behind it was read"
                ));
            };
            self.at += 1;
            match byte {
                _ if byte == quote => break,
                b'\\' if quote == b'"' => match self.peek().map(|next| (next, escaped(next))) {
                    Some((_, Some(meant))) => {
                        bytes.push(meant);
                        self.at += 1;
                    }
                    _ => bytes.push(b'\\'),
                },
                b'\r' if self.peek() == Some(b'\n') => {}
                _ => {
                    self.line += usize::from(byte == b'\n');
                    let here = self.text.get(self.at - 1..).unwrap_or_default();
                    expanding |= quote == b'"' && begins_expansion(here);
                    bytes.push(byte);
                }
            }
        }
        self.skip_blanks();
        let clear = matches!(self.peek(), None | Some(b'\n' | b'\r' | b'#'));
        self.skip_line();
        if clear {
            Ok(Value { bytes, expands: expanding, bare: false })
        } else {
            Err("there is text behind its closing quote".to_owned())
        }
    }

    /// How far the next quote that may close it is.
    fn ahead(&self, quote: u8) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut escaped = false;
        let end = rest.iter().position(|byte| {
            let closes = *byte == quote && !escaped;
            escaped = quote == b'"' && *byte == b'\\' && !escaped;
            closes
        });
        end.unwrap_or(rest.len())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// To the beginning of the next line.
    fn skip_line(&mut self) {
        while let Some(byte) = self.peek() {
            self.at += 1;
            if byte == b'\n' {
                self.line += 1;
                break;
            }
        }
    }
}

fn escaped(letter: u8) -> Option<u8> {
    Some(match letter {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'\\' | b'"' | b'$' | b'`' => letter,
        _ => return None,
    })
}

/// `$NAME`, `${…}` or `$(…)`.
fn begins_expansion(text: &[u8]) -> bool {
    let next = text.get(1).copied();
    text.first() == Some(&b'$')
        && next.is_some_and(|b| b.is_ascii_alphabetic() || b"_{(".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &[u8]) -> Vec<(String, Vec<u8>)> {
        let found = parse(text).into_iter().filter_map(Result::ok);
        found.map(|item| (item.source, item.fields[0].value.to_vec())).collect()
    }

    fn faults(text: &[u8]) -> Vec<(String, String)> {
        let found = parse(text).into_iter().filter_map(Result::err);
        found.map(|fault| (fault.source, fault.why)).collect()
    }

    fn value(text: &[u8]) -> Vec<u8> {
        let all = values(text);
        assert_eq!(all.len(), 1, "{:?}", faults(text));
        all[0].1.clone()
    }

    #[test]
    fn lines_are_read_as_shells_and_dotenv_libraries_read_them() {
        for (line, meant) in [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("  export\tA = b  ", "b"),
            ("A=b # comment", "b"),
            ("A=b#not a comment", "b#not a comment"),
            ("A=#a comment", ""),
            ("A=x\\$HOME\\n", "x$HOME\\n"),
            ("A= # nothing but a comment", ""),
            ("A=", ""),
            ("A=b c", "b c"),
            ("A=\"b # c\" # comment", "b # c"),
            ("A=\"b\\n\\tc\\\\\\\"\\$d\\e\"", "b\n\tc\\\"$d\\e"),
            ("A='b\\n\"$c' # comment", "b\\n\"$c"),
            ("A=\"b\nc\r\nd\"", "b\nc\nd"),
            ("A='b\nc'", "b\nc"),
            ("A=b\r", "b"),
            ("\u{feff}A=b", "b"),
            ("# A=x\n\n   \nA=b\n", "b"),
            ("A=postgres://u:p@h/db?x=y", "postgres://u:p@h/db?x=y"),
        ] {
            assert_eq!(value(line.as_bytes()), meant.as_bytes(), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_leaves_the_others() {
        let text = b"A='1'\nnonsense\nB='x' y\nC=2\nD\nE=\"open\nF=3\n";
        assert_eq!(values(text).len(), 1);
        let faults = faults(text);
        let sources: Vec<_> = faults.iter().map(|(source, _)| source.as_str()).collect();
        assert_eq!(sources, ["line 2", "B", "C", "line 5", "E"]);
        assert!(faults[4].1.contains("line 6"), "{faults:?}");
    }

    #[test]
    fn what_may_be_a_part_of_a_value_is_not_shown_as_a_name() {
        let text = b"KEY=-----BEGIN PRIVATE KEY-----\nMIIEvQ/IBAD+AN\nhunter2==\nB=2\n";
        let faults = faults(text);
        let sources: Vec<_> = faults.iter().map(|(source, _)| source.as_str()).collect();
        assert_eq!(sources, ["KEY", "line 2", "line 3"]);
        assert!(faults.iter().all(|(_, why)| !why.contains("MIIE") && !why.contains("hunter2")));
        assert_eq!(values(text).len(), 1);
    }

    #[test]
    fn a_name_that_is_there_twice_is_an_error_that_names_both_lines() {
        let text = b"A=1\nB=2\nA=3\n";
        assert_eq!(values(text).len(), 1);
        let faults = faults(text);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].1.contains("lines 1 and 3"), "{faults:?}");
    }

    #[test]
    fn nothing_is_expanded_and_that_is_said() {
        let warned = |line: &str| {
            let found = parse(line.as_bytes()).remove(0).ok().unwrap();
            found.warning.is_some()
        };
        for line in ["A=$HOME", "A=\"x${B}\"", "A=$(date)"] {
            assert!(warned(line), "{line}");
        }
        for line in ["A='$HOME'", "A=\"\\$HOME\"", "A=pa$", "A=5$5"] {
            assert!(!warned(line), "{line}");
        }
        assert_eq!(value(b"A=\"x${B}\""), b"x${B}");
    }

    #[test]
    fn what_no_variable_can_hold_is_refused_without_being_shown() {
        for text in [&b"A=hunter2\0"[..], b"A=\"hunter2\xff\""] {
            let faults = faults(text);
            assert_eq!(faults.len(), 1);
            assert!(!faults[0].1.contains("hunter2"));
        }
        let reference = parse(b"A=postgres://${jsi:db/orders}").remove(0).err().unwrap();
        assert!(!reference.failed);
    }

    /// As a careful program would write it.
    fn written(value: &str) -> String {
        let mut text = String::from("\"");
        for c in value.chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '"' | '\\' | '$' => text.extend(['\\', c]),
                c => text.push(c),
            }
        }
        text + "\""
    }

    proptest! {
        #[test]
        fn every_value_comes_back_from_what_was_written(
            values in proptest::collection::vec("[^\\x00]{0,40}", 1..6),
            crlf in any::<bool>(),
            export in any::<bool>(),
        ) {
            prop_assume!(values.iter().all(|value| !value.contains("${jsi:")));
            let end = if crlf { "\r\n" } else { "\n" };
            let prefix = if export { "export " } else { "" };
            let text: String = values
                .iter()
                .enumerate()
                .map(|(at, value)| format!("{prefix}N{at}={} # note{end}", written(value)))
                .collect();
            let read = super::tests::values(text.as_bytes());
            prop_assert_eq!(read.len(), values.len());
            for ((_, read), value) in read.iter().zip(&values) {
                prop_assert_eq!(read.as_slice(), value.as_bytes());
            }
        }

        #[test]
        fn nothing_that_is_read_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_single_quoted_value_is_what_stands_between_the_quotes(value in "[^'\\r\\x00]{0,60}") {
            prop_assume!(!value.contains("${jsi:"));
            prop_assert_eq!(super::tests::value(format!("A='{value}'\n").as_bytes()), value.as_bytes());
        }
    }
}
