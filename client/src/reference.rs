//! `db/orders#password`: a credential and one of its fields.

use std::fmt;
use std::str::FromStr;

/// Longest credential name, in bytes; the agent's own limit.
const MAX_NAME_LEN: usize = 128;
/// Most parts of a credential name; the agent's own limit.
const MAX_PARTS: usize = 8;
/// Longest field name, in bytes; the agent's own limit.
const MAX_FIELD_LEN: usize = 64;

/// A credential and, where one is named, a field of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The credential's name.
    pub credential: String,
    /// The field; `None`: the default one.
    pub field: Option<String>,
}

/// Why a reference is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; write it as db/orders or db/orders#password")]
pub struct ReferenceError {
    why: &'static str,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (credential, field) = match text.split_once('#') {
            None => (text, None),
            Some((credential, field)) => (credential, Some(field_name(field)?)),
        };
        Ok(Self { credential: credential_name(credential)?, field })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.credential)?;
        match &self.field {
            Some(field) => write!(f, "#{field}"),
            None => Ok(()),
        }
    }
}

/// Checks a credential's name by the agent's rules: parts of lower-case
/// letters, digits, `-`, `_` and `.`, joined by `/`.
///
/// # Errors
/// Says which rule is broken.
pub fn credential_name(text: &str) -> Result<String, ReferenceError> {
    let fault = |why| Err(ReferenceError { why });
    if text.is_empty() {
        return fault("the name is empty");
    }
    if text.len() > MAX_NAME_LEN {
        return fault("the name is longer than 128 bytes");
    }
    if text.split('/').count() > MAX_PARTS {
        return fault("the name has more than 8 parts");
    }
    for part in text.split('/') {
        match part.bytes().next() {
            None => return fault("a part of the name is empty"),
            Some(b) if b.is_ascii_lowercase() || b.is_ascii_digit() => {}
            Some(_) => {
                return fault("each part of the name begins with a lower-case letter or a digit");
            }
        }
        if !part.bytes().all(|b| plain(b) || b == b'.') {
            return fault("the name has a character other than a-z, 0-9, '-', '_', '.' and '/'");
        }
    }
    Ok(text.to_owned())
}

/// Checks a field's name: 1 to 64 lower-case letters, digits, `-` and `_`.
///
/// # Errors
/// Says which rule is broken.
pub fn field_name(text: &str) -> Result<String, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError { why: "the field's name is empty" });
    }
    if text.len() > MAX_FIELD_LEN {
        return Err(ReferenceError { why: "the field's name is longer than 64 bytes" });
    }
    if !text.bytes().all(plain) {
        return Err(ReferenceError {
            why: "the field's name has a character other than a-z, 0-9, '-' and '_'",
        });
    }
    Ok(text.to_owned())
}

fn plain(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_credential_and_perhaps_a_field() {
        let whole: Reference = "db/orders#password".parse().unwrap();
        assert_eq!(whole.credential, "db/orders");
        assert_eq!(whole.field.as_deref(), Some("password"));
        assert_eq!(whole.to_string(), "db/orders#password");
        assert_eq!("a".parse::<Reference>().unwrap().field, None);
    }

    #[test]
    fn malformed_references_are_not_taken() {
        for bad in [
            "",
            "#x",
            "/a",
            "a/",
            "a//b",
            "A",
            "a b",
            "../x",
            "a/.b",
            "ä",
            "a\n",
            "a#",
            "a#B",
            "a#b#c",
            "a#b/c",
            "1/2/3/4/5/6/7/8/9",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(129).parse::<Reference>().is_err());
        assert!(format!("a#{}", "b".repeat(65)).parse::<Reference>().is_err());
    }
}
