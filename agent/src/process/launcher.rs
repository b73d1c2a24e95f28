//! The launcher: starts what opens the identity, exec issuers and checks. It
//! reads its commands from configuration itself; a message names one by key and
//! never carries a path.

use super::unwrapping;
use super::{SeqPacket, Settings};
use crate::config::Config;
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Processes that open the identity at once: a device answers one at a time.
const MAX_UNWRAPPING: usize = 4;

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
    /// Start the process that asks the identity's plugin, or systemd-creds. It
    /// answers on the one descriptor that comes with this.
    Unwrap,
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
    /// To [`Ask::Unwrap`]: it runs.
    Started,
    /// Nothing was started, and why.
    Refused(String),
}

/// The broker's side.
pub struct Launcher {
    link: Mutex<SeqPacket>,
    next: AtomicU64,
}

impl Launcher {
    /// Takes the link.
    #[must_use]
    pub fn connect(link: OwnedFd) -> Self {
        Self { link: Mutex::new(SeqPacket::new(link)), next: AtomicU64::new(1) }
    }

    /// Starts a process that opens the identity; gives the socket to talk with it.
    /// Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the launcher refuses or has ended.
    pub fn unwrapping(&self) -> io::Result<SeqPacket> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = postcard::to_stdvec(&Request { id, ask: Ask::Unwrap });
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.send(&request.map_err(io::Error::other)?, &[theirs.as_fd()])?;
        drop(theirs);
        let gone = || io::Error::other("the launcher has ended");
        let (bytes, _) = link.recv()?.ok_or_else(gone)?;
        match postcard::from_bytes::<Reply>(&bytes).map_err(io::Error::other)? {
            Reply { id: answered, answer: Answer::Started } if answered == id => {
                Ok(SeqPacket::new(ours))
            }
            Reply { answer: Answer::Refused(why), .. } => Err(io::Error::other(why)),
            _ => Err(io::Error::other("the launcher answered nonsense")),
        }
    }
}

/// Serves the broker until it ends.
///
/// # Errors
/// When the link fails, or brings what is not a request: a broker that speaks
/// nonsense is not to be served.
pub fn run(link: OwnedFd, _config: Config, settings: Settings) -> io::Result<()> {
    let link = SeqPacket::new(link);
    let running = Running::default();
    // A plugin that waits for a device would outlive the agent.
    let _end_them = EndAll(Arc::clone(&running));
    while let Some((bytes, fds)) = link.recv()? {
        let request: Request = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        let answer = match request.ask {
            Ask::Ping => Answer::Pong,
            Ask::Unwrap => unwrap(&settings, fds, &running),
            // No issuer and no approval names a command yet, so no key is known.
            Ask::Start { key } => {
                let key: String = key.chars().take(64).collect();
                Answer::Refused(format!("configuration names no command {key:?}"))
            }
        };
        let reply = Reply { id: request.id, answer };
        link.send(&postcard::to_stdvec(&reply).map_err(io::Error::other)?, &[])?;
    }
    Ok(())
}

/// Process groups of what was started and has not ended.
type Running = Arc<Mutex<Vec<Pid>>>;

struct EndAll(Running);

impl Drop for EndAll {
    fn drop(&mut self) {
        for group in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = killpg(*group, Signal::SIGKILL); // it may have ended
        }
    }
}

fn unwrap(settings: &Settings, fds: Vec<OwnedFd>, running: &Running) -> Answer {
    let Some(link) = fds.into_iter().next() else {
        return Answer::Refused("no socket came with the question".to_owned());
    };
    let mut groups = running.lock().unwrap_or_else(PoisonError::into_inner);
    if groups.len() >= MAX_UNWRAPPING {
        return Answer::Refused(format!("{MAX_UNWRAPPING} calls of the plugin are under way"));
    }
    let child = match unwrapping::spawn(settings, link, false) {
        Ok(child) => child,
        Err(error) => return Answer::Refused(format!("it cannot be started: {error}")),
    };
    let group = Pid::from_raw(child.id().cast_signed());
    groups.push(group);
    drop(groups);
    let running = Arc::clone(running);
    std::thread::spawn(move || {
        unwrapping::supervise(child, || {
            running.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| *one != group);
        });
    });
    Answer::Started
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher() -> (SeqPacket, std::thread::JoinHandle<io::Result<()>>) {
        let kind = SockType::SeqPacket;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let config = crate::config::load(None, Some(crate::config::Mode::User)).unwrap();
        (SeqPacket::new(ours), std::thread::spawn(move || run(theirs, config, Settings::default())))
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
