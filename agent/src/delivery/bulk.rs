//! Many secrets at once, in and out, in plain types.

use super::NewSecret;
use crate::names::CredentialName;
use crate::store::{NewValue, Restored, RotatedInfo, StoredInfo, Summary};
use tokio::sync::mpsc;

/// New values for a stored secret.
pub struct SecretRotation {
    /// Which.
    pub name: CredentialName,
    /// The values that were sent.
    pub values: Vec<NewValue>,
    /// A value that the agent makes.
    pub generate: Option<Generate>,
    /// End the leases on it.
    pub revoke: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A value to be made.
pub struct Generate {
    /// Of that field; empty: the default one.
    pub field: String,
    /// Characters.
    pub length: usize,
    /// Those to choose from.
    pub alphabet: String,
}

/// What a rotation did, or would do.
pub struct Rotated {
    /// The secret as it is stored now.
    pub rotated: RotatedInfo,
    /// Live leases that were told.
    pub leases_told: usize,
    /// Leases that were ended.
    pub leases_ended: usize,
}

/// Secrets that come in, and where the answers go, in the same order.
pub struct Importing {
    /// Where they come from, for the log.
    pub source: String,
    /// The secrets.
    pub items: mpsc::Receiver<ImportItem>,
    /// What became of them.
    pub answers: mpsc::Sender<Imported>,
}

/// One thing that comes in.
pub enum ImportItem {
    /// A secret.
    Secret(NewSecret),
    /// What was sent is none.
    Malformed(Imported),
    /// Nothing follows; without it the import was broken off.
    Last,
}

/// What became of one.
pub struct Imported {
    /// Its name as it was sent.
    pub name: String,
    /// What happened.
    pub outcome: ImportOutcome,
    /// Why it failed.
    pub reason: String,
}

/// What happened to a secret that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// Stored and read back.
    Stored,
    /// Stored in the place of another and read back.
    Replaced,
    /// There is one; it was left as it is.
    Exists,
    /// Not stored.
    Failed,
}

/// An age file on its way out, or why it is not.
pub struct Exported {
    /// Whose it is.
    pub info: StoredInfo,
    /// The file.
    pub file: Result<Vec<u8>, String>,
}

/// A part of a backup on its way out.
pub enum BackupPiece {
    /// The next bytes of the archive.
    Bytes(Vec<u8>),
    /// The end of it.
    Done(BackedUp),
}

/// What a backup holds.
pub struct BackedUp {
    /// In numbers.
    pub summary: Summary,
    /// The identity that opens it, which is not in it.
    pub identity: String,
    /// Secrets that were damaged, and were copied as they are.
    pub damaged: Vec<String>,
}

/// What a restore did, or would do.
pub struct Returned {
    /// To the store.
    pub restored: Restored,
    /// Live leases that were told.
    pub leases_told: usize,
    /// Leases that were ended.
    pub leases_ended: usize,
}
