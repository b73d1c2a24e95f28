//! The store's age identity: a key file as age-keygen writes it, or the same
//! encrypted by a passphrase.

use super::error::StoreError;
use crate::memory::{SecretBuf, Shield, Shielded};
use age::secrecy::{ExposeSecret, SecretString};
use age::x25519;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// scrypt's log2(N) for a new passphrase: what the `age` tool takes; about a
/// second and 256 MiB.
pub const DEFAULT_WORK_FACTOR: u8 = 18;

/// The highest that is accepted, as the `age` tool: 4 GiB.
const MAX_WORK_FACTOR: u8 = 22;

/// An identity file has a few hundred bytes; comments may make it longer.
const MAX_LEN: u64 = 64 * 1024;

const KEY_PREFIX: &str = "AGE-SECRET-KEY-1";

/// An identity that is open. The one place that decides how it rests in memory.
pub(super) enum KeptIdentity {
    /// The keys' text, in wiped heap memory.
    Bare(SecretBuf),
    /// The same, shielded: opened for each use and wiped after it.
    Shielded(Arc<Shield>, Shielded),
}

impl KeptIdentity {
    /// Keeps the keys of that text, one a line; comments and blank lines go.
    fn from_text(text: &str) -> Result<Self, String> {
        let mut keys = Zeroizing::new(String::with_capacity(text.len() + 1));
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.starts_with(KEY_PREFIX) {
                return Err(unsupported(line).to_owned());
            }
            line.parse::<x25519::Identity>()
                .map_err(|why| format!("one of its keys is malformed ({why})"))?;
            keys.push_str(line);
            keys.push('\n');
        }
        if keys.is_empty() {
            return Err(format!("there is no {KEY_PREFIX}… in it"));
        }
        Ok(Self::Bare(SecretBuf::from_slice(keys.as_bytes())))
    }

    /// The same behind a shield, if there is one.
    pub(super) fn behind(self, shield: Option<&Arc<Shield>>) -> Result<Self, StoreError> {
        match (self, shield) {
            (Self::Bare(text), Some(shield)) => {
                let sealed = shield.seal(text.expose());
                let sealed = sealed.map_err(|error| StoreError::Bug(error.to_string()))?;
                Ok(Self::Shielded(shield.clone(), sealed))
            }
            (kept, _) => Ok(kept),
        }
    }

    /// The keys; the first is the one that new files are sealed for.
    pub(super) fn identities(&self) -> Result<Vec<x25519::Identity>, StoreError> {
        let bug = |why: &str| StoreError::Bug(format!("the kept identity is malformed: {why}"));
        let opened;
        let bytes = match self {
            Self::Bare(text) => text.expose(),
            Self::Shielded(shield, text) => {
                opened = shield.open(text).map_err(|error| bug(&error.to_string()))?;
                opened.expose()
            }
        };
        let text = std::str::from_utf8(bytes).map_err(|_| bug("it is not text"))?;
        text.lines().map(|line| line.parse().map_err(bug)).collect()
    }

    /// Whom new files are sealed for.
    pub(super) fn recipient(&self) -> Result<x25519::Recipient, StoreError> {
        let identities = self.identities()?;
        let first = identities.first();
        first
            .map(x25519::Identity::to_public)
            .ok_or_else(|| StoreError::Bug("the kept identity has no key".to_owned()))
    }
}

fn unsupported(line: &str) -> &'static str {
    if line.starts_with("AGE-PLUGIN-") {
        "it is a plugin identity, which this version does not open"
    } else if line.starts_with("-----BEGIN") {
        "it is an SSH key or another PEM file, which this version does not open"
    } else {
        "a line in it is neither a comment nor an AGE-SECRET-KEY-1…"
    }
}

/// What an identity file holds.
pub(super) enum Opened {
    /// A key file.
    Plain(KeptIdentity),
    /// A key file encrypted by a passphrase: these bytes.
    Encrypted(Vec<u8>),
}

/// Where the identity is.
pub(super) struct IdentityFile(PathBuf);

impl IdentityFile {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Reads it, if only the agent (and root) can.
    pub(super) fn read(&self) -> Result<Opened, StoreError> {
        let bytes = self.bytes()?;
        if bytes.starts_with(b"age-encryption.org/")
            || bytes.trim_ascii_start().starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
        {
            return Ok(Opened::Encrypted(bytes.to_vec()));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| self.refuse("it is not text", "make one with jsi-agent init"))?;
        KeptIdentity::from_text(text)
            .map(Opened::Plain)
            .map_err(|why| self.refuse(why, "make one with jsi-agent init or age-keygen"))
    }

    /// Opens the encrypted one. Costs a second and 256 MiB as a rule.
    pub(super) fn decrypt(
        &self,
        bytes: &[u8],
        passphrase: &SecretBuf,
    ) -> Result<KeptIdentity, StoreError> {
        use age::DecryptError as Age;
        let broken = |why: String| self.refuse(why, "bring it back from a backup");
        let passphrase =
            std::str::from_utf8(passphrase.expose()).map_err(|_| StoreError::WrongPassphrase)?;
        let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
        identity.set_max_work_factor(MAX_WORK_FACTOR);
        let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(bytes))
            .map_err(|error| broken(error.to_string()))?;
        if !decryptor.is_scrypt() {
            return Err(broken("it is encrypted, but not by a passphrase".to_owned()));
        }
        let mut reader =
            decryptor.decrypt(std::iter::once(&identity as _)).map_err(|error| match error {
                Age::DecryptionFailed | Age::KeyDecryptionFailed | Age::NoMatchingKeys => {
                    StoreError::WrongPassphrase
                }
                error => broken(error.to_string()),
            })?;
        // Longer than the text can be: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
        reader.read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
        KeptIdentity::from_text(&text).map_err(broken)
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
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io(path))?;
        let written = match passphrase {
            None => plain(&file, &text),
            Some((passphrase, factor)) => encrypted(&file, &text, passphrase, factor),
        };
        let given = |()| match owner {
            // By descriptor: the directory may belong to that uid already.
            Some((uid, gid)) => std::os::unix::fs::fchown(&file, Some(uid), Some(gid)),
            None => Ok(()),
        };
        written.and_then(given).and_then(|()| file.sync_all()).map_err(|error| {
            // Half an identity is none.
            let _ = std::fs::remove_file(path);
            StoreError::io(path)(error)
        })
    }
}

fn plain(mut file: &File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())
}

fn encrypted(file: &File, text: &str, passphrase: &SecretBuf, factor: u8) -> io::Result<()> {
    let passphrase = std::str::from_utf8(passphrase.expose())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the passphrase is not UTF-8"))?;
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase));
    recipient.set_work_factor(factor);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _))
        .map_err(io::Error::other)?;
    let armored = age::armor::ArmoredWriter::wrap_output(file, age::armor::Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armored)?;
    writer.write_all(text.as_bytes())?;
    writer.finish()?.finish()?;
    Ok(())
}
