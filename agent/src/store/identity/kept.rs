//! An identity that is open, and how it rests in memory.

use super::super::error::StoreError;
use super::remote::{Remote, RemoteError, RemoteKey};
use super::ssh;
use crate::memory::{SecretBuf, Shield, Shielded};
use age::x25519;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// An identity that is open. The one place that decides how it rests in memory.
pub(in crate::store) struct KeptIdentity {
    form: Form,
    text: Text,
    /// The journal key, where it does not follow from the identity.
    journal: Option<Text>,
}

/// What the text is.
enum Form {
    /// `AGE-SECRET-KEY-1…`, one a line.
    Lines,
    /// An OpenSSH private key without a passphrase.
    Ssh,
    /// `AGE-PLUGIN-…`: no secret by itself; the plugin is asked each time.
    Plugin(Arc<dyn Remote>),
}

enum Text {
    /// In wiped heap memory.
    Bare(SecretBuf),
    /// The same, shielded: opened for each use and wiped after it.
    Shielded(Arc<Shield>, Shielded),
}

impl Text {
    fn behind(self, shield: &Arc<Shield>) -> Result<Self, StoreError> {
        match self {
            Self::Bare(text) => {
                let sealed = shield.seal(text.expose());
                let sealed = sealed.map_err(|error| StoreError::Bug(error.to_string()))?;
                Ok(Self::Shielded(shield.clone(), sealed))
            }
            Self::Shielded(..) => Ok(self),
        }
    }

    fn with<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> Result<R, StoreError> {
        match self {
            Self::Bare(text) => Ok(use_it(text.expose())),
            Self::Shielded(shield, text) => {
                let opened = shield.open(text).map_err(|error| bug(&error.to_string()))?;
                Ok(use_it(opened.expose()))
            }
        }
    }
}

/// Keys for one use.
pub(in crate::store) struct Keys {
    identities: Vec<Box<dyn age::Identity>>,
    failure: Arc<Mutex<Option<RemoteError>>>,
}

impl Keys {
    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(Box::as_ref)
    }

    /// Why the other program opened nothing, if it was asked and failed.
    pub(in crate::store) fn failure(&self) -> Option<RemoteError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const KEY_PREFIX: &str = "AGE-SECRET-KEY-1";

impl KeptIdentity {
    /// Keeps the keys of a text that was encrypted: age keys, or an SSH key.
    pub(super) fn of_text(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with("-----BEGIN OPENSSH") {
            return ssh::opened(text);
        }
        Self::of_lines(text, None)
    }

    /// Keeps the keys of that text, one a line; comments and blank lines go.
    /// With `remote`: the lines of a plugin.
    pub(super) fn of_lines(text: &str, remote: Option<&Arc<dyn Remote>>) -> Result<Self, String> {
        let mut keys = Zeroizing::new(String::with_capacity(text.len() + 1));
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("one of its keys is malformed ({why})");
            if remote.is_some() {
                line.parse::<age::plugin::Identity>().map_err(wrong)?;
            } else if line.starts_with(KEY_PREFIX) {
                line.parse::<x25519::Identity>().map_err(wrong)?;
            } else {
                return Err("a line in it is neither a comment nor an AGE-SECRET-KEY-1…".into());
            }
            keys.push_str(line);
            keys.push('\n');
        }
        if keys.is_empty() {
            return Err(format!("there is no {KEY_PREFIX}… in it"));
        }
        let form = remote.map_or(Form::Lines, |remote| Form::Plugin(Arc::clone(remote)));
        let text = Text::Bare(SecretBuf::from_slice(keys.as_bytes()));
        Ok(Self { form, text, journal: None })
    }

    /// Keeps an SSH key that was checked.
    pub(super) fn of_ssh(text: &str) -> Self {
        let text = Text::Bare(SecretBuf::from_slice(text.as_bytes()));
        Self { form: Form::Ssh, text, journal: None }
    }

    /// The same behind a shield, if there is one.
    pub(in crate::store) fn behind(self, shield: Option<&Arc<Shield>>) -> Result<Self, StoreError> {
        let Some(shield) = shield else { return Ok(self) };
        let journal = self.journal.map(|key| key.behind(shield)).transpose()?;
        Ok(Self { form: self.form, text: self.text.behind(shield)?, journal })
    }

    /// Each use asks another program.
    pub(in crate::store) fn is_remote(&self) -> bool {
        matches!(self.form, Form::Plugin(_))
    }

    /// Takes a journal key of its own.
    pub(in crate::store) fn with_journal_key(self, key: SecretBuf) -> Self {
        Self { journal: Some(Text::Bare(key)), ..self }
    }

    /// The journal key of its own, if it has one.
    pub(in crate::store) fn own_journal_key(&self) -> Option<SecretBuf> {
        self.journal.as_ref()?.with(SecretBuf::from_slice).ok()
    }

    /// What a journal key can be derived from: the first key's secret.
    pub(in crate::store) fn material(&self) -> Option<SecretBuf> {
        let material = self.text.with(|bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            match self.form {
                Form::Lines => {
                    text.lines().next().map(|line| SecretBuf::from_slice(line.as_bytes()))
                }
                Form::Ssh => ssh::material(text),
                Form::Plugin(_) => None,
            }
        });
        material.ok().flatten()
    }

    /// The keys; the first is the one that new files are sealed for.
    pub(in crate::store) fn keys(&self) -> Result<Keys, StoreError> {
        let failure = Arc::default();
        let identities = self.text.with(|bytes| self.form.identities(bytes, &failure))??;
        Ok(Keys { identities, failure })
    }

    /// Whom new files are sealed for.
    pub(in crate::store) fn recipient(&self) -> Result<Box<dyn age::Recipient>, StoreError> {
        self.text.with(|bytes| self.form.recipient(bytes))?
    }
}

impl Form {
    fn identities(
        &self,
        bytes: &[u8],
        failure: &Arc<Mutex<Option<RemoteError>>>,
    ) -> Result<Vec<Box<dyn age::Identity>>, StoreError> {
        let mut found: Vec<Box<dyn age::Identity>> = Vec::new();
        match self {
            Self::Lines => {
                for line in text(bytes)?.lines() {
                    found.push(Box::new(line.parse::<x25519::Identity>().map_err(bug)?));
                }
            }
            Self::Ssh => found.push(Box::new(ssh::parse(text(bytes)?).map_err(|why| bug(&why))?)),
            Self::Plugin(remote) => {
                let (remote, failure) = (Arc::clone(remote), Arc::clone(failure));
                found.push(Box::new(RemoteKey { remote, failure }));
            }
        }
        Ok(found)
    }

    fn recipient(&self, bytes: &[u8]) -> Result<Box<dyn age::Recipient>, StoreError> {
        Ok(match self {
            Self::Lines => {
                let first = text(bytes)?.lines().next().ok_or_else(|| bug("it has no key"))?;
                Box::new(first.parse::<x25519::Identity>().map_err(bug)?.to_public())
            }
            Self::Ssh => {
                let key = ssh::parse(text(bytes)?).and_then(|key| ssh::recipient(&key));
                Box::new(key.map_err(|why| bug(&why))?)
            }
            Self::Plugin(remote) => {
                Box::new(RemoteKey { remote: Arc::clone(remote), failure: Arc::default() })
            }
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| bug("it is not text"))
}

fn bug(why: &str) -> StoreError {
    StoreError::Bug(format!("the kept identity is malformed: {why}"))
}
