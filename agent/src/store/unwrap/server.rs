//! The other end: a process that lives for one question. It reads the identity
//! from where configuration has it, and runs its program.

use super::{How, Reply, Said, What, WireStanza, Work, systemd};
use crate::config::{Config, IdentityKind};
use crate::memory::SecretBuf;
use crate::process::pinentry::{Pinentry, Question};
use crate::process::{PATIENCE, SeqPacket};
use crate::store::identity::IdentityFile;
use age::plugin::{Identity, IdentityPluginV1, Recipient, RecipientPluginV1};
use age::secrecy::SecretString;
use age::{Callbacks, Identity as _, Recipient as _};
use age_core::format::FileKey;
use age_core::secrecy::ExposeSecret;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// Answers the one question that comes on the socket.
///
/// # Errors
/// When the socket fails: then there is nobody to tell.
pub fn answer(link: OwnedFd, config: Config) -> io::Result<()> {
    let link = SeqPacket::new(link);
    let Some(bytes) = link.recv_secret(PATIENCE)? else { return Ok(()) };
    let work: Work = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    drop(bytes);
    let person = Person {
        how: work.how,
        link: Arc::new(Mutex::new(link)),
        pinentry: config.pinentry.clone(),
        trouble: Arc::default(),
    };
    let said = work_on(&config, work.what, &person).unwrap_or_else(Said::Failed);
    person.send(&said)
}

fn work_on(config: &Config, what: What, person: &Person) -> Result<Said, String> {
    let file = IdentityFile::at(&config.identity);
    let found = file.read().map_err(|error| error.to_string())?;
    match (what, found.kind) {
        (What::Identity, IdentityKind::SystemdCreds { .. }) => {
            systemd::decrypt(found.bytes()).map(|text| Said::Identity(text.expose().to_vec()))
        }
        (What::Unwrap(stanzas), IdentityKind::Plugin) => {
            let plugin = Plugin::of(found.text().map_err(|error| error.to_string())?)?;
            plugin.unwrap(stanzas, person)
        }
        (What::Wrap(key), IdentityKind::Plugin) => {
            let key = Zeroizing::new(key);
            let plugin = Plugin::of(found.text().map_err(|error| error.to_string())?)?;
            plugin.wrap(&FileKey::init_with_mut(|to| to.copy_from_slice(&*key)), person)
        }
        (_, kind) => Err(format!(
            "the identity {} has changed meanwhile: it is a {}",
            config.identity.display(),
            kind.name()
        )),
    }
}

/// An identity file of a plugin.
struct Plugin {
    name: String,
    identities: Vec<Identity>,
    /// Named in its comments, as age-plugin-… --generate writes them.
    recipients: Vec<Recipient>,
}

impl Plugin {
    fn of(text: &str) -> Result<Self, String> {
        let lines = || text.lines().map(str::trim);
        let keys = lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities = keys.map(str::parse).collect::<Result<Vec<Identity>, _>>()?;
        let name = identities.first().map(|first| first.plugin().to_owned()).unwrap_or_default();
        if identities.iter().any(|identity| identity.plugin() != name) {
            return Err("its lines are for different plugins; keep one in one file".to_owned());
        }
        // The first key's: the others are to open older files.
        let recipients = lines()
            .filter(|line| line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.parse::<Recipient>().ok())
            .filter(|recipient| recipient.plugin() == name)
            .take(1);
        Ok(Self { recipients: recipients.collect(), identities, name })
    }

    fn unwrap(&self, stanzas: Vec<WireStanza>, person: &Person) -> Result<Said, String> {
        let plugin = IdentityPluginV1::new(&self.name, &self.identities, person.clone())
            .map_err(|_| self.missing())?;
        let stanzas: Vec<_> = stanzas.into_iter().map(Into::into).collect();
        match plugin.unwrap_stanzas(&stanzas) {
            None => match person.trouble() {
                Some(trouble) => Err(self.failed(&trouble)),
                None => Ok(Said::Key(None)),
            },
            Some(Ok(key)) => Ok(Said::Key(Some(*key.expose_secret()))),
            Some(Err(error)) => {
                Err(self.failed(&person.trouble().unwrap_or_else(|| error.to_string())))
            }
        }
    }

    fn wrap(&self, key: &FileKey, person: &Person) -> Result<Said, String> {
        let identities: &[Identity] = if self.recipients.is_empty() {
            self.identities.get(..1).unwrap_or_default()
        } else {
            &[]
        };
        let plugin =
            RecipientPluginV1::new(&self.name, &self.recipients, identities, person.clone())
                .map_err(|_| self.missing())?;
        match plugin.wrap_file_key(key) {
            Ok((stanzas, _)) => Ok(Said::Stanzas(stanzas.iter().map(WireStanza::from).collect())),
            Err(error) => Err(self.failed(&person.trouble().unwrap_or_else(|| error.to_string()))),
        }
    }

    fn missing(&self) -> String {
        let places = std::env::var("PATH").unwrap_or_default().replace(':', ", ");
        format!(
            "the plugin age-plugin-{} is in none of {places}; install it there, or name its \
             directory in agent.toml (plugin_dirs)",
            self.name
        )
    }

    fn failed(&self, why: &str) -> String {
        // age sets marks of text direction round what it quotes.
        let shown = why.chars().filter(|c| !matches!(c, '\u{2066}'..='\u{2069}'));
        let why: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("the plugin age-plugin-{} did not do it: {:.400}", self.name, why.trim())
    }
}

/// Whoever answers the plugin's questions.
#[derive(Clone)]
struct Person {
    how: How,
    link: Arc<Mutex<SeqPacket>>,
    pinentry: PathBuf,
    /// Why a question was not answered: plugins say less.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Person {
    fn send(&self, said: &Said) -> io::Result<()> {
        let bytes = Zeroizing::new(postcard::to_stdvec(said).map_err(io::Error::other)?);
        self.link.lock().unwrap_or_else(PoisonError::into_inner).send(&bytes, &[])
    }

    fn relayed(&self, said: &Said) -> Option<SecretBuf> {
        self.send(said).ok()?;
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = link.recv_secret(PATIENCE).ok()??;
        let mut reply: Reply = postcard::from_bytes(&bytes).ok()?;
        reply.0.take().map(SecretBuf::new)
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail<T>(&self, why: impl ToString) -> Option<T> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
        None
    }

    fn asked(&self, text: &str, secret: bool) -> Option<SecretBuf> {
        let answer = match self.how {
            How::Alone => {
                return self
                    .fail("it asks for a PIN or another answer; jsi unlock has it asked for");
            }
            How::Relay => self.relayed(&Said::Asked { text: text.to_owned(), secret }),
            How::Pinentry => {
                let started = Pinentry::start(&self.pinentry, Duration::from_secs(60));
                let question = Question { description: text, prompt: "PIN:", ..Default::default() };
                match started.and_then(|mut pinentry| pinentry.ask(question)) {
                    Ok(answer) => answer,
                    Err(error) => return self.fail(error),
                }
            }
        };
        if answer.is_none() {
            return self.fail("its question was cancelled");
        }
        answer
    }
}

impl Callbacks for Person {
    fn display_message(&self, message: &str) {
        if self.how == How::Relay {
            // A message that nobody sees stops nothing.
            let _ = self.send(&Said::Message(message.to_owned()));
        }
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        match self.how {
            How::Alone => self.fail("it asks for a confirmation; jsi unlock has it asked for"),
            How::Relay => {
                let (text, yes) = (message.to_owned(), yes.to_owned());
                let said = Said::Confirm { text, yes, no: no.map(str::to_owned) };
                Some(self.relayed(&said)?.same(b"yes"))
            }
            How::Pinentry => {
                let started = Pinentry::start(&self.pinentry, Duration::from_secs(60));
                match started.and_then(|mut pinentry| pinentry.confirm(message, yes, no)) {
                    Ok(answer) => Some(answer),
                    Err(error) => self.fail(error),
                }
            }
        }
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        let answer = self.asked(description, false)?;
        String::from_utf8(answer.expose().to_vec()).ok()
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        let answer = self.asked(description, true)?;
        std::str::from_utf8(answer.expose()).ok().map(SecretString::from)
    }
}
