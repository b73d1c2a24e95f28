//! Sealed lines: what revocation needs and is secret, under the journal key.
//!
//! `{"sealed":"<base64>"}` stands in front of the record whose lease carries
//! its SHA-256. It is no leaf. The bytes are a version (1), a nonce of 12
//! bytes, and AES-256-GCM ciphertext and tag; the lease's ID is bound in as
//! associated data, so that no line can stand for another lease.

use super::tree::{hex, sha256};
use crate::memory::{SecretBuf, Shield, Shielded};
use crate::names::LeaseId;
use data_encoding::BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;

/// Length of the journal key in bytes.
pub const JOURNAL_KEY_LEN: usize = 32;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;
const LABEL: &[u8] = b"jsi sealed line 1\0";
const PREFIX: &str = "{\"sealed\":\"";
const SUFFIX: &str = "\"}";

/// Seals and opens under the journal key. Nonces are random, so one key is
/// good for 2^32 lines (NIST SP 800-38D, 8.3).
pub struct Sealer {
    key: Key,
    random: SystemRandom,
}

/// How the key rests in memory.
enum Key {
    Bare(SecretBuf),
    Shielded(Arc<Shield>, Shielded),
}

impl Key {
    /// For one use: ring's expanded key is as secret as the key.
    fn with<R>(&self, use_it: impl FnOnce(&LessSafeKey) -> R) -> Result<R, SealError> {
        let opened;
        let bytes = match self {
            Self::Bare(key) => key.expose(),
            Self::Shielded(shield, key) => {
                opened = shield.open(key).map_err(|_| SealError::System)?;
                opened.expose()
            }
        };
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::KeyLength)?;
        Ok(use_it(&LessSafeKey::new(key)))
    }
}

/// Why a line cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key has not [`JOURNAL_KEY_LEN`] bytes.
    #[error("a journal key has 32 bytes")]
    KeyLength,
    /// Not a sealed line of this version.
    #[error("it is not a sealed line that this agent knows")]
    Malformed,
    /// Another key, another lease, or altered.
    #[error("it was sealed under another journal key or for another lease, or it was altered")]
    Refused,
    /// The system gave no random bytes, or the line is too long.
    #[error("the system could not seal it")]
    System,
}

impl Sealer {
    /// A sealer under that journal key.
    ///
    /// # Errors
    /// [`SealError::KeyLength`].
    pub fn new(key: SecretBuf) -> Result<Self, SealError> {
        Self::of(Key::Bare(key))
    }

    /// The same, its key kept shielded.
    ///
    /// # Errors
    /// [`SealError::KeyLength`]; [`SealError::System`] where the shield fails.
    pub fn shielded(key: &SecretBuf, shield: Arc<Shield>) -> Result<Self, SealError> {
        let sealed = shield.seal(key.expose()).map_err(|_| SealError::System)?;
        Self::of(Key::Shielded(shield, sealed))
    }

    fn of(key: Key) -> Result<Self, SealError> {
        key.with(|_| ())?;
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// The line for that lease, without its line feed.
    ///
    /// # Errors
    /// [`SealError::System`].
    pub fn seal(&self, lease: &LeaseId, secret: &SecretBuf) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::System)?;
        // Exactly as long as it ends up: growing would leave the plaintext behind.
        let mut bytes = Vec::with_capacity(1 + NONCE_LEN + secret.len() + AES_256_GCM.tag_len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(secret.expose());
        let (_, text) = bytes.split_at_mut(1 + NONCE_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(associated(lease));
        let tag = self.key.with(|key| key.seal_in_place_separate_tag(nonce, aad, text))?;
        let tag = tag.map_err(|_| SealError::System)?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(format!("{PREFIX}{}{SUFFIX}", BASE64.encode(&bytes)))
    }

    /// What was sealed for that lease.
    ///
    /// # Errors
    /// [`SealError::Malformed`] and [`SealError::Refused`].
    pub fn open(&self, lease: &LeaseId, line: &str) -> Result<SecretBuf, SealError> {
        let text = line
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(SUFFIX))
            .ok_or(SealError::Malformed)?;
        let mut bytes = BASE64.decode(text.as_bytes()).map_err(|_| SealError::Malformed)?;
        if bytes.len() < 1 + NONCE_LEN || bytes.first() != Some(&VERSION) {
            return Err(SealError::Malformed);
        }
        let (head, text) = bytes.split_at_mut(1 + NONCE_LEN);
        let nonce = head.get(1..).and_then(|nonce| nonce.try_into().ok());
        let nonce: [u8; NONCE_LEN] = nonce.ok_or(SealError::Malformed)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(associated(lease));
        self.key.with(|key| {
            let plain = key.open_in_place(nonce, aad, text).map_err(|_| SealError::Refused)?;
            let secret = SecretBuf::from_slice(plain);
            zeroize::Zeroize::zeroize(plain);
            Ok(secret)
        })?
    }
}

fn associated(lease: &LeaseId) -> Vec<u8> {
    [LABEL, lease.as_str().as_bytes()].concat()
}

/// The line is a sealed one (its content is not looked at).
pub(crate) fn is_sealed_line(line: &[u8]) -> bool {
    line.starts_with(PREFIX.as_bytes())
}

/// The hash by which a lease names its sealed line: SHA-256 of its bytes
/// without the line feed, lower-case hex.
pub(crate) fn line_hash(line: &[u8]) -> String {
    hex(&sha256(&[line]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        let mut key = vec![0; JOURNAL_KEY_LEN];
        SystemRandom::new().fill(&mut key).unwrap();
        Sealer::new(SecretBuf::new(key)).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_for_its_lease_under_its_key_only() {
        let (sealer, other) = (sealer(), sealer());
        let lease = LeaseId::from_text("db/orders/a");
        let line = sealer.seal(&lease, &SecretBuf::from_slice(b"handle")).unwrap();
        assert_eq!(sealer.open(&lease, &line).unwrap().expose(), b"handle");
        assert_eq!(other.open(&lease, &line).err(), Some(SealError::Refused));
        let stranger = LeaseId::from_text("db/orders/b");
        assert_eq!(sealer.open(&stranger, &line).err(), Some(SealError::Refused));
        assert_eq!(sealer.open(&lease, "{\"sealed\":\"AA==\"}").err(), Some(SealError::Malformed));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let short = SecretBuf::from_slice(b"short");
        assert_eq!(Sealer::new(short).err(), Some(SealError::KeyLength));
    }
}
