//! A secret as bytes, to be sealed: never leaves the process.
//!
//! Count of fields; for each: length of the name, name, flags, length of the
//! value (four bytes, little endian), value.

use super::{Field, Secret, SecretBuf, SecretError};

const SENSITIVE: u8 = 1;
const DEFAULT: u8 = 2;

/// Encodes without a reallocation, so that no half of it stays behind.
pub(super) fn encode(secret: &Secret) -> SecretBuf {
    let len =
        secret.fields().iter().map(|f| 1 + f.name.len() + 1 + 4 + f.value.len()).sum::<usize>();
    let mut out = Vec::with_capacity(1 + len);
    out.push(u8::try_from(secret.fields().len()).unwrap_or(u8::MAX));
    for field in secret.fields() {
        out.push(u8::try_from(field.name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(field.name.as_bytes());
        let sensitive = if field.sensitive { SENSITIVE } else { 0 };
        out.push(sensitive | if field.is_default { DEFAULT } else { 0 });
        out.extend_from_slice(&u32::try_from(field.value.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(field.value.expose());
    }
    SecretBuf::new(out)
}

/// Decodes what [`encode`] made; anything else is `None`.
pub(super) fn decode(bytes: &[u8]) -> Option<Result<Secret, SecretError>> {
    let (&count, mut rest) = bytes.split_first()?;
    let mut fields = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (&name_len, tail) = rest.split_first()?;
        let (name, tail) = tail.split_at_checked(name_len.into())?;
        let (&flags, tail) = tail.split_first()?;
        let (value_len, tail) = tail.split_first_chunk::<4>()?;
        let (value, tail) = tail.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        fields.push(Field {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            sensitive: flags & SENSITIVE != 0,
            is_default: flags & DEFAULT != 0,
            value: SecretBuf::from_slice(value),
        });
        rest = tail;
    }
    rest.is_empty().then(|| Secret::new(fields))
}
