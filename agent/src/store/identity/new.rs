//! Making an identity.

use super::super::error::StoreError;
use super::passphrase;
use crate::memory::SecretBuf;
use age::secrecy::ExposeSecret;
use age::x25519;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// scrypt's log2(N) for a new passphrase: what the `age` tool takes; about a
/// second and 256 MiB.
pub const DEFAULT_WORK_FACTOR: u8 = 18;

/// A new identity, to be written to a file.
pub struct NewIdentity(x25519::Identity);

impl NewIdentity {
    /// Makes one.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Its public key, `age1…`.
    #[must_use]
    pub fn public(&self) -> String {
        self.0.to_public().to_string()
    }

    /// What stands in a key file.
    #[must_use]
    pub fn text(&self) -> SecretBuf {
        let key = self.0.to_string();
        let text = format!("# public key: {}\n{}\n", self.public(), key.expose_secret());
        SecretBuf::new(text.into_bytes())
    }

    /// Writes it to a new file of mode 0600, encrypted by the passphrase if one
    /// is given (with its work factor: see [`DEFAULT_WORK_FACTOR`]), and gives
    /// it to that uid and gid.
    ///
    /// # Errors
    /// [`StoreError::Io`], also where there is such a file already.
    pub fn write(
        &self,
        path: &Path,
        passphrase: Option<(&SecretBuf, u8)>,
        owner: Option<(u32, u32)>,
    ) -> Result<(), StoreError> {
        let key = self.0.to_string();
        let public = self.public();
        let text = Zeroizing::new(format!("# public key: {public}\n{}\n", key.expose_secret()));
        write_new(path, owner, &|file| match passphrase {
            None => (&mut &*file).write_all(text.as_bytes()),
            Some((passphrase, factor)) => passphrase::encrypt(file, &text, passphrase, factor),
        })
    }

    /// What stands in a file that is encrypted by a passphrase.
    ///
    /// # Errors
    /// [`StoreError::Bug`]; also where the passphrase is not UTF-8.
    pub fn encrypted(&self, passphrase: &SecretBuf, factor: u8) -> Result<SecretBuf, StoreError> {
        let mut bytes = Vec::new();
        let text = self.text();
        let text = std::str::from_utf8(text.expose());
        let text = text.map_err(|error| StoreError::Bug(error.to_string()))?;
        passphrase::encrypt(&mut bytes, text, passphrase, factor)
            .map_err(|error| StoreError::Bug(error.to_string()))?;
        Ok(SecretBuf::new(bytes))
    }

    /// Writes those bytes instead: an identity that somebody else has made.
    ///
    /// # Errors
    /// As [`NewIdentity::write`].
    pub fn adopt(
        bytes: &SecretBuf,
        path: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<(), StoreError> {
        write_new(path, owner, &|file| (&mut &*file).write_all(bytes.expose()))
    }
}

fn write_new(
    path: &Path,
    owner: Option<(u32, u32)>,
    write: &dyn Fn(&File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io(path))?;
    let given = |()| match owner {
        // By descriptor: the directory may belong to that uid already.
        Some((uid, gid)) => std::os::unix::fs::fchown(&file, Some(uid), Some(gid)),
        None => Ok(()),
    };
    write(&file).and_then(given).and_then(|()| file.sync_all()).map_err(|error| {
        // Half an identity is none.
        let _ = std::fs::remove_file(path);
        StoreError::io(path)(error)
    })
}
