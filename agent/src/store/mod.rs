//! The embedded secret store: age files under an age identity. They open with
//! the standard `age` tool.
//!
//! `<name>.age` holds the secret, `<name>.json` beside it what may be listed
//! while the store is locked. What protects the files from being replaced by
//! others that the same public key can make is the mode of their directory.

mod error;
mod files;
mod identity;
mod journal;
mod plain;
mod private;
mod recover;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use identity::{DEFAULT_WORK_FACTOR, NewIdentity};
pub use plain::{FieldInfo, StoredInfo};
pub use private::PrivateDir;

use crate::clock::WallTime;
use crate::memory::{Secret, SecretBuf, Shield};
use crate::names::CredentialName;
use files::Files;
use identity::{IdentityFile, KeptIdentity, Opened};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The store, open; locked until its identity is.
///
/// All functions block. [`Store::unlock`] takes about a second and 256 MiB
/// where the identity has a passphrase (scrypt); the others take disk time
/// and about 150 µs of arithmetic: call them through `spawn_blocking`.
pub struct Store {
    files: Files,
    /// One writer at a time; readers never see half of a replacement.
    access: RwLock<()>,
    identity: IdentityFile,
    kept: Mutex<Option<KeptIdentity>>,
    shield: Option<Arc<Shield>>,
    /// The agent's own keys that are open.
    shielding: Mutex<private::Shielding>,
}

impl Store {
    /// Opens the store in `dir` (made if it is missing, mode 0700) under the
    /// identity in that file. Clears what a crash left behind. A key file opens
    /// the store at once; one encrypted by a passphrase leaves it locked.
    ///
    /// # Errors
    /// [`StoreError::Identity`] where the identity is unusable or others could
    /// read it; [`StoreError::Io`] and [`StoreError::Exposed`] for the directory.
    pub fn open(dir: &Path, identity_path: &Path) -> Result<Self, StoreError> {
        let identity = IdentityFile::at(identity_path);
        let kept = match identity.read()? {
            Opened::Plain(kept) => Some(kept),
            Opened::Encrypted(_) => None,
        };
        let files = Files::open(dir)?;
        recover::recover(&files)?;
        let kept = Mutex::new(kept);
        Ok(Self {
            files,
            access: RwLock::default(),
            identity,
            kept,
            shield: None,
            shielding: Mutex::default(),
        })
    }

    /// The same store, its identity kept shielded from now on: a dump of the
    /// heap does not show it.
    ///
    /// # Errors
    /// [`StoreError::Bug`] where the shield fails.
    pub fn with_shield(self, shield: Arc<Shield>) -> Result<Self, StoreError> {
        let kept = self.kept().take();
        let kept = kept.map(|kept| kept.behind(Some(&shield))).transpose()?;
        Ok(Self { kept: Mutex::new(kept), shield: Some(shield), ..self })
    }

    /// No secret can be read or put.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.kept().is_none()
    }

    /// Forgets the identity, and the keys that it opened.
    pub fn lock(&self) {
        let mut kept = self.kept();
        *kept = None;
        self.shielding().clear();
    }

    /// Opens the identity again. A key file without a passphrase opens with any.
    ///
    /// # Errors
    /// [`StoreError::WrongPassphrase`], [`StoreError::Identity`].
    pub fn unlock(&self, passphrase: &SecretBuf) -> Result<(), StoreError> {
        let kept = match self.identity.read()? {
            Opened::Plain(kept) => kept,
            Opened::Encrypted(bytes) => self.identity.decrypt(&bytes, passphrase)?,
        };
        let kept = kept.behind(self.shield.as_ref())?;
        *self.kept() = Some(kept);
        Ok(())
    }

    /// The key of the log's sealed lines: derived from the identity, so it
    /// opens unattended exactly where the identity does. `None` while locked.
    #[must_use]
    pub fn journal_key(&self) -> Option<SecretBuf> {
        self.kept().as_ref().and_then(journal::derive)
    }

    /// Stores a secret; whether it replaced one.
    ///
    /// # Errors
    /// [`StoreError::Locked`]; [`StoreError::Exists`] unless `replace`;
    /// [`StoreError::Incomplete`] without owner or purpose;
    /// [`StoreError::Unstorable`] for a name that the layout cannot hold.
    pub fn put(
        &self,
        name: &CredentialName,
        owner: &str,
        purpose: &str,
        secret: Secret,
        replace: bool,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        for (what, text) in [("owner", owner), ("purpose", purpose)] {
            if text.trim().is_empty() {
                return Err(StoreError::Incomplete(what));
            }
        }
        self.files.check_name(name)?;
        let recipient = self.kept().as_ref().ok_or(StoreError::Locked)?.recipient()?;
        let info = StoredInfo::of(name, owner, purpose, &secret, now);
        let sealed = plain::encrypt(&info, &secret, &recipient)?;
        drop(secret);
        let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.files.exists(name);
        if replaced && !replace {
            return Err(StoreError::Exists(name.clone()));
        }
        self.files.write(&info, &sealed)?;
        Ok(replaced)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn remove(&self, name: &CredentialName) -> Result<(), StoreError> {
        let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
        self.files.remove(name)
    }

    /// Every secret of that name or below it (`""`: all), in order of names;
    /// works while locked. One that is damaged is listed with its fault.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the directory cannot be read.
    pub fn list(&self, prefix: &str) -> Result<Vec<StoredInfo>, StoreError> {
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        self.files.list(prefix)
    }

    /// What may be known of a secret while the store is locked.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub fn info(&self, name: &CredentialName) -> Result<StoredInfo, StoreError> {
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        self.files.info(name).map(|(info, _)| info)
    }

    /// There is a secret of that name.
    #[must_use]
    pub fn exists(&self, name: &CredentialName) -> bool {
        self.files.exists(name)
    }

    /// Tells one stored secret from what replaces it: changes with every put.
    /// Costs one stat; does not block for long.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Missing`], [`StoreError::Io`].
    pub fn version(&self, name: &CredentialName) -> Result<u128, StoreError> {
        if self.is_locked() {
            return Err(StoreError::Locked);
        }
        self.files.version(name)
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Missing`]; [`StoreError::Damaged`]
    /// where the file was cut short, altered, moved or sealed for another identity.
    pub fn read(&self, name: &CredentialName) -> Result<Secret, StoreError> {
        let (info, sealed) = {
            let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
            self.files.read(name)?
        };
        let identities = self.kept().as_ref().ok_or(StoreError::Locked)?.identities()?;
        plain::decrypt(&info, &sealed, &identities)
            .map_err(|why| StoreError::Damaged { file: self.files.secret_path(name), why })
    }

    fn kept(&self) -> MutexGuard<'_, Option<KeptIdentity>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
