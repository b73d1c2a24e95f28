//! Our end: a [`Remote`] that has the question answered by another process.

use super::{How, Reply, Said, What, Work};
use crate::memory::SecretBuf;
use crate::process::launcher::Launcher;
use crate::process::{PATIENCE, SeqPacket, Settings, start_unwrapping};
use crate::store::{Remote, RemoteError};
use age_core::format::{FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zeroize::Zeroizing;

/// Where no person is waited for: a TPM takes a second or two.
const ALONE: Duration = Duration::from_secs(20);

/// Through the launcher: an agent's way. A plugin that asks for a PIN gets it
/// from pinentry.
pub struct ThroughLauncher {
    launcher: Arc<Launcher>,
    /// Nobody is to be asked: at the agent's start nobody may be there.
    alone: AtomicBool,
}

impl ThroughLauncher {
    /// Asks that launcher.
    #[must_use]
    pub fn new(launcher: Arc<Launcher>) -> Self {
        Self { launcher, alone: AtomicBool::new(false) }
    }

    /// While that runs, plugins have to do without a person.
    pub fn alone<R>(&self, run: impl FnOnce() -> R) -> R {
        self.alone.store(true, Ordering::SeqCst);
        let result = run();
        self.alone.store(false, Ordering::SeqCst);
        result
    }

    fn ask(&self, what: What) -> Result<Said, RemoteError> {
        let link = self.launcher.unwrapping().map_err(|error| {
            RemoteError(format!("the launcher did not start what opens the identity: {error}"))
        })?;
        let alone = self.alone.load(Ordering::SeqCst);
        let (how, patience) = if alone { (How::Alone, ALONE) } else { (How::Pinentry, PATIENCE) };
        talk(&link, Work { what, how }, patience, None)
    }
}

/// What a plugin asks a person for, where there is a terminal.
pub trait Asking: Send + Sync + 'static {
    /// Shows a message.
    fn tell(&self, text: &str);
    /// Asks for a line; `None`: the person would not.
    fn ask(&self, text: &str, secret: bool) -> Option<SecretBuf>;
    /// Asks for a yes; `None`: there is nobody to ask.
    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool>;
}

/// Without an agent: for commands that a person runs.
pub struct Direct {
    settings: Settings,
    asking: Arc<dyn Asking>,
}

impl Direct {
    /// For the identity that those settings lead to.
    #[must_use]
    pub fn new(settings: Settings, asking: Arc<dyn Asking>) -> Self {
        Self { settings, asking }
    }

    fn ask(&self, what: What) -> Result<Said, RemoteError> {
        let (link, mut child) = start_unwrapping(&self.settings, true)
            .map_err(|error| RemoteError(format!("a process cannot be started: {error}")))?;
        let said = talk(&link, Work { what, how: How::Relay }, PATIENCE, Some(&*self.asking));
        drop(link);
        let _ = child.kill();
        let _ = child.wait();
        said
    }
}

fn talk(
    link: &SeqPacket,
    work: Work,
    patience: Duration,
    asking: Option<&dyn Asking>,
) -> Result<Said, RemoteError> {
    let broken = |why: String| RemoteError(format!("opening the identity broke off: {why}"));
    let bytes = postcard::to_stdvec(&work).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| broken(error.to_string()))?;
    link.send(&bytes, &[]).map_err(|error| broken(error.to_string()))?;
    drop((work, bytes));
    loop {
        let received = link.recv_secret(patience).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => RemoteError(format!(
                "nothing opened the identity within {} seconds; is the device there, and does \
                 it wait for a PIN or a touch?",
                patience.as_secs()
            )),
            _ => broken(error.to_string()),
        })?;
        let bytes = received.ok_or_else(|| broken("the process ended without an answer".into()))?;
        let said =
            postcard::from_bytes::<Said>(&bytes).map_err(|error| broken(error.to_string()))?;
        let reply = match (said, asking) {
            (Said::Failed(why), _) => return Err(RemoteError(why)),
            (Said::Message(text), Some(asking)) => {
                asking.tell(&text);
                continue;
            }
            (Said::Message(_), None) => continue,
            (Said::Asked { text, secret }, Some(asking)) => asking.ask(&text, secret),
            (Said::Confirm { text, yes, no }, Some(asking)) => asking
                .confirm(&text, &yes, no.as_deref())
                .map(|yes| SecretBuf::from_slice(if yes { b"yes" } else { b"no" })),
            (Said::Asked { .. } | Said::Confirm { .. }, None) => None,
            (answer, _) => return Ok(answer),
        };
        let reply = Reply(reply.map(|bytes| bytes.expose().to_vec()));
        let bytes = postcard::to_stdvec(&reply).map(Zeroizing::new);
        let bytes = bytes.map_err(|error| broken(error.to_string()))?;
        link.send(&bytes, &[]).map_err(|error| broken(error.to_string()))?;
    }
}

fn nonsense() -> RemoteError {
    RemoteError("opening the identity broke off: an answer to another question".to_owned())
}

fn identity(said: Said) -> Result<SecretBuf, RemoteError> {
    match said {
        Said::Identity(bytes) => Ok(SecretBuf::new(bytes)),
        _ => Err(nonsense()),
    }
}

fn key(said: Said) -> Result<Option<FileKey>, RemoteError> {
    match said {
        Said::Key(key) => {
            let key = key.map(Zeroizing::new);
            Ok(key.map(|key| FileKey::init_with_mut(|bytes| bytes.copy_from_slice(&*key))))
        }
        _ => Err(nonsense()),
    }
}

fn stanzas(said: Said) -> Result<Vec<Stanza>, RemoteError> {
    match said {
        Said::Stanzas(stanzas) => Ok(stanzas.into_iter().map(Stanza::from).collect()),
        _ => Err(nonsense()),
    }
}

impl Remote for ThroughLauncher {
    fn identity(&self) -> Result<SecretBuf, RemoteError> {
        identity(self.ask(What::Identity)?)
    }
    fn unwrap(&self, from: &[Stanza]) -> Result<Option<FileKey>, RemoteError> {
        key(self.ask(What::Unwrap(from.iter().map(super::WireStanza::from).collect()))?)
    }
    fn wrap(&self, key: &FileKey) -> Result<Vec<Stanza>, RemoteError> {
        stanzas(self.ask(What::Wrap(*key.expose_secret()))?)
    }
}

impl Remote for Direct {
    fn identity(&self) -> Result<SecretBuf, RemoteError> {
        identity(self.ask(What::Identity)?)
    }
    fn unwrap(&self, from: &[Stanza]) -> Result<Option<FileKey>, RemoteError> {
        key(self.ask(What::Unwrap(from.iter().map(super::WireStanza::from).collect()))?)
    }
    fn wrap(&self, key: &FileKey) -> Result<Vec<Stanza>, RemoteError> {
        stanzas(self.ask(What::Wrap(*key.expose_secret()))?)
    }
}
