//! What only another program can open: through a [`Remote`], which is the
//! launcher for an agent, and the plugin itself where there is no agent.

use crate::memory::SecretBuf;
use age::{DecryptError, EncryptError};
use age_core::format::{FileKey, Stanza};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The name that systemd binds into the credential (systemd-creds(1), --name=).
pub const CREDENTIAL_NAME: &str = "jsi-identity";

/// Opens what the identity's own program must open. Calls block, for as long
/// as a person may take to touch a device.
pub trait Remote: Send + Sync + 'static {
    /// The key that systemd-creds decrypts.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn identity(&self) -> Result<SecretBuf, RemoteError>;
    /// The file key that one of these stanzas wraps; `None`: none is for this identity.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, RemoteError>;
    /// Wraps a file key for this identity.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn wrap(&self, key: &FileKey) -> Result<Vec<Stanza>, RemoteError>;
}

/// Why a plugin or systemd-creds opened nothing; says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(pub String);

/// A [`Remote`] as age takes it. What went wrong is kept beside age's own
/// error, which would lose it.
pub(super) struct RemoteKey {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) failure: Arc<Mutex<Option<RemoteError>>>,
}

impl RemoteKey {
    fn fail(&self, error: RemoteError) -> io::Error {
        let shown = io::Error::other(error.to_string());
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        shown
    }
}

impl age::Identity for RemoteKey {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        match self.remote.unwrap(stanzas) {
            Ok(key) => key.map(Ok),
            Err(error) => Some(Err(DecryptError::Io(self.fail(error)))),
        }
    }
}

impl age::Recipient for RemoteKey {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let stanzas = self.remote.wrap(key).map_err(|error| EncryptError::Io(self.fail(error)))?;
        // Labels say what may stand beside a recipient, and nothing stands beside this one.
        Ok((stanzas, HashSet::new()))
    }
}
