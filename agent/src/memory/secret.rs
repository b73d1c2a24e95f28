//! Secrets in memory.

/// Heap bytes that are wiped when dropped.
pub struct SecretBuf(zeroize::Zeroizing<Vec<u8>>);

impl SecretBuf {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(zeroize::Zeroizing::new(bytes))
    }

    /// Copies the bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same bytes? Takes the same time wherever they differ; only the
    /// length shows.
    #[must_use]
    pub fn same(&self, other: &[u8]) -> bool {
        let differ =
            self.0.iter().zip(other).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        self.0.len() == other.len() && std::hint::black_box(differ) == 0
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One named field of a secret.
pub struct Field {
    /// Its name.
    pub name: String,
    /// It must be kept secret (a user name need not).
    pub sensitive: bool,
    /// It is what a request without a field name gets.
    pub is_default: bool,
    /// Its bytes.
    pub value: SecretBuf,
}

/// What is delivered: named fields, one of them the default.
pub struct Secret {
    fields: Vec<Field>,
}

/// Why fields do not make a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// None, or more than 32.
    #[error("a secret has 1 to 32 fields, not {0}")]
    Count(usize),
    /// A field's name is malformed or there twice.
    #[error("field name {0:?} {1}")]
    Name(String, &'static str),
    /// Not exactly one default.
    #[error("exactly one field is the default, not {0}")]
    Default(usize),
    /// Too long.
    #[error("the secret has {0} bytes; at most {max} are taken", max = jsi_proto::MAX_SECRET)]
    TooLong(usize),
}

impl Secret {
    /// Checks the fields.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn new(fields: Vec<Field>) -> Result<Self, SecretError> {
        if fields.is_empty() || fields.len() > 32 {
            return Err(SecretError::Count(fields.len()));
        }
        for (at, field) in fields.iter().enumerate() {
            let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
            if field.name.is_empty() || field.name.len() > 64 || !field.name.bytes().all(ok) {
                let name = field.name.chars().take(64).collect();
                return Err(SecretError::Name(name, "is not 1 to 64 of a-z, 0-9, '_' and '-'"));
            }
            if fields.iter().take(at).any(|earlier| earlier.name == field.name) {
                return Err(SecretError::Name(field.name.clone(), "is there twice"));
            }
        }
        let defaults = fields.iter().filter(|field| field.is_default).count();
        if defaults != 1 {
            return Err(SecretError::Default(defaults));
        }
        let len = fields.iter().map(|field| field.value.len()).sum();
        if len > jsi_proto::MAX_SECRET {
            return Err(SecretError::TooLong(len));
        }
        Ok(Self { fields })
    }

    /// In the order in which they were put.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The default field.
    #[must_use]
    pub fn default_field(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.is_default)
    }

    /// Bytes of all fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.iter().map(|field| field.value.len()).sum()
    }

    /// All fields are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, is_default: bool) -> Field {
        Field {
            name: name.to_owned(),
            sensitive: true,
            is_default,
            value: SecretBuf::from_slice(b"v"),
        }
    }

    #[test]
    fn fields_that_make_no_secret_are_refused() {
        assert_eq!(Secret::new(vec![]).err(), Some(SecretError::Count(0)));
        let many = (0..33).map(|n| field(&format!("f{n}"), n == 0)).collect();
        assert_eq!(Secret::new(many).err(), Some(SecretError::Count(33)));
        for name in ["", "A", "a b", "ä", "a.b", &"a".repeat(65)] {
            assert!(
                matches!(Secret::new(vec![field(name, true)]), Err(SecretError::Name(..))),
                "{name:?}"
            );
        }
        assert!(matches!(
            Secret::new(vec![field("a", true), field("a", false)]),
            Err(SecretError::Name(..))
        ));
        assert_eq!(Secret::new(vec![field("a", false)]).err(), Some(SecretError::Default(0)));
        let two = Secret::new(vec![field("a", true), field("b", true)]);
        assert_eq!(two.err(), Some(SecretError::Default(2)));
        let mut long = field("a", true);
        long.value = SecretBuf::new(vec![1; jsi_proto::MAX_SECRET + 1]);
        assert!(matches!(Secret::new(vec![long]), Err(SecretError::TooLong(_))));
    }

    #[test]
    fn comparison_sees_every_byte_and_the_length() {
        let buf = SecretBuf::from_slice(b"secret");
        assert!(buf.same(b"secret"));
        for other in [&b"secreT"[..], b"Secret", b"secre", b"secrets", b""] {
            assert!(!buf.same(other));
        }
        assert!(SecretBuf::from_slice(b"").same(b""));
    }
}
