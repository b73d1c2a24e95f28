//! A store from a backup: everything is checked before anything is touched.

use super::Store;
use super::archive::{MANIFEST, Manifest, SEAL, Summary, seal};
use super::error::StoreError;
use super::files::{Files, MAX_LEN};
use super::plain::{self, Metadata, sha256};
use super::swap::Staging;
use crate::names::CredentialName;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::PoisonError;

/// Longest manifest that is read: a million files have about 200 MiB.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;
/// Secrets that cannot be opened are named up to this many.
const NAMED: usize = 5;

/// How a backup is restored.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreHow {
    /// The store may hold secrets already.
    pub replace: bool,
    /// Every secret is opened first.
    pub verify: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// The seal need not be of this identity.
    pub unsealed: bool,
}

/// What was restored, or would be.
pub struct Restored {
    /// What the archive holds.
    pub backup: Summary,
    /// Its seal is of this identity.
    pub sealed: bool,
    /// Secrets that were not there.
    pub added: Vec<CredentialName>,
    /// Secrets that were another.
    pub changed: Vec<CredentialName>,
    /// Secrets that are there no more.
    pub removed: Vec<CredentialName>,
    /// Secrets that are the same.
    pub unchanged: usize,
    /// Secrets that were opened.
    pub opened: usize,
}

impl Store {
    /// Puts the store of a backup in the place of this one: all of it or nothing,
    /// also over a crash. Blocks for as long as `input` does.
    ///
    /// # Errors
    /// [`StoreError::Archive`]: it is cut short, altered, or none; nothing has
    /// changed. [`StoreError::Occupied`] unless `replace`; [`StoreError::Locked`]
    /// where the identity is needed; [`StoreError::Busy`], [`StoreError::Io`].
    pub fn restore(&self, input: &mut dyn Read, how: RestoreHow) -> Result<Restored, StoreError> {
        let occupied = self.list("")?.len();
        if occupied > 0 && !how.replace && !how.dry_run {
            return Err(StoreError::Occupied(occupied));
        }
        if how.verify && self.is_locked() {
            return Err(StoreError::Locked);
        }
        let staging = Staging::begin(&self.files)?;
        let mut archive = tar::Archive::new(input);
        let (manifest, backup, sealed) = self.unpack(&mut archive, &staging, how.unsealed)?;
        // One at least: the seal outlives a change of identity, the age files do not.
        let opened =
            if how.verify || sealed { self.open_some(&manifest, &staging, how.verify)? } else { 0 };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let mut restored = difference(&self.files, &manifest, backup)?;
        restored.sealed = sealed;
        restored.opened = opened;
        if how.dry_run {
            return Ok(restored);
        }
        let there = restored.changed.len() + restored.removed.len() + restored.unchanged;
        if there > 0 && !how.replace {
            return Err(StoreError::Occupied(there));
        }
        staging.commit()?;
        Ok(restored)
    }

    /// Every file of the archive, held against its manifest, into `staging`.
    fn unpack(
        &self,
        archive: &mut tar::Archive<&mut dyn Read>,
        staging: &Staging,
        unsealed: bool,
    ) -> Result<(Manifest, Summary, bool), StoreError> {
        let bad = |why: String| StoreError::Archive(why);
        let mut entries = archive.entries().map_err(|error| cut(&error))?;
        let mut next = || entries.next().transpose().map_err(|error| cut(&error));
        let none = || StoreError::Archive("it is no jsi backup".to_owned());
        let mut first = next()?.ok_or_else(none)?;
        if *first.path_bytes() != *MANIFEST.as_bytes() {
            return Err(none());
        }
        let text = content(&mut first, MAX_MANIFEST)?;
        let manifest = Manifest::parse(&text).map_err(bad)?;
        let mut second = next()?.ok_or_else(|| bad("it is cut short".to_owned()))?;
        if *second.path_bytes() != *SEAL.as_bytes() {
            return Err(bad("its seal is missing".to_owned()));
        }
        let sealed = self.is_sealed(&text, &content(&mut second, 1024)?, unsealed)?;
        let listed: BTreeMap<_, _> =
            manifest.files.iter().map(|file| (file.path.as_bytes(), file)).collect();
        let mut left: BTreeSet<_> = listed.keys().copied().collect();
        while let Some(mut entry) = next()? {
            let path = entry.path_bytes().into_owned();
            let shown = String::from_utf8_lossy(&path).chars().take(200).collect::<String>();
            let Some(file) = listed.get(path.as_slice()) else {
                return Err(bad(format!("{shown:?} is not in its manifest")));
            };
            if !left.remove(path.as_slice()) {
                return Err(bad(format!("{shown:?} is in it twice")));
            }
            let bytes = content(&mut entry, MAX_LEN)?;
            if bytes.len() as u64 != file.bytes || sha256(&bytes) != file.sha256 {
                return Err(bad(format!("{shown:?} was cut short or altered")));
            }
            if let Some(below) = file.of_store() {
                staging.write(below, &bytes)?;
            }
        }
        if let Some(missing) = left.first() {
            let missing = String::from_utf8_lossy(missing);
            return Err(bad(format!(
                "it is cut short: {} of its files are missing, the first is {missing:?}",
                left.len()
            )));
        }
        let summary = manifest.summary(&text);
        Ok((manifest, summary, sealed))
    }

    /// Whether the seal was made under this identity; else it is refused, unless
    /// that was foreseen.
    fn is_sealed(&self, text: &[u8], found: &[u8], unsealed: bool) -> Result<bool, StoreError> {
        let sealed = self.journal_key().map(|key| {
            // Names no secret, so time tells nothing that matters.
            seal(&key, text).as_bytes() == found.trim_ascii()
        });
        match sealed {
            Some(true) => Ok(true),
            _ if unsealed => Ok(false),
            Some(false) => Err(StoreError::ForeignArchive),
            None if self.is_locked() => Err(StoreError::Locked),
            None => Err(StoreError::ForeignArchive),
        }
    }

    /// Opens every secret, or the first alone, and says how many.
    fn open_some(
        &self,
        manifest: &Manifest,
        staging: &Staging,
        all: bool,
    ) -> Result<usize, StoreError> {
        let keys = self.kept().as_ref().ok_or(StoreError::Locked)?.keys()?;
        let names: Vec<_> = manifest.secrets().into_keys().collect();
        let count = if all { names.len() } else { names.len().min(1) };
        let mut faults = Vec::new();
        for name in names.iter().take(count) {
            let (sealed, metadata) = staging.read(name)?;
            let opened = match plain::open(&sealed, &keys) {
                Err(StoreError::Bug(why)) => Err(why),
                text => {
                    let text = text?;
                    Metadata::parse(&metadata)
                        .and_then(|metadata| plain::parse(&metadata.info, &text).map(drop))
                }
            };
            faults.extend(opened.err().map(|why| format!("{name}: {why}")));
        }
        if faults.is_empty() {
            return Ok(count);
        }
        let failed = faults.len();
        faults.truncate(NAMED);
        Err(StoreError::Archive(format!(
            "{failed} of its {} secrets do not open with this agent's identity: {}; put the \
             identity back that it was made under",
            names.len(),
            faults.join("; ")
        )))
    }
}

fn content(entry: &mut tar::Entry<'_, &mut dyn Read>, most: u64) -> Result<Vec<u8>, StoreError> {
    let shown = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect::<String>();
    if !entry.header().entry_type().is_file() {
        return Err(StoreError::Archive(format!("{shown:?} in it is not a regular file")));
    }
    if entry.size() > most {
        return Err(StoreError::Archive(format!("{shown:?} in it is longer than any may be")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
    entry.read_to_end(&mut bytes).map_err(|error| cut(&error))?;
    Ok(bytes)
}

fn cut(error: &std::io::Error) -> StoreError {
    StoreError::Archive(format!("it is cut short, or no archive at all ({error})"))
}

fn difference(files: &Files, manifest: &Manifest, backup: Summary) -> Result<Restored, StoreError> {
    let mut restored = Restored {
        backup,
        sealed: false,
        added: Vec::new(),
        changed: Vec::new(),
        removed: Vec::new(),
        unchanged: 0,
        opened: 0,
    };
    let coming = manifest.secrets();
    let there: Vec<_> = files.list("")?.into_iter().map(|info| info.name).collect();
    for name in &there {
        match coming.get(name) {
            None => restored.removed.push(name.clone()),
            Some(hash) if files.read(name).is_ok_and(|(_, sealed)| sha256(&sealed) == **hash) => {
                restored.unchanged += 1;
            }
            Some(_) => restored.changed.push(name.clone()),
        }
    }
    let there: BTreeSet<_> = there.iter().collect();
    restored.added = coming.into_keys().filter(|name| !there.contains(name)).collect();
    Ok(restored)
}
