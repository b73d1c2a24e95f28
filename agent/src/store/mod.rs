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
mod rekey;
mod unwrap;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use identity::{CREDENTIAL_NAME, DEFAULT_WORK_FACTOR, NewIdentity, Remote, RemoteError};
pub use plain::{FieldInfo, StoredInfo};
pub use private::PrivateDir;
pub use rekey::{NewBytes, Rekeyed, staged_identity};
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
    /// One writer at a time; readers never see half of a replacement.
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
        recover::recover(&files)?;
        let kept = kept.map(|kept| journal::attach(&files, kept)).transpose()?;
        let (kept, access) = (Mutex::new(kept), RwLock::default());
        Ok(Self {
            files,
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
        for (what, text) in [("owner", owner), ("purpose", purpose)] {
            if text.trim().is_empty() {
                return Err(StoreError::Incomplete(what));
            }
        }
        self.files.check_name(name)?;
        let recipient = self.kept().as_ref().ok_or(StoreError::Locked)?.recipient()?;
        let info = StoredInfo::of(name, owner, purpose, &secret, now);
        let sealed = plain::encrypt(&info, &secret, &*recipient)?;
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
        let keys = self.kept().as_ref().ok_or(StoreError::Locked)?.keys()?;
        let damaged = |why| StoreError::Damaged { file: self.files.secret_path(name), why };
        let text = plain::open(&sealed, &keys).map_err(|error| match error {
            StoreError::Bug(why) => damaged(why),
            error => error,
        })?;
        plain::parse(&info, &text).map_err(damaged)
    }

    fn kept(&self) -> MutexGuard<'_, Option<KeptIdentity>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
