//! Dotenv files, with references in their values.
//!
//! The syntax is what the common libraries agree on: `NAME=value`, `export`
//! before it, comments, three ways of quoting, values over several lines. Where
//! they differ and a guess could be wrong it is an error, which names the place
//! and never quotes the value.
//!
//! - `'…'` keeps everything as it is; `"…"` knows `\n \r \t \\ \" \$` and
//!   `` \` ``, and keeps other backslashes; an unquoted value ends at ` #` or at
//!   the end of the line, and knows `\$`.
//! - References stand in all three. `${` that begins none is refused, but for
//!   single quotes: other variables are not expanded.

use super::{Item, Mode, Origin, Others, Text, is_variable};
use crate::failure::Failure;
use crate::place::Source;
use std::collections::HashMap;
use std::path::Path;
use zeroize::Zeroizing;

/// The variables of a file, in its order.
pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Item>, Failure> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let source = Source::new(file, bytes);
    let mut reader = Reader { bytes, at: if bytes.starts_with(BOM) { BOM.len() } else { 0 } };
    let mut items: Vec<Item> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    while let Some(start) = reader.next_statement() {
        let (name, value) = reader.statement().map_err(|(at, why)| source.fault(at, why))?;
        let line = source.line(start);
        if let Some(first) = seen.insert(name.clone(), line) {
            return Err(source.fault(start, format!("{name} was set on line {first} already")));
        }
        let text = value.text().map_err(|(at, why)| source.fault(at, why))?;
        let origin = Origin::File { path: source.path(), line };
        items.push(Item { name, mode: Mode::Environment, text, origin });
    }
    Ok(items)
}

/// An offset in the file, and what is wrong there.
type Fault = (usize, String);

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A value without its quotes and escapes.
struct Value {
    bytes: Zeroizing<Vec<u8>>,
    /// For each byte, its offset in the file.
    from: Vec<usize>,
    /// Offsets in `bytes` of each `$` that is only itself.
    escaped: Vec<usize>,
    others: Others,
    end: usize,
}

impl<'a> Reader<'a> {
    /// Goes on to what is neither blank nor comment.
    fn next_statement(&mut self) -> Option<usize> {
        loop {
            match self.peek()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'#' => self.skip_line(),
                _ => return Some(self.at),
            }
        }
    }

    /// `[export] NAME = VALUE [# comment]`, up to the end of its line.
    fn statement(&mut self) -> Result<(String, Value), Fault> {
        let mut start = self.at;
        let mut name = self.word();
        if name == b"export" && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.skip_blanks();
            start = self.at;
            name = self.word();
        }
        let name = std::str::from_utf8(name).ok().filter(|name| is_variable(name));
        let name = name.map(str::to_owned);
        self.skip_blanks();
        if self.peek() != Some(b'=') {
            return Err((start, "this is neither NAME=value nor a # comment".to_owned()));
        }
        let name = name.ok_or_else(|| {
            (start, "a name has letters, digits and underscores, and no digit first".to_owned())
        })?;
        self.at += 1;
        self.skip_blanks();
        let value = match self.peek() {
            Some(b'\'') => self.single_quoted()?,
            Some(b'"') => self.double_quoted()?,
            Some(b'`') => {
                return Err((self.at, "a backquote does not quote here; use \" or '".to_owned()));
            }
            _ => return Ok((name, self.unquoted()?)),
        };
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n') => {}
            Some(b'\r') if self.bytes.get(self.at + 1) == Some(&b'\n') => {}
            Some(b'#') => self.skip_line(),
            Some(_) => {
                return Err((self.at, "only a # comment may follow the closing quote".to_owned()));
            }
        }
        Ok((name, value))
    }

    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        while !matches!(self.peek(), None | Some(b'=' | b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn single_quoted(&mut self) -> Result<Value, Fault> {
        let open = self.at;
        self.at += 1;
        let mut value = self.empty(Others::Kept);
        loop {
            match self.in_quotes(open)? {
                b'\'' => return Ok(value),
                b => value.push(b, self.at - 1),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<Value, Fault> {
        let open = self.at;
        self.at += 1;
        let mut value = self.empty(Others::Refused);
        loop {
            let from = self.at;
            match self.in_quotes(open)? {
                b'"' => return Ok(value),
                b'\\' => match self.in_quotes(open)? {
                    b'n' => value.push(b'\n', from),
                    b'r' => value.push(b'\r', from),
                    b't' => value.push(b'\t', from),
                    b @ (b'\\' | b'"' | b'`') => value.push(b, from),
                    b'$' => value.push_dollar(from),
                    b => {
                        value.push(b'\\', from);
                        value.push(b, self.at - 1);
                    }
                },
                b => value.push(b, self.at - 1),
            }
        }
    }

    fn unquoted(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        while !matches!(self.peek(), None | Some(b'\n')) {
            if self.peek() == Some(0) {
                return Err(zero(self.at));
            }
            let before = self.at.checked_sub(1).and_then(|at| self.bytes.get(at));
            if self.peek() == Some(b'#') && matches!(before, Some(b' ' | b'\t' | b'=')) {
                break;
            }
            self.at += 1;
        }
        let raw = self.bytes.get(start..self.at).unwrap_or_default().trim_ascii_end();
        self.skip_line();
        let mut value = self.empty(Others::Refused);
        let mut offset = 0;
        while let Some(&b) = raw.get(offset) {
            let from = start + offset;
            if b == b'\\' && raw.get(offset + 1) == Some(&b'$') {
                value.push_dollar(from);
                offset += 1;
            } else {
                value.push(b, from);
            }
            offset += 1;
        }
        value.end = start + raw.len();
        Ok(value)
    }

    /// The next byte of a quoted value; lines end in `\n` alone.
    fn in_quotes(&mut self, open: usize) -> Result<u8, Fault> {
        match self.peek() {
            None => Err((open, "this quote is never closed".to_owned())),
            Some(0) => Err(zero(self.at)),
            Some(b'\r') if self.bytes.get(self.at + 1) == Some(&b'\n') => {
                self.at += 2;
                Ok(b'\n')
            }
            Some(b) => {
                self.at += 1;
                Ok(b)
            }
        }
    }

    fn empty(&self, others: Others) -> Value {
        Value {
            bytes: Zeroizing::default(),
            from: Vec::new(),
            escaped: Vec::new(),
            others,
            end: self.at,
        }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.peek(), None | Some(b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

impl Value {
    fn push(&mut self, b: u8, from: usize) {
        self.bytes.push(b);
        self.from.push(from);
    }

    fn push_dollar(&mut self, from: usize) {
        self.escaped.push(self.bytes.len());
        self.push(b'$', from);
    }

    fn text(&self) -> Result<Text, Fault> {
        let escaped = |at: usize| self.escaped.binary_search(&at).is_ok();
        Text::value(&self.bytes, self.others, escaped).map_err(|error| {
            (self.from.get(error.at).copied().unwrap_or(self.end), error.to_string())
        })
    }
}

fn zero(at: usize) -> Fault {
    (at, "a zero byte, which no variable can hold".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let items = parse(Path::new(".env"), bytes).map_err(|failure| format!("{failure:?}"))?;
        let shown = |part: &Part| match part {
            Part::Literal(bytes) => bytes.to_vec(),
            Part::Field(want) => format!("<{want}>").into_bytes(),
        };
        Ok(items
            .iter()
            .map(|item| (item.name.clone(), item.text.parts().iter().flat_map(shown).collect()))
            .collect())
    }

    #[track_caller]
    fn one(text: &str) -> String {
        let items = read(text.as_bytes()).unwrap();
        let [(_, value)] = items.as_slice() else { panic!("{items:?}") };
        String::from_utf8(value.clone()).unwrap()
    }

    #[test]
    fn values_are_read_as_the_common_libraries_read_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A= b c \\t\\n", "b c \\t\\n"),
            ("  export  A = b", "b"),
            ("\u{feff}A=b\r\n", "b"),
            ("A=b # c", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A= # c", ""),
            ("A={\"a\": \"b\"}", "{\"a\": \"b\"}"),
            ("A=\"b # c\" # d", "b # c"),
            ("A='b\\n\"${X}$Y' ", "b\\n\"${X}$Y"),
            ("A=\"a\\nb\\t\\\"\\\\ \\d $x \\${jsi:a}\"", "a\nb\t\"\\ \\d $x ${jsi:a}"),
            ("A=\\${jsi:a} \\n $x pa$$word", "${jsi:a} \\n $x pa$$word"),
            ("A=\"one\r\n two\"\r\n", "one\n two"),
            ("A='one\ntwo'", "one\ntwo"),
            ("# c\n\n \t# d\nA=b", "b"),
            ("export=b", "b"),
            ("A=jsi:db/orders#password", "<db/orders#password>"),
            ("A=\"jsi:a\"", "<a>"),
            ("A='u:${jsi:a|urlencode}@h'", "u:<a|urlencode>@h"),
            ("A=u:${jsi:a}@h # c", "u:<a>@h"),
            ("A=\"$${jsi:a}\"", "${jsi:a}"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        assert!(read(b"").unwrap().is_empty());
        assert_eq!(read(b"A='\xff'").unwrap(), [("A".to_owned(), vec![0xff])]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place_and_not_quoted() {
        for (text, place) in [
            ("A=b\nHUNTER2", ".env:2:1"),
            ("export", ".env:1:1"),
            ("export A", ".env:1:8"),
            ("A-B=HUNTER2", ".env:1:1"),
            ("1A=HUNTER2", ".env:1:1"),
            ("A: HUNTER2", ".env:1:1"),
            ("=HUNTER2", ".env:1:1"),
            ("A=b\nA=HUNTER2", ".env:2:1"),
            ("A=\"HUNTER2", ".env:1:3"),
            ("A='x\nHUNTER2", ".env:1:3"),
            ("A='b'HUNTER2", ".env:1:6"),
            ("A=`HUNTER2`", ".env:1:3"),
            ("A=${HUNTER2}", ".env:1:3"),
            ("A=\"x\ny${HUNTER2}\"", ".env:2:2"),
            ("A=x${jsi:HUNTER2}", ".env:1:10"),
            ("A=\"\\n${jsi:HUNTER2\"", ".env:1:6"),
            ("A=jsi:HUNTER2", ".env:1:7"),
            ("A=jsi:", ".env:1:7"),
            ("A=b\0", ".env:1:4"),
            ("A='b\0'", ".env:1:5"),
        ] {
            let said = read(text.as_bytes()).unwrap_err();
            assert!(said.contains(&format!("{place}:")), "{text:?}: {said}");
            assert!(!said.contains("HUNTER2"), "{text:?}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_line_of_its_own_characters_makes_it_panic(
            text in "([A-C]=)?[ -~\n\r\"'`#$\\\\{}:a-cjsi|=]{0,60}"
        ) {
            let _ = read(text.as_bytes());
        }

        #[test]
        fn single_quotes_keep_every_value_that_has_none(value in "[^'\0\r]{0,80}") {
            prop_assume!(!value.contains("${jsi:") && !value.starts_with("jsi:"));
            let text = format!("A='{value}'");
            prop_assert_eq!(one(&text), value);
        }

        #[test]
        fn what_jsi_get_writes_is_read_back(value in "[^\0]{0,80}") {
            prop_assume!(!value.starts_with("jsi:"));
            let mut text = String::from("A=\"");
            for c in value.chars() {
                match c {
                    '"' | '\\' | '$' | '`' => text.extend(['\\', c]),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    c => text.push(c),
                }
            }
            text.push('"');
            prop_assert_eq!(one(&text), value);
        }
    }
}
