//! The launcher: starts pinentry, exec issuers and checks. It reads its
//! commands from configuration itself; a message names one by key and never
//! carries a path.

use super::SeqPacket;
use crate::config::Config;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;

/// The broker asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the [`Reply`].
    pub id: u64,
    /// What for.
    pub ask: Ask,
}

/// What the launcher can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Are you there?
    Ping,
    /// Start the command that configuration has under this key.
    Start {
        /// The key, never a path.
        key: String,
    },
}

/// The launcher answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// That of the [`Request`].
    pub id: u64,
    /// What came of it.
    pub answer: Answer,
}

/// What the launcher can answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Ping`].
    Pong,
    /// Nothing was started, and why.
    Refused(String),
}

/// Serves the broker until it ends.
///
/// # Errors
/// When the link fails, or brings what is not a request: a broker that speaks
/// nonsense is not to be served.
pub fn run(link: OwnedFd, config: Config) -> io::Result<()> {
    let link = SeqPacket::new(link);
    while let Some((bytes, fds)) = link.recv()? {
        drop(fds);
        let request: Request = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        let reply = Reply { id: request.id, answer: answer(&config, request.ask) };
        link.send(&postcard::to_stdvec(&reply).map_err(io::Error::other)?, &[])?;
    }
    Ok(())
}

fn answer(_config: &Config, ask: Ask) -> Answer {
    match ask {
        Ask::Ping => Answer::Pong,
        // No issuer and no approval names a command yet, so no key is known.
        Ask::Start { key } => {
            let key: String = key.chars().take(64).collect();
            Answer::Refused(format!("configuration names no command {key:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn launcher() -> (SeqPacket, std::thread::JoinHandle<io::Result<()>>) {
        let kind = SockType::SeqPacket;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let config = crate::config::load(None, Some(crate::config::Mode::User)).unwrap();
        (SeqPacket::new(ours), std::thread::spawn(move || run(theirs, config)))
    }

    fn ask(link: &SeqPacket, id: u64, ask: Ask) -> Reply {
        link.send(&postcard::to_stdvec(&Request { id, ask }).unwrap(), &[]).unwrap();
        postcard::from_bytes(&link.recv().unwrap().unwrap().0).unwrap()
    }

    #[test]
    fn the_launcher_answers_and_ends_with_its_link() {
        let (link, thread) = launcher();
        assert_eq!(ask(&link, 7, Ask::Ping), Reply { id: 7, answer: Answer::Pong });
        drop(link);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_command_that_configuration_does_not_name_is_not_started() {
        let (link, _thread) = launcher();
        for key in ["pinentry", "/bin/sh", ""] {
            let reply = ask(&link, 1, Ask::Start { key: key.to_owned() });
            assert!(
                matches!(reply.answer, Answer::Refused(why) if why.contains("names no command"))
            );
        }
    }

    #[test]
    fn a_broker_that_speaks_nonsense_is_not_served() {
        let (link, thread) = launcher();
        link.send(&[0xFF; 40], &[]).unwrap();
        assert!(thread.join().unwrap().is_err());
    }
}
