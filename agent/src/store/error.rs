//! Why the store refuses.

use crate::names::CredentialName;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store refuses.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The identity is not open.
    #[error("the secret store is locked; unlock it with: jsi unlock")]
    Locked,
    /// Not the identity's passphrase.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// A plugin or systemd-creds did not open it.
    #[error("{0}")]
    Helper(String),
    /// There is no such secret.
    #[error("no secret is stored for {0}")]
    Missing(CredentialName),
    /// There is one already.
    #[error("a secret is stored for {0} already; say that it may be replaced")]
    Exists(CredentialName),
    /// Owner or purpose is missing.
    #[error("a secret needs an {0}; say who answers for it and what it is for")]
    Incomplete(&'static str),
    /// The secret has no such field.
    #[error(
        "{name} has no field {field:?}; it has {has}, and jsi secret put --replace gives it others"
    )]
    NoField {
        /// The secret.
        name: CredentialName,
        /// What was asked for.
        field: String,
        /// What there is.
        has: String,
    },
    /// New values that make no secret.
    #[error("{0}")]
    Unfit(String),
    /// What was stored is not what is read back.
    #[error("{0} was stored, and is another when it is read back; do not remove its source")]
    NotReadBack(CredentialName),
    /// A backup, restore or export is under way.
    #[error("a backup, restore or export is under way already; try again when it is done")]
    Busy,
    /// The store holds secrets that a restore would replace.
    #[error("the store holds {0} secrets already; say that they may be replaced (--replace)")]
    Occupied(usize),
    /// A backup cannot be used, or not be written.
    #[error("the backup cannot be used: {0}; nothing has changed")]
    Archive(String),
    /// A backup whose seal this identity did not make.
    #[error(
        "the backup was not sealed under this agent's identity: it was made under another, or \
        somebody has altered it; put that identity back, or say that the seal does not matter \
        (--unsealed); nothing has changed"
    )]
    ForeignArchive,
    /// The layout of files cannot hold the name.
    #[error("{0} cannot be stored: no part of a name before the last may end in .age or .json")]
    Unstorable(CredentialName),
    /// Cut short, altered, moved, or sealed for another identity.
    #[error("{file} cannot be used: {why}; put the secret again, or bring the file and its .json \
        back from a backup", file = file.display())]
    Damaged {
        /// The age file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The identity is unusable, or others could read it.
    #[error("the identity {path} cannot be used: {why}; {remedy}", path = path.display())]
    Identity {
        /// The identity's file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Others may write the directory.
    #[error("others may write {path}; chmod go-w {path}", path = path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else uses the store.
    #[error("{}", in_use(dir, *rekeying))]
    InUse {
        /// The store.
        dir: PathBuf,
        /// It is being given another identity.
        rekeying: bool,
    },
    /// The file system refused.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A fault of the agent itself.
    #[error("fault in the agent's store: {0}")]
    Bug(String),
}

fn in_use(dir: &Path, rekeying: bool) -> String {
    let dir = dir.display();
    if rekeying {
        return format!(
            "the store {dir} is being given another identity; wait for jsi-agent rekey"
        );
    }
    format!("an agent uses the store {dir}; stop it first (jsi-agent -k, or the service)")
}

impl From<super::RemoteError> for StoreError {
    fn from(error: super::RemoteError) -> Self {
        Self::Helper(error.to_string())
    }
}

impl StoreError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}
