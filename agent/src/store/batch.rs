//! Many secrets stored together: each is whole or not there, as one alone is, and
//! the disk is waited for three times a batch and not six times a secret.

use super::error::StoreError;
use super::plain::{StoredInfo, encrypt};
use super::{Store, fingerprint};
use crate::clock::WallTime;
use crate::memory::Secret;
use crate::names::CredentialName;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// A secret of a batch.
pub struct BatchItem {
    /// Its name.
    pub name: CredentialName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// It may take another's place.
    pub replace: bool,
    /// The material.
    pub secret: Secret,
}

/// Whether it replaced one; `None`: one is there, and was left as it is.
pub type Stored = Result<Option<bool>, StoreError>;

/// One that has been sealed and is to be written.
struct Sealed {
    at: usize,
    info: StoredInfo,
    bytes: Vec<u8>,
    replaces: bool,
    fingerprint: [u8; 32],
}

impl Store {
    /// Stores secrets and reads each back; what became of each, in their order. One
    /// that fails does not hold up the others.
    pub fn put_batch(&self, items: Vec<BatchItem>, now: WallTime) -> Vec<Stored> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results: Vec<Option<Stored>> = items.iter().map(|_| None).collect();
        let mut sealed = Vec::with_capacity(items.len());
        let mut names = BTreeSet::new();
        for (at, item) in items.into_iter().enumerate() {
            let twice = !names.insert(item.name.clone());
            let made = if twice {
                Err(StoreError::Unfit(format!("{} is given twice", item.name)))
            } else {
                self.seal_one(at, item, now)
            };
            match made {
                Ok(Some(one)) => sealed.push(one),
                Ok(None) => settle(&mut results, at, Ok(None)),
                Err(error) => settle(&mut results, at, Err(error)),
            }
        }
        let files: Vec<_> = sealed.iter().map(|one| (&one.info, one.bytes.as_slice())).collect();
        let written = self.files.write_batch(&files, &self.access);
        for (one, written) in sealed.iter().zip(written) {
            let result = written.and_then(|()| self.read_back(one));
            settle(&mut results, one.at, result);
        }
        let lost = || Err(StoreError::Bug("a secret of a batch was lost".to_owned()));
        results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
    }

    fn seal_one(
        &self,
        at: usize,
        item: BatchItem,
        now: WallTime,
    ) -> Result<Option<Sealed>, StoreError> {
        let BatchItem { name, owner, purpose, replace, secret } = item;
        self.check_new(&name, &owner, &purpose)?;
        let replaces = self.files.exists(&name);
        if replaces && !replace {
            return Ok(None);
        }
        let info = self.next_info(&name, &owner, &purpose, &secret, now);
        let recipient = self.kept().as_ref().ok_or(StoreError::Locked)?.recipient()?;
        let bytes = encrypt(&info, &secret, &*recipient)?;
        Ok(Some(Sealed { at, info, bytes, replaces, fingerprint: fingerprint(&secret) }))
    }

    fn read_back(&self, one: &Sealed) -> Stored {
        let name = &one.info.name;
        if fingerprint(&self.read(name)?) != one.fingerprint {
            return Err(StoreError::NotReadBack(name.clone()));
        }
        Ok(Some(one.replaces))
    }
}

fn settle(results: &mut [Option<Stored>], at: usize, result: Stored) {
    if let Some(place) = results.get_mut(at) {
        *place = Some(result);
    }
}
