//! The embedded secret store: age files under an age identity. They open with
//! the standard `age` tool.
//!
//! `<name>.age` holds the secret, `<name>.json` beside it what may be listed
//! while the store is locked. What protects the files from being replaced by
//! others that the same public key can make is the mode of their directory.

mod archive;
mod batch;
mod error;
mod files;
mod identity;
mod journal;
mod plain;
mod private;
mod recover;
mod rekey;
mod restore;
mod rotate;
mod snapshot;
mod swap;
mod unwrap;

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod tests;

pub use archive::{Summary, write_archive};
pub use batch::{BatchItem, Stored};
pub use error::StoreError;
pub use identity::{CREDENTIAL_NAME, DEFAULT_WORK_FACTOR, NewIdentity, Remote, RemoteError};
pub use plain::{FieldInfo, StoredInfo};
pub use private::PrivateDir;
pub use rekey::{NewBytes, Rekeyed, staged_identity};
pub use restore::{RestoreHow, Restored};
pub use rotate::{NewValue, RotatedInfo, generate};
pub use snapshot::Snapshot;
pub use unwrap::{Asking, Direct, ThroughLauncher, answer, systemd};

use crate::clock::WallTime;
use crate::config::IdentityKind;
use crate::memory::{Secret, SecretBuf, Shield};
use crate::names::CredentialName;
use files::Files;
use identity::{IdentityFile, KeptIdentity};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The names of the secrets stored in `dir`, which nothing is opened or made
/// for; none where there is no such directory.
///
/// # Errors
/// [`StoreError::Io`] where it cannot be read.
pub fn stored_names(dir: &Path) -> Result<BTreeSet<CredentialName>, StoreError> {
    files::names_in(dir)
}

/// The store, open; locked until its identity is.
///
/// All functions block. [`Store::unlock`] takes about a second and 256 MiB
/// where the identity has a passphrase (scrypt); the others take disk time
/// and about 150 µs of arithmetic: call them through `spawn_blocking`.
pub struct Store {
    files: Files,
    /// One writer at a time, from the first look to the last rename. Taken before
    /// `access`.
    writing: Mutex<()>,
    /// Readers never see half of a replacement.
    access: RwLock<()>,
    identity: IdentityFile,
    kept: Mutex<Option<KeptIdentity>>,
    shield: Option<Arc<Shield>>,
    /// The agent's own keys that are open.
    shielding: Mutex<private::Shielding>,
    remote: Option<Arc<dyn Remote>>,
}

impl Store {
    /// Opens the store in `dir` (made if it is missing, mode 0700) under the
    /// identity in that file. Clears what a crash left behind. A key in the
    /// clear opens the store at once; every other identity leaves it locked.
    ///
    /// # Errors
    /// [`StoreError::Identity`] where the identity is unusable or others could
    /// read it; [`StoreError::Io`] and [`StoreError::Exposed`] for the directory;
    /// [`StoreError::InUse`] while it is given another identity.
    pub fn open(dir: &Path, identity_path: &Path) -> Result<Self, StoreError> {
        Self::open_locked(dir, identity_path, false)
    }

    /// The same for a change of identity: while it lives, no agent starts, and
    /// where one runs it is refused.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::InUse`].
    pub fn open_alone(dir: &Path, identity_path: &Path) -> Result<Self, StoreError> {
        Self::open_locked(dir, identity_path, true)
    }

    fn open_locked(dir: &Path, identity_path: &Path, alone: bool) -> Result<Self, StoreError> {
        let files = Files::open(dir, alone)?;
        // Before the identity is read: it may be the one that is replaced.
        rekey::recover(&files, identity_path)?;
        let identity = IdentityFile::at(identity_path);
        let kept = identity.open_alone(&identity.read()?)?;
        swap::settle(&files)?;
        snapshot::clear(&files)?;
        recover::recover(&files)?;
        let kept = kept.map(|kept| journal::attach(&files, kept)).transpose()?;
        let (kept, access) = (Mutex::new(kept), RwLock::default());
        Ok(Self {
            files,
            writing: Mutex::default(),
            access,
            identity,
            kept,
            shield: None,
            shielding: Mutex::default(),
            remote: None,
        })
    }

    /// The same store, which asks that one where its identity is another program's.
    #[must_use]
    pub fn with_remote(self, remote: Arc<dyn Remote>) -> Self {
        Self { remote: Some(remote), ..self }
    }

    /// What kind of identity it has, read anew.
    ///
    /// # Errors
    /// [`StoreError::Identity`].
    pub fn identity_kind(&self) -> Result<IdentityKind, StoreError> {
        Ok(self.identity.read()?.kind)
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

    /// Opens the identity again. A key in the clear opens with any passphrase; a
    /// plugin is asked (`passphrase` is not looked at); a systemd credential is
    /// opened by systemd, unless its key is given in the place of a passphrase.
    ///
    /// # Errors
    /// [`StoreError::WrongPassphrase`], [`StoreError::Identity`];
    /// [`StoreError::Helper`] where a plugin or systemd-creds opened nothing.
    pub fn unlock(&self, passphrase: &SecretBuf) -> Result<(), StoreError> {
        let found = self.identity.read()?;
        let kept = self.identity.open_with(&found, passphrase, self.remote.as_ref())?;
        if matches!(found.kind, IdentityKind::SystemdCreds { .. }) {
            self.opens_something(&kept)?;
        }
        let kept = {
            let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
            journal::attach(&self.files, kept)?
        };
        *self.kept() = Some(kept.behind(self.shield.as_ref())?);
        Ok(())
    }

    /// A key that was given by hand must be the store's: it opens the first
    /// secret there is.
    fn opens_something(&self, kept: &KeptIdentity) -> Result<(), StoreError> {
        let stored = self.list("")?;
        let Some(first) = stored.iter().find(|info| info.fault.is_none()) else { return Ok(()) };
        let (_, sealed) = self.files.read(&first.name)?;
        match plain::open(&sealed, &kept.keys()?) {
            Ok(_) => Ok(()),
            Err(StoreError::Bug(_)) => Err(StoreError::WrongPassphrase),
            Err(error) => Err(error),
        }
    }

    /// The key of the log's sealed lines: derived from the identity or sealed
    /// for it, so it opens unattended exactly where the identity does. `None`
    /// while locked.
    #[must_use]
    pub fn journal_key(&self) -> Option<SecretBuf> {
        self.kept().as_ref().and_then(journal::key)
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
        self.check_new(name, owner, purpose)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.files.exists(name);
        if replaced && !replace {
            return Err(StoreError::Exists(name.clone()));
        }
        self.write(name, owner, purpose, &secret, now)?;
        Ok(replaced)
    }

    fn check_new(
        &self,
        name: &CredentialName,
        owner: &str,
        purpose: &str,
    ) -> Result<(), StoreError> {
        for (what, text) in [("owner", owner), ("purpose", purpose)] {
            if text.trim().is_empty() {
                return Err(StoreError::Incomplete(what));
            }
        }
        self.files.check_name(name)
    }

    /// What will be known of the next secret of that name.
    fn next_info(
        &self,
        name: &CredentialName,
        owner: &str,
        purpose: &str,
        secret: &Secret,
        now: WallTime,
    ) -> StoredInfo {
        // One that is damaged says no version, and must be replaceable.
        let version = self.files.info(name).map_or(0, |(info, _)| info.version) + 1;
        StoredInfo::of(name, owner, purpose, secret, now, version)
    }

    /// Seals and writes it as the next of its name; the caller holds `writing`.
    /// Sealing may take a plugin's time, while readers go on.
    fn write(
        &self,
        name: &CredentialName,
        owner: &str,
        purpose: &str,
        secret: &Secret,
        now: WallTime,
    ) -> Result<StoredInfo, StoreError> {
        let recipient = self.kept().as_ref().ok_or(StoreError::Locked)?.recipient()?;
        let info = self.next_info(name, owner, purpose, secret, now);
        let sealed = plain::encrypt(&info, secret, &*recipient)?;
        let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
        self.files.write(&info, &sealed)?;
        Ok(info)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Io`].
    pub fn remove(&self, name: &CredentialName) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.decrypted(&info, &sealed)
    }

    /// The age file of a secret as it lies in the store; works while locked.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub fn sealed(&self, name: &CredentialName) -> Result<Vec<u8>, StoreError> {
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        self.files.read(name).map(|(_, sealed)| sealed)
    }

    fn decrypted(&self, info: &StoredInfo, sealed: &[u8]) -> Result<Secret, StoreError> {
        let keys = self.kept().as_ref().ok_or(StoreError::Locked)?.keys()?;
        let damaged = |why| StoreError::Damaged { file: self.files.secret_path(&info.name), why };
        let text = plain::open(sealed, &keys).map_err(|error| match error {
            StoreError::Bug(why) => damaged(why),
            error => error,
        })?;
        plain::parse(info, &text).map_err(damaged)
    }

    fn kept(&self) -> MutexGuard<'_, Option<KeptIdentity>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHA-256 over the fields of a secret: whether two are the same.
fn fingerprint(secret: &Secret) -> [u8; 32] {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for field in secret.fields() {
        hash.update(field.name.as_bytes());
        hash.update(&[0, u8::from(field.sensitive), u8::from(field.is_default)]);
        hash.update(&(field.value.len() as u64).to_le_bytes());
        hash.update(field.value.expose());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}
