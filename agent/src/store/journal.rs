//! The journal key: what seals the secret part of the log.
//!
//! HKDF-SHA256 of the store's identity, with a label of its own. So it needs no
//! file, opens unattended exactly where the identity does, and neither key
//! says anything about the other.
//!
//! Two identities need a file all the same, `.journal-key.age`, sealed as the
//! secrets are: one whose key no program of ours ever sees (a plugin), and one
//! that took the place of another, whose journal is still in the log.

use super::error::StoreError;
use super::files::Files;
use super::identity::KeptIdentity;
use super::plain;
use crate::log::JOURNAL_KEY_LEN;
use crate::memory::{SecretBuf, random_array};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use std::path::PathBuf;

const SALT: &[u8] = b"jsi journal key 1";
const LABEL: &[u8] = b"seal revocation handles in the log: AES-256-GCM";

/// No credential's name begins with a dot.
const FILE: &str = ".journal-key.age";

struct JournalKey;

impl KeyType for JournalKey {
    fn len(&self) -> usize {
        JOURNAL_KEY_LEN
    }
}

/// The journal key of that identity.
pub(super) fn key(kept: &KeptIdentity) -> Option<SecretBuf> {
    kept.own_journal_key().or_else(|| derive(kept))
}

fn derive(kept: &KeptIdentity) -> Option<SecretBuf> {
    let mut key = vec![0; JOURNAL_KEY_LEN];
    Salt::new(HKDF_SHA256, SALT)
        .extract(kept.material()?.expose())
        .expand(&[LABEL], JournalKey)
        .and_then(|material| material.fill(&mut key))
        .ok()?;
    Some(SecretBuf::new(key))
}

/// Where a journal key of its own lies.
pub(super) fn path(files: &Files) -> PathBuf {
    files.dir().join(FILE)
}

/// Gives the identity the journal key of its file. A plugin that has none yet
/// gets one, and shows by it that it opens what it seals.
pub(super) fn attach(files: &Files, kept: KeptIdentity) -> Result<KeptIdentity, StoreError> {
    let path = path(files);
    if path.symlink_metadata().is_err() {
        if !kept.is_remote() {
            return Ok(kept);
        }
        let fresh = SecretBuf::from_slice(&random_array::<JOURNAL_KEY_LEN>());
        let sealed = plain::seal(fresh.expose(), &*kept.recipient()?)?;
        let opened = plain::open(&sealed, &kept.keys()?)?;
        if !opened.same(fresh.expose()) {
            let why = "the plugin does not open what it has sealed".to_owned();
            return Err(StoreError::Helper(why));
        }
        super::files::replace(&path, &sealed, 0o600).map_err(StoreError::io(&path))?;
        return Ok(kept.with_journal_key(fresh));
    }
    let bytes = super::files::read_file(&path).map_err(StoreError::io(&path))?;
    let damaged = |why: String| StoreError::Damaged { file: path.clone(), why };
    match plain::open(&bytes, &kept.keys()?) {
        Ok(key) if key.len() == JOURNAL_KEY_LEN => Ok(kept.with_journal_key(key)),
        Ok(_) => Err(damaged("it is no journal key".to_owned())),
        Err(StoreError::Bug(why)) => Err(damaged(why)),
        Err(error) => Err(error),
    }
}
