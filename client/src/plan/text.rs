//! A value that is to be put together: literal bytes and fields of credentials.
//!
//! `${jsi:db/orders#password}` stands for a field, `${jsi:db/orders#password|urlencode}`
//! for a field that goes through a filter, and `$${jsi:` for the literal `${jsi:`.
//! A value that begins with `jsi:` is a single field and nothing else.

use super::Want;
use super::filter::{self, Filter};
use jsi_client::Reference;
use zeroize::Zeroizing;

/// What begins a value that is a single reference.
const WHOLE: &[u8] = b"jsi:";
/// What begins a reference inside a value.
const OPEN: &[u8] = b"${jsi:";

/// The parts of a value, in their order.
#[derive(Default)]
pub(crate) struct Text {
    parts: Vec<Part>,
}

/// A piece of a value.
pub(crate) enum Part {
    /// As it is. A file may hold what should not be in it, so it is wiped too.
    Literal(Zeroizing<Vec<u8>>),
    /// A field of a credential.
    Field(Want),
}

/// What `${` means where it begins no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// Itself: the text belongs to somebody who has a use for it.
    Kept,
    /// A mistake: nothing else is expanded here, and whoever wrote it thought so.
    Refused,
}

/// Why a text is refused. Never quotes it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct TextError {
    /// Offset in the text, in bytes.
    pub(crate) at: usize,
    why: String,
}

impl Text {
    /// One field and nothing round it.
    pub(crate) fn field(reference: Reference) -> Self {
        Self { parts: vec![Part::Field(Want::new(reference))] }
    }

    /// One field as a reference with filters names it: `db/orders#password|base64`.
    pub(crate) fn reference(body: &str) -> Result<Self, TextError> {
        Ok(Self { parts: vec![Part::Field(want(body.as_bytes(), 0)?)] })
    }

    /// A value as it stands in a file or on the command line: a single
    /// reference where it begins with `jsi:`, else text with references in it.
    /// A `$` at an offset that is `escaped` is only itself.
    pub(crate) fn value(
        text: &[u8],
        others: Others,
        escaped: impl Fn(usize) -> bool,
    ) -> Result<Self, TextError> {
        match text.strip_prefix(WHOLE) {
            Some(body) => Ok(Self { parts: vec![Part::Field(want(body, WHOLE.len())?)] }),
            None => Self::parse(text, others, escaped),
        }
    }

    /// Text with references in it.
    pub(crate) fn parse(
        text: &[u8],
        others: Others,
        escaped: impl Fn(usize) -> bool,
    ) -> Result<Self, TextError> {
        let mut parts = Vec::new();
        let mut literal = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let rest = text.get(at..).unwrap_or_default();
            let plain = byte != b'$' || escaped(at);
            if plain {
                literal.push(byte);
                at += 1;
            } else if rest.starts_with(b"$${") {
                let kept = rest.get(1..).is_some_and(|rest| rest.starts_with(OPEN));
                // `$${` is `${` where nothing is expanded but references.
                let eaten = others == Others::Refused || kept;
                literal.extend_from_slice(if eaten { b"${" } else { b"$${" });
                at += 3;
            } else if rest.starts_with(OPEN) {
                let start = at + OPEN.len();
                let body = text.get(start..).unwrap_or_default();
                let Some(length) = body.iter().position(|&b| b == b'}' || b == b'\n') else {
                    return Err(unclosed(at));
                };
                if body.get(length) != Some(&b'}') {
                    return Err(unclosed(at));
                }
                if !literal.is_empty() {
                    parts.push(Part::Literal(Zeroizing::new(literal.to_vec())));
                    literal.clear();
                }
                parts.push(Part::Field(want(body.get(..length).unwrap_or_default(), start)?));
                at = start + length + 1;
            } else if rest.starts_with(b"${") && others == Others::Refused {
                return Err(TextError {
                    at,
                    why: "only ${jsi:…} is expanded here; write $${ for a literal ${".into(),
                });
            } else {
                literal.push(byte);
                at += 1;
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(Zeroizing::new(literal.to_vec())));
        }
        Ok(Self { parts })
    }

    /// The parts.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The fields among them.
    pub(crate) fn wants(&self) -> impl Iterator<Item = &Want> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(want) => Some(want),
            Part::Literal(_) => None,
        })
    }

    /// The fields among them, to be changed.
    pub(crate) fn wants_mut(&mut self) -> impl Iterator<Item = &mut Want> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Field(want) => Some(want),
            Part::Literal(_) => None,
        })
    }
}

fn unclosed(at: usize) -> TextError {
    TextError { at, why: "a reference is not closed: ${jsi:… needs a } on its line".into() }
}

/// `db/orders#password|urlencode`.
fn want(body: &[u8], at: usize) -> Result<Want, TextError> {
    let fault = |why: String| TextError { at, why };
    let body = std::str::from_utf8(body)
        .map_err(|_| fault("a reference has bytes that are no UTF-8".into()))?;
    let mut words = body.split('|');
    let reference: Reference = words
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|error| fault(format!("this is no reference: {error}")))?;
    let filters: Option<Vec<Filter>> = words.map(Filter::named).collect();
    let filters = filters
        .ok_or_else(|| fault(format!("there is no such filter; there are {}", filter::NAMES)))?;
    Ok(Want { filters, ..Want::new(reference) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, others: Others) -> Result<String, TextError> {
        let text = Text::value(text.as_bytes(), others, |_| false)?;
        let part = |part: &Part| match part {
            Part::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Part::Field(want) => format!("<{}{:?}>", want.reference, want.filters),
        };
        Ok(text.parts().iter().map(part).collect())
    }

    #[test]
    fn references_stand_anywhere_in_a_text() {
        for (given, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("jsi:db/orders", "<db/orders[]>"),
            ("jsi:db/orders#a|base64", "<db/orders#a[Base64]>"),
            ("${jsi:a}", "<a[]>"),
            ("u:${jsi:a#u}@${jsi:a#p|urlencode|base64}/", "u:<a#u[]>@<a#p[UrlEncode, Base64]>/"),
            ("$${jsi:a}", "${jsi:a}"),
            ("$$ $x $ {jsi:a} pa$$word$", "$$ $x $ {jsi:a} pa$$word$"),
            ("$${x}", "${x}"),
            ("$$${jsi:a}", "$${jsi:a}"),
            ("xjsi:a", "xjsi:a"),
        ] {
            assert_eq!(shown(given, Others::Refused).unwrap(), expected, "{given}");
        }
        // A template keeps what its own program will expand.
        assert_eq!(shown("${x} $${x} ${jsi:a}", Others::Kept).unwrap(), "${x} $${x} <a[]>");
        assert_eq!(shown("$${jsi:a}", Others::Kept).unwrap(), "${jsi:a}");
    }

    #[test]
    fn malformed_references_are_refused_where_they_stand_and_not_quoted() {
        for (given, at) in [
            ("jsi:", 4),
            ("jsi:HUNTER2", 4),
            ("ab${jsi:HUNTER2}", 8),
            ("ab${jsi:a#}", 8),
            ("ab${jsi:a", 2),
            ("ab${jsi:a\n}", 2),
            ("ab${jsi:a|HUNTER2}", 8),
            ("ab${jsi:a|}", 8),
            ("ab${HUNTER2}", 2),
            ("ab${", 2),
            ("ab${jsi: a}", 8),
        ] {
            let error = shown(given, Others::Refused).unwrap_err();
            assert_eq!(error.at, at, "{given}");
            assert!(!error.to_string().contains("HUNTER2"), "{error}");
        }
    }

    #[test]
    fn an_escaped_dollar_begins_nothing() {
        let text = Text::value(b"${jsi:a}${jsi:b}", Others::Refused, |at| at == 0).unwrap();
        assert_eq!(text.wants().count(), 1);
    }
}
