//! Names that cannot be malformed: credentials, leases, requests.

use data_encoding::{BASE32_NOPAD, Specification};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::LazyLock;

/// Longest credential name, in bytes: fits a PostgreSQL role name with room for the rest.
pub const MAX_CREDENTIAL_LEN: usize = 128;

/// `db/orders`: one to eight parts joined by `/`, each of lower-case letters,
/// digits, `-`, `_` and `.`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(String);

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not {what}: {why}")]
pub struct NameError {
    /// What it was to be.
    pub what: &'static str,
    /// The name, shortened to what is fit to print.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl CredentialName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn new(name: &str) -> Result<Self, NameError> {
        match fault(name) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(NameError {
                name: name.chars().take(64).collect(),
                what: "a credential name",
                why,
            }),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths that contain it, outermost first: `db` for `db/orders`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_CREDENTIAL_LEN {
        return Some("it is longer than 128 bytes");
    }
    if name.split('/').count() > 8 {
        return Some("it has more than 8 parts");
    }
    for part in name.split('/') {
        let Some(first) = part.bytes().next() else {
            return Some("a part between slashes is empty");
        };
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return Some("each part begins with a lower-case letter or a digit");
        }
        if !part
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        {
            return Some("only lower-case letters, digits, '-', '_', '.' and '/' are allowed");
        }
    }
    None
}

impl TryFrom<String> for CredentialName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest name of an issuer, in bytes: it names a directory and stands in tables.
const MAX_ISSUER_LEN: usize = 32;

/// Names an issuer of the configuration: 1 to 32 lower-case letters, digits and
/// `-`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerName(String);

impl IssuerName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says what a name is.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let first = name.bytes().next();
        if name.len() <= MAX_ISSUER_LEN
            && first.is_some_and(|b| b.is_ascii_lowercase())
            && name.bytes().all(ok)
        {
            return Ok(Self(name.to_owned()));
        }
        let why = "an issuer's name is 1 to 32 of a-z, 0-9 and '-', and begins with a letter";
        Err(NameError { name: name.chars().take(64).collect(), what: "an issuer's name", why })
    }

    /// The embedded store, which is built in.
    #[must_use]
    pub fn store() -> Self {
        Self("store".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `<credential>/<26 base32 characters>`: a name, not a right. A prefix of it
/// names a subtree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(String);

impl LeaseId {
    /// A new ID; `random` are 16 random bytes.
    #[must_use]
    pub fn new(credential: &CredentialName, random: [u8; 16]) -> Self {
        Self(format!("{credential}/{}", base32(&random)))
    }

    /// The ID of that text, whatever it is: it is only ever looked up.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one request and its decision: 13 base32 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(String);

impl RequestId {
    /// A new ID; `random` are 8 random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(base32(&random))
    }

    /// The ID of that text, whatever it is: it is only ever looked up.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn base32(bytes: &[u8]) -> String {
    static LOWER: LazyLock<data_encoding::Encoding> = LazyLock::new(|| {
        let mut spec: Specification = BASE32_NOPAD.specification();
        spec.symbols = "abcdefghijklmnopqrstuvwxyz234567".to_owned();
        spec.encoding().unwrap_or(BASE32_NOPAD)
    });
    LOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_are_taken_and_bad_ones_refused() {
        for good in ["db/orders", "a", "0/b-c_d.e", "x/y/z"] {
            assert!(CredentialName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "A", "a b", "../x", "a/.b", "a/-b", "ä", "a\n", "a#b"]
        {
            assert!(CredentialName::new(bad).is_err(), "{bad:?}");
        }
        assert!(CredentialName::new(&"a".repeat(129)).is_err());
    }

    #[test]
    fn an_issuers_name_can_be_a_directory() {
        for good in ["store", "a", "internal-2"] {
            assert!(IssuerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "2a", "-a", "a/b", "..", "a.b", "ä", "a_b", &"a".repeat(33)] {
            assert!(IssuerName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lease_ids_have_26_characters_behind_the_name() {
        let name = CredentialName::new("db/orders").unwrap();
        let id = LeaseId::new(&name, [7; 16]);
        let tail = id.as_str().strip_prefix("db/orders/").unwrap();
        assert_eq!(tail.len(), 26);
        assert!(tail.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)));
    }

    #[test]
    fn parents_are_named_outermost_first() {
        let name = CredentialName::new("a/b/c").unwrap();
        assert_eq!(name.parents().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
