//! The store's age identity: what it can be, how it opens, and how it rests.
//!
//! A key file as age-keygen writes it, an SSH key, either of them with a
//! passphrase, an age plugin, or a key that systemd has encrypted. What only
//! another program can open, goes through [`Remote`].

mod file;
mod kept;
mod new;
mod passphrase;
mod remote;
mod ssh;

pub use new::{DEFAULT_WORK_FACTOR, NewIdentity};
pub use remote::{CREDENTIAL_NAME, Remote, RemoteError};

pub(super) use file::IdentityFile;
pub(super) use kept::{KeptIdentity, Keys};
