//! Stage 7: one file or folder for each protocol that the agent speaks.
//!
//! A protocol turns bytes into the plain questions of [`Backend`] and its
//! answers into bytes; it decides nothing. The pipeline implements [`Backend`].

mod backend;
mod bulk;
mod failure;
pub mod grpc;

pub use backend::{
    Ask, Backend, BindingAsk, Checked, CredentialInfo, Delivered, Explained, LeaseFilter,
    LockReport, NewSecret, Reloaded, Resources, StatusReport, Watch,
};
pub use bulk::{
    BackedUp, BackupPiece, Exported, Generate, ImportItem, ImportOutcome, Imported, Importing,
    Returned, Rotated, SecretRotation,
};
pub use failure::Failure;
