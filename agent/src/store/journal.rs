//! The journal key: what seals the secret part of the log.
//!
//! HKDF-SHA256 of the store's identity, with a label of its own. So it needs no
//! file, opens unattended exactly where the identity does, and neither key
//! says anything about the other.

use super::identity::KeptIdentity;
use crate::log::JOURNAL_KEY_LEN;
use crate::memory::SecretBuf;
use age::secrecy::ExposeSecret;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

const SALT: &[u8] = b"jsi journal key 1";
const LABEL: &[u8] = b"seal revocation handles in the log: AES-256-GCM";

struct JournalKey;

impl KeyType for JournalKey {
    fn len(&self) -> usize {
        JOURNAL_KEY_LEN
    }
}

/// The journal key of that identity (of its first key).
pub(super) fn derive(kept: &KeptIdentity) -> Option<SecretBuf> {
    let identities = kept.identities().ok()?;
    let text = identities.first()?.to_string();
    let mut key = vec![0; JOURNAL_KEY_LEN];
    Salt::new(HKDF_SHA256, SALT)
        .extract(text.expose_secret().as_bytes())
        .expand(&[LABEL], JournalKey)
        .and_then(|material| material.fill(&mut key))
        .ok()?;
    Some(SecretBuf::new(key))
}
