//! Opening what only another program can open, in a process of its own: the
//! questions and answers, and both ends of the socket.

mod asker;
mod server;
pub mod systemd;

pub use asker::{Asking, Direct, ThroughLauncher};
pub use server::answer;

use age_core::format::Stanza;
use serde::{Deserialize, Serialize};

/// The one question.
#[derive(Serialize, Deserialize)]
struct Work {
    what: What,
    how: How,
}

#[derive(Serialize, Deserialize)]
enum What {
    /// Decrypt the systemd credential.
    Identity,
    /// Find the file key in one of these.
    Unwrap(Vec<WireStanza>),
    /// Wrap this file key.
    Wrap([u8; 16]),
}

/// Who answers a plugin that asks for a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    /// Nobody: it has to open by itself.
    Alone,
    /// pinentry.
    Pinentry,
    /// The other end of the socket.
    Relay,
}

/// What comes back: some messages, then an answer.
#[derive(Serialize, Deserialize)]
enum Said {
    /// The credential's content.
    Identity(Vec<u8>),
    /// The file key; `None`: no stanza is for this identity.
    Key(Option<[u8; 16]>),
    /// The wrapped key.
    Stanzas(Vec<WireStanza>),
    /// Why not, and what to do.
    Failed(String),
    /// The plugin has something to tell ([`How::Relay`]).
    Message(String),
    /// The plugin asks; to be answered by [`Reply`].
    Asked { text: String, secret: bool },
    /// The plugin asks for a yes.
    Confirm { text: String, yes: String, no: Option<String> },
}

/// `None`: the person would not, or there is none.
#[derive(Serialize, Deserialize)]
struct Reply(Option<Vec<u8>>);

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(bytes) = &mut self.0 {
            zeroize::Zeroize::zeroize(bytes);
        }
    }
}

/// A stanza of an age header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireStanza {
    tag: String,
    args: Vec<String>,
    body: Vec<u8>,
}

impl From<&Stanza> for WireStanza {
    fn from(stanza: &Stanza) -> Self {
        let Stanza { tag, args, body } = stanza;
        Self { tag: tag.clone(), args: args.clone(), body: body.clone() }
    }
}

impl From<WireStanza> for Stanza {
    fn from(stanza: WireStanza) -> Self {
        Self { tag: stanza.tag, args: stanza.args, body: stanza.body }
    }
}
