//! One life of the command.

use super::child::{Recipe, Task};
use super::job::{Ended, Job};
use super::link::Link;
use super::pump::{Pump, own};
use super::screen::{Screen, resize};
use super::streams::{self, Laid};
use crate::ready::{Readable, Writable};
use crate::redact::Secrets;
use nix::sys::signal::Signal;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// So much that was typed may wait for the command, in bytes.
const TYPED: usize = 4096;

pub(super) struct Run {
    /// Our child: the command, or the monitor before it.
    pub(super) job: Job,
    /// The command, once it has told.
    pub(super) pid: Option<u32>,
    pub(super) link: Link,
    pub(super) is_linked: bool,
    pub(super) pumps: Vec<Pump>,
    pub(super) keys: Option<Keys>,
    terminals: Vec<OwnedFd>,
    alone: bool,
    pub(super) ended: Option<Ended>,
    /// Output is waited for until then.
    pub(super) drain_until: Option<Duration>,
    /// It never became the command; whether to try again may help.
    pub(super) failed: Option<bool>,
}

/// What is typed, on its way to the command's terminal.
pub(super) struct Keys {
    from: Readable,
    to: Writable,
    waiting: Vec<u8>,
}

impl Run {
    pub(super) fn start(
        recipe: &Recipe,
        through: bool,
        screen: Option<&mut Screen>,
        secrets: &Secrets,
    ) -> io::Result<Self> {
        let laid =
            if through { streams::through(&secrets.compile())? } else { streams::straight() };
        let Laid { theirs, pumps, terminals, is_alone } = laid;
        let mut link = Link::new()?;
        let child = recipe.start(&Task::Become, &mut link, theirs)?;
        let mut keys = None;
        if let (true, Some(screen), Some(terminal)) = (is_alone, screen, terminals.first()) {
            screen.make_raw()?;
            keys = Some(Keys {
                from: Readable::new(own(io::stdin())?)?,
                to: Writable::new(own(terminal)?)?,
                waiting: Vec::new(),
            });
        }
        Ok(Self {
            job: Job::new(child.id()),
            pid: None,
            link,
            is_linked: true,
            pumps,
            keys,
            terminals,
            alone: is_alone,
            ended: None,
            drain_until: None,
            failed: None,
        })
    }

    /// It has a terminal that it is alone with.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// It has a terminal, and be it for its output only.
    pub(super) fn has_terminal(&self) -> bool {
        !self.terminals.is_empty()
    }

    /// Signals the command.
    pub(super) fn send(&self, signal: Signal) {
        self.pid.map_or(self.job, Job::new).send(signal);
        if signal == Signal::SIGKILL {
            self.job.send(signal);
        }
    }

    pub(super) fn has_ended(&mut self, ended: Ended, drain_until: Duration) {
        self.ended = Some(ended);
        self.drain_until = Some(drain_until);
        self.keys = None;
        self.pid = None;
        self.terminals.clear();
    }

    /// All that it wrote has been given out.
    pub(super) fn is_drained(&self) -> bool {
        self.pumps.iter().all(Pump::is_done)
    }

    /// Its terminals are as large as ours.
    pub(super) fn resize(&self) {
        let like = || [own(io::stdin()), own(io::stdout()), own(io::stderr())];
        let Some(like) = like().into_iter().flatten().find(IsTerminal::is_terminal) else { return };
        self.terminals.iter().for_each(|terminal| resize(&like, terminal));
    }
}

/// Moves output on.
pub(super) async fn pumped(pumps: &mut [Pump]) {
    match pumps {
        [one] => one.step().await,
        [one, other] => tokio::select! {
            () = one.step() => {}
            () = other.step() => {}
        },
        [one, other, third] => tokio::select! {
            () = one.step() => {}
            () = other.step() => {}
            () = third.step() => {}
        },
        _ => std::future::pending().await,
    }
}

/// Moves on what is typed.
pub(super) async fn typed(keys: &mut Option<Keys>) {
    let Some(Keys { from, to, waiting }) = keys else { return std::future::pending().await };
    if !is_foreground() {
        return std::future::pending().await; // what is typed is for others
    }
    let mut piece = [0; TYPED];
    let failed = tokio::select! {
        read = from.read(&mut piece), if waiting.is_empty() => match read {
            // EIO: in the background, where somebody else reads.
            Err(_) if !is_foreground() => false,
            Ok(0) | Err(_) => true,
            Ok(count) => {
                waiting.extend_from_slice(piece.get(..count).unwrap_or_default());
                false
            }
        },
        written = to.write(waiting), if !waiting.is_empty() => match written {
            Ok(count) => {
                waiting.drain(..count);
                false
            }
            Err(_) => true,
        },
    };
    if failed {
        *keys = None; // the terminal is gone; the kernel tells the command
    }
}

fn is_foreground() -> bool {
    nix::unistd::tcgetpgrp(io::stdin()) == Ok(nix::unistd::getpgrp())
}
