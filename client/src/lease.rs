//! A lease and its secret, put together from the pieces in which it comes.

use crate::error::Error;
use jsi_proto::v1::{FieldPiece, Lease, SecretMessage};
use zeroize::Zeroizing;

/// A lease with its secret. The values are wiped when it is dropped; it has no
/// `Debug`, `Clone` or `Serialize`.
pub struct Leased {
    lease: Lease,
    request_id: String,
    fields: Vec<SecretField>,
}

/// One field of a secret.
pub struct SecretField {
    name: String,
    sensitive: bool,
    is_default: bool,
    value: Zeroizing<Vec<u8>>,
}

impl Leased {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Names the decision for `jsi explain`.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The fields, in the order in which they came.
    #[must_use]
    pub fn fields(&self) -> &[SecretField] {
        &self.fields
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&SecretField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The default field; where only one came, that one.
    #[must_use]
    pub fn default_field(&self) -> Option<&SecretField> {
        match self.fields.as_slice() {
            [only] => Some(only),
            fields => fields.iter().find(|field| field.is_default),
        }
    }
}

impl SecretField {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It must be kept secret (a user name need not).
    #[must_use]
    pub fn sensitive(&self) -> bool {
        self.sensitive
    }

    /// It is what is meant where no field is named.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The value itself.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Collects the messages of one stream. Pieces stay apart until the last has
/// come, so that no growing buffer leaves a copy behind.
#[derive(Default)]
pub(crate) struct Assembly {
    first: Option<(Lease, String)>,
    fields: Vec<OpenField>,
    total: usize,
}

struct OpenField {
    name: String,
    sensitive: bool,
    is_default: bool,
    more: bool,
    pieces: Vec<Zeroizing<Vec<u8>>>,
}

impl Assembly {
    /// Takes one message.
    pub(crate) fn take(&mut self, message: SecretMessage) -> Result<(), Error> {
        let pieces: Vec<_> = message.pieces.into_iter().map(Piece::from).collect();
        match (&self.first, message.lease) {
            (None, Some(lease)) => self.first = Some((lease, message.request_id)),
            (None, None) => return Err(Error::Protocol("the first message has no lease")),
            (Some(_), Some(_)) => return Err(Error::Protocol("a second lease in one answer")),
            (Some(_), None) => {}
        }
        pieces.into_iter().try_for_each(|piece| self.piece(piece))
    }

    /// The whole secret, once the stream has ended.
    pub(crate) fn finish(self) -> Result<Leased, Error> {
        let Some((lease, request_id)) = self.first else {
            return Err(Error::Protocol("the answer is empty"));
        };
        if self.fields.iter().any(|field| field.more) {
            return Err(Error::Protocol("the last piece of a field is missing"));
        }
        Ok(Leased { lease, request_id, fields: self.fields.into_iter().map(joined).collect() })
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Error> {
        self.total += piece.value.len();
        if self.total > jsi_proto::MAX_SECRET {
            return Err(Error::Protocol("the secret is longer than 1 MiB"));
        }
        match self.fields.iter_mut().find(|field| field.name == piece.name) {
            Some(field) if !field.more => {
                return Err(Error::Protocol("a field goes on after its last piece"));
            }
            Some(field) => {
                field.more = piece.more;
                field.pieces.push(piece.value);
            }
            None => self.fields.push(OpenField {
                name: piece.name,
                sensitive: piece.sensitive,
                is_default: piece.is_default,
                more: piece.more,
                pieces: vec![piece.value],
            }),
        }
        Ok(())
    }
}

/// A piece whose value is wiped, whatever becomes of the message.
struct Piece {
    name: String,
    sensitive: bool,
    is_default: bool,
    more: bool,
    value: Zeroizing<Vec<u8>>,
}

impl From<FieldPiece> for Piece {
    fn from(piece: FieldPiece) -> Self {
        let FieldPiece { name, sensitive, is_default, value, more } = piece;
        Self { name, sensitive, is_default, more, value: Zeroizing::new(value) }
    }
}

fn joined(field: OpenField) -> SecretField {
    let OpenField { name, sensitive, is_default, pieces, .. } = field;
    let mut value =
        Zeroizing::new(Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
    for piece in &pieces {
        value.extend_from_slice(piece);
    }
    SecretField { name, sensitive, is_default, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lease: bool, pieces: &[(&str, &[u8], bool)]) -> SecretMessage {
        SecretMessage {
            padding: jsi_proto::padding(),
            lease: lease.then(Lease::default),
            request_id: "r".to_owned(),
            pieces: pieces
                .iter()
                .map(|(name, value, more)| FieldPiece {
                    name: (*name).to_owned(),
                    sensitive: true,
                    is_default: *name == "a",
                    value: value.to_vec(),
                    more: *more,
                })
                .collect(),
        }
    }

    fn assembled(messages: Vec<SecretMessage>) -> Result<Leased, Error> {
        let mut assembly = Assembly::default();
        for message in messages {
            assembly.take(message)?;
        }
        assembly.finish()
    }

    #[test]
    fn pieces_of_several_messages_become_one_value() {
        let leased = assembled(vec![
            message(true, &[("a", b"one-", true)]),
            message(false, &[("a", b"two", false), ("b", b"", false)]),
        ])
        .ok()
        .unwrap();
        assert_eq!(leased.field("a").unwrap().value(), b"one-two");
        assert_eq!(leased.default_field().unwrap().name(), "a");
        assert_eq!(leased.field("b").unwrap().value(), b"");
        assert!(leased.field("c").is_none());
    }

    #[test]
    fn an_answer_that_is_cut_or_overlong_is_not_taken_for_a_secret() {
        let long = vec![b'x'; 700 * 1024];
        for (what, messages) in [
            ("empty", vec![]),
            ("no lease", vec![message(false, &[("a", b"x", false)])]),
            ("two leases", vec![message(true, &[]), message(true, &[])]),
            ("cut", vec![message(true, &[("a", b"x", true)])]),
            ("goes on", vec![message(true, &[("a", b"x", false), ("a", b"y", false)])]),
            ("overlong", vec![message(true, &[("a", &long, true), ("a", &long, false)])]),
        ] {
            assert!(matches!(assembled(messages), Err(Error::Protocol(_))), "{what}");
        }
    }
}
