//! Where the identity is, and what is accepted there.

use super::super::error::StoreError;
use super::kept::KeptIdentity;
use super::{Remote, passphrase, ssh};
use crate::config::IdentityKind;
use crate::memory::SecretBuf;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// An identity file has a few hundred bytes; comments or a long RSA key may
/// make it longer.
const MAX_LEN: u64 = 64 * 1024;

/// What an identity file holds.
pub(in crate::store) struct Opened {
    pub(in crate::store) kind: IdentityKind,
    bytes: Zeroizing<Vec<u8>>,
}

impl Opened {
    pub(in crate::store) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::store) fn text(&self) -> Result<&str, StoreError> {
        // It was text when its kind was told.
        std::str::from_utf8(&self.bytes).map_err(|error| StoreError::Bug(error.to_string()))
    }
}

/// Where the identity is.
pub(in crate::store) struct IdentityFile(PathBuf);

impl IdentityFile {
    pub(in crate::store) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads it, if only the agent (and root) can.
    pub(in crate::store) fn read(&self) -> Result<Opened, StoreError> {
        let bytes = self.bytes()?;
        let refuse = |why: &str| self.refuse(why, "make one with jsi-agent init or age-keygen");
        let kind = IdentityKind::of(&bytes).map_err(refuse)?;
        let found = Opened { kind, bytes };
        if kind == IdentityKind::Plugin {
            let lines = found.text()?.lines().map(str::trim);
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                line.parse::<age::plugin::Identity>().map_err(refuse)?;
            }
        }
        Ok(found)
    }

    /// Opens what needs nobody: a key in the clear. `None`: it needs somebody.
    pub(in crate::store) fn open_alone(
        &self,
        found: &Opened,
    ) -> Result<Option<KeptIdentity>, StoreError> {
        let kept = match found.kind {
            IdentityKind::KeyFile => KeptIdentity::of_lines(found.text()?, None),
            IdentityKind::Ssh => ssh::opened(found.text()?),
            _ => return Ok(None),
        };
        kept.map(Some).map_err(|why| self.refuse(why, "make one with jsi-agent init"))
    }

    /// Opens it with what a person or another program gives. Costs a second
    /// and 256 MiB as a rule where there is a passphrase.
    ///
    /// For a systemd credential `given` may be the key itself, opened by
    /// whoever may; empty, `remote` is asked.
    pub(in crate::store) fn open_with(
        &self,
        found: &Opened,
        given: &SecretBuf,
        remote: Option<&Arc<dyn Remote>>,
    ) -> Result<KeptIdentity, StoreError> {
        let broken = |why: String| self.refuse(why, "bring it back from a backup");
        if let Some(kept) = self.open_alone(found)? {
            return Ok(kept);
        }
        match found.kind {
            IdentityKind::Passphrase => {
                let text = passphrase::decrypt(&found.bytes, given)
                    .map_err(|error| error.or_refused(&broken))?;
                KeptIdentity::of_text(&text).map_err(broken)
            }
            IdentityKind::SshPassphrase => ssh::decrypt(found.text()?, given)
                .map_err(|error| error.or_refused(&broken))
                .and_then(|text| ssh::opened(&text).map_err(broken)),
            IdentityKind::Plugin => {
                let remote = remote.ok_or_else(|| no_remote("the plugin"))?;
                KeptIdentity::of_lines(found.text()?, Some(remote)).map_err(broken)
            }
            IdentityKind::SystemdCreds { .. } => {
                let text = if given.is_empty() {
                    remote.ok_or_else(|| no_remote("systemd-creds"))?.identity()?
                } else {
                    SecretBuf::from_slice(given.expose())
                };
                let text =
                    std::str::from_utf8(text.expose()).map_err(|_| StoreError::WrongPassphrase)?;
                match KeptIdentity::of_text(text) {
                    // Given by hand, it is no worse than a mistyped passphrase.
                    Err(_) if !given.is_empty() => Err(StoreError::WrongPassphrase),
                    kept => kept.map_err(broken),
                }
            }
            IdentityKind::KeyFile | IdentityKind::Ssh => {
                Err(StoreError::Bug("a key in the clear did not open".to_owned()))
            }
        }
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let path = &self.0;
        // Not through a link, and no waiting for the other end of a pipe.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| self.cannot_open(&error))?;
        let facts = file.metadata().map_err(StoreError::io(path))?;
        let own = nix::unistd::geteuid().as_raw();
        let shown = path.display();
        if !facts.is_file() {
            return Err(self.refuse("it is not a regular file", "name a key file"));
        }
        if facts.uid() != own && facts.uid() != 0 {
            return Err(self.refuse(
                format!("it belongs to uid {}", facts.uid()),
                format!("chown {own} {shown}"),
            ));
        }
        if facts.mode() & 0o077 != 0 {
            return Err(self.refuse(
                format!("others may use it (mode {:04o})", facts.mode() & 0o7777),
                format!("chmod 0600 {shown}"),
            ));
        }
        if facts.len() > MAX_LEN {
            return Err(self.refuse("it is longer than 64 KiB", "name a key file"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 1));
        file.take(MAX_LEN).read_to_end(&mut bytes).map_err(StoreError::io(path))?;
        Ok(bytes)
    }

    fn cannot_open(&self, error: &io::Error) -> StoreError {
        let remedy = match error.raw_os_error() {
            Some(libc::ELOOP) => {
                return self.refuse("it is a symbolic link", "name the file itself");
            }
            Some(libc::ENOENT) => "make one with jsi-agent init".to_owned(),
            _ => "let the agent's user read it, and nobody else".to_owned(),
        };
        self.refuse(error.to_string(), remedy)
    }

    fn refuse(&self, why: impl Into<String>, remedy: impl Into<String>) -> StoreError {
        StoreError::Identity { path: self.0.clone(), why: why.into(), remedy: remedy.into() }
    }
}

fn no_remote(what: &str) -> StoreError {
    StoreError::Helper(format!("there is nobody here to ask {what}"))
}
