//! Keys that the agent itself makes and uses, sealed for the store's identity:
//! `<store>/_<area>/<owner>/<name>.age`. No credential's name begins with `_`,
//! so neither can be taken for the other. Each is a file of the standard age
//! tool, which `age -d -i IDENTITY` opens.
//!
//! What was opened stays shielded until the store is locked: opening costs some
//! 150 µs, unshielding three.

use super::error::StoreError;
use super::files::{read_file, replace, sync_dir};
use super::{Store, plain};
use crate::memory::{SecretBuf, Shielded};
use crate::names::IssuerName;
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

/// What was opened since the store was unlocked.
pub(super) type Shielding = HashMap<PathBuf, Arc<Shielded>>;

/// The private files of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateDir(PathBuf);

impl PrivateDir {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The sealed file of that name.
    #[must_use]
    pub fn sealed(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.age"))
    }

    /// Reads a file beside them that is not secret; `None`: there is none. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_open(&self, file: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.0.join(file);
        match read_file(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    /// Replaces such a file atomically and durably. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_open(&self, file: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.0.join(file);
        replace(&path, bytes, 0o600).map_err(StoreError::io(&path))
    }

    /// Names of the sealed files that are there. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sealed_names(&self) -> Result<Vec<String>, StoreError> {
        let entries = std::fs::read_dir(&self.0).map_err(StoreError::io(&self.0))?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io(&self.0))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".age"));
            names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        Ok(names)
    }
}

impl Store {
    /// The directory of an issuer's private files (made where it is missing,
    /// mode 0700). Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn private_dir(
        &self,
        area: &'static str,
        owner: &IssuerName,
    ) -> Result<PrivateDir, StoreError> {
        let above = self.files.dir().join(format!("_{area}"));
        let dir = above.join(owner.as_str());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        let synced = made.and_then(|()| sync_dir(&above)).and_then(|()| sync_dir(self.files.dir()));
        synced.map_err(StoreError::io(&dir))?;
        Ok(PrivateDir(dir))
    }

    /// Seals a key under a name of letters, digits, `-` and `_`. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Io`].
    pub fn seal_private(
        &self,
        dir: &PrivateDir,
        name: &str,
        plain: &SecretBuf,
    ) -> Result<(), StoreError> {
        let recipient = self.kept().as_ref().ok_or(StoreError::Locked)?.recipient()?;
        let sealed = plain::seal(plain.expose(), &*recipient)?;
        let path = dir.sealed(name);
        replace(&path, &sealed, 0o600).map_err(StoreError::io(&path))?;
        // It may have been opened before under the same name.
        self.shielding().remove(&path);
        Ok(())
    }

    /// A key, where it was opened since the store was unlocked. Does not block.
    ///
    /// # Errors
    /// [`StoreError::Locked`].
    pub fn open_private_kept(
        &self,
        dir: &PrivateDir,
        name: &str,
    ) -> Result<Option<SecretBuf>, StoreError> {
        if self.is_locked() {
            return Err(StoreError::Locked);
        }
        let Some(shield) = &self.shield else { return Ok(None) };
        let kept = self.shielding().get(&dir.sealed(name)).cloned();
        let opened = kept.map(|shielded| shield.open(&shielded)).transpose();
        opened.map_err(|error| StoreError::Bug(error.to_string()))
    }

    /// Opens a key, and keeps it shielded. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`]; [`StoreError::Damaged`] where the file is missing,
    /// was cut short, altered or sealed for another identity.
    pub fn open_private(&self, dir: &PrivateDir, name: &str) -> Result<SecretBuf, StoreError> {
        let path = dir.sealed(name);
        let keys = self.kept().as_ref().ok_or(StoreError::Locked)?.keys()?;
        let damaged = |why: String| StoreError::Damaged { file: path.clone(), why };
        let sealed = match read_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged("it is missing".to_owned()));
            }
            result => result.map_err(StoreError::io(&path))?,
        };
        let plain = plain::open(&sealed, &keys).map_err(|error| match error {
            StoreError::Bug(why) => damaged(why),
            error => error,
        })?;
        if let Some(shield) = &self.shield {
            let shielded = shield.seal(plain.expose());
            let shielded = shielded.map_err(|error| StoreError::Bug(error.to_string()))?;
            // The identity is held while it is kept: a lock in between forgets both.
            let identity = self.kept();
            if identity.is_some() {
                self.shielding().insert(path, Arc::new(shielded));
            }
        }
        Ok(plain)
    }

    /// Lets go of a key that was opened and turned out to be another.
    pub fn forget_private(&self, dir: &PrivateDir, name: &str) {
        self.shielding().remove(&dir.sealed(name));
    }

    /// Removes a key; one that is not there is no error. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove_private(&self, dir: &PrivateDir, name: &str) -> Result<(), StoreError> {
        let path = dir.sealed(name);
        self.shielding().remove(&path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.and_then(|()| sync_dir(dir.path())).map_err(StoreError::io(&path)),
        }
    }

    pub(super) fn shielding(&self) -> MutexGuard<'_, Shielding> {
        self.shielding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Guard, Shield};
    use crate::store::NewIdentity;

    fn store() -> (tempfile::TempDir, Store, PrivateDir) {
        let place = tempfile::tempdir().unwrap();
        let identity = place.path().join("identity");
        NewIdentity::generate().write(&identity, None, None).unwrap();
        let store = Store::open(&place.path().join("store"), &identity).unwrap();
        let shield = Arc::new(Shield::new(&Guard::new().unwrap()).unwrap());
        let store = store.with_shield(shield).unwrap();
        let dir = store.private_dir("test", &IssuerName::new("one").unwrap()).unwrap();
        (place, store, dir)
    }

    #[test]
    fn a_key_that_was_sealed_opens_and_rests_sealed_on_disk() {
        let (_place, store, dir) = store();
        assert!(matches!(store.open_private(&dir, "k"), Err(StoreError::Damaged { .. })));
        store.seal_private(&dir, "k", &SecretBuf::from_slice(b"the key")).unwrap();
        let on_disk = std::fs::read(dir.sealed("k")).unwrap();
        assert!(on_disk.starts_with(b"age-encryption.org/v1"));
        assert!(!on_disk.windows(7).any(|w| w == b"the key"));
        assert!(store.open_private_kept(&dir, "k").unwrap().is_none());
        assert_eq!(store.open_private(&dir, "k").unwrap().expose(), b"the key");
        assert_eq!(store.open_private_kept(&dir, "k").unwrap().unwrap().expose(), b"the key");
        assert!(store.list("").unwrap().is_empty(), "it is no credential");
        store.remove_private(&dir, "k").unwrap();
        store.remove_private(&dir, "k").unwrap();
        assert!(store.open_private_kept(&dir, "k").unwrap().is_none());
    }

    #[test]
    fn a_locked_store_keeps_nothing_open() {
        let (_place, store, dir) = store();
        store.seal_private(&dir, "k", &SecretBuf::from_slice(b"the key")).unwrap();
        store.open_private(&dir, "k").unwrap();
        store.lock();
        assert!(store.shielding().is_empty());
        assert!(matches!(store.open_private_kept(&dir, "k"), Err(StoreError::Locked)));
        assert!(matches!(store.open_private(&dir, "k"), Err(StoreError::Locked)));
        let other = SecretBuf::from_slice(b"x");
        assert!(matches!(store.seal_private(&dir, "k", &other), Err(StoreError::Locked)));
        store.unlock(&other).unwrap();
        assert_eq!(store.open_private(&dir, "k").unwrap().expose(), b"the key");
    }

    #[test]
    fn a_file_that_was_altered_is_not_opened() {
        let (_place, store, dir) = store();
        store.seal_private(&dir, "k", &SecretBuf::from_slice(b"the key")).unwrap();
        let mut bytes = std::fs::read(dir.sealed("k")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(dir.sealed("k"), &bytes).unwrap();
        assert!(matches!(store.open_private(&dir, "k"), Err(StoreError::Damaged { .. })));
        std::fs::write(dir.sealed("k"), &bytes[..40]).unwrap();
        assert!(matches!(store.open_private(&dir, "k"), Err(StoreError::Damaged { .. })));
    }
}
