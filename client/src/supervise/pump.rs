//! What the command writes, on its way through.

use crate::ready::{Readable, Writable};
use crate::redact::{Automaton, Redactor};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use zeroize::Zeroizing;

/// So much is read at a time, in bytes.
const PIECE: usize = 32 * 1024;
/// So much may wait for whoever reads slowly, in bytes, until no more is read.
const WAITING: usize = 128 * 1024;
/// What a pipe or a terminal takes without blocking once it is writable, in
/// bytes: PIPE_BUF of pipe(7).
const ATOMIC: usize = 4096;

/// One stream of the command, and where it goes.
pub(super) struct Pump {
    from: Option<Readable>,
    redactor: Redactor,
    piece: Zeroizing<Vec<u8>>,
    waiting: Vec<u8>,
    to: Option<Sink>,
}

/// Standard output or error of this process.
enum Sink {
    /// Something that says when it can be written.
    Paced(Writable),
    /// A regular file, which always can.
    Plain(std::fs::File),
}

impl Pump {
    /// From a descriptor that does not block to one of our own.
    pub(super) fn new(from: OwnedFd, to: OwnedFd, by: Rc<Automaton>) -> io::Result<Self> {
        let to = match Writable::new(to.try_clone()?) {
            Ok(paced) => Sink::Paced(paced),
            Err(_) => Sink::Plain(to.into()), // epoll takes no regular file
        };
        Ok(Self {
            from: Some(Readable::new(from)?),
            redactor: Redactor::new(by, PIECE),
            piece: Zeroizing::new(vec![0; PIECE]),
            waiting: Vec::new(),
            to: Some(to),
        })
    }

    /// Looks for other values from here on.
    pub(super) fn redact(&mut self, by: Rc<Automaton>) {
        self.redactor.replace(by, &mut self.waiting);
    }

    /// Nothing comes any more and nothing waits.
    pub(super) fn is_done(&self) -> bool {
        self.from.is_none() && self.waiting.is_empty()
    }

    /// Something is held back that could be shown while nothing comes.
    pub(super) fn is_held(&self) -> bool {
        self.redactor.is_waiting()
    }

    /// Nothing comes for now.
    pub(super) fn idle(&mut self) {
        self.redactor.idle(&mut self.waiting);
    }

    /// Moves something on; returns when it has. Never, where all is done.
    /// Loses nothing when dropped halfway.
    pub(super) async fn step(&mut self) {
        let Self { from, piece, waiting, to, .. } = self;
        let room = waiting.len() < WAITING;
        tokio::select! {
            read = read(from, piece), if from.is_some() && room => match read {
                // EIO: nobody has the other side of a terminal open any more.
                Ok(0) | Err(_) => self.end(),
                Ok(count) => {
                    let read = self.piece.get(..count).unwrap_or_default();
                    self.redactor.push(read, &mut self.waiting);
                }
            },
            written = write(to, waiting), if !waiting.is_empty() => {
                if written.is_err() {
                    // Nobody reads any more: the command is to hear of it.
                    self.from = None;
                    self.to = None;
                    self.waiting.clear();
                }
            }
            () = std::future::pending() => {}
        }
    }

    /// Takes no more, and gives out what was held back.
    pub(super) fn end(&mut self) {
        if self.from.take().is_some() {
            self.redactor.finish(&mut self.waiting);
        }
    }
}

async fn read(from: &Option<Readable>, piece: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(piece).await,
        None => Ok(0),
    }
}

async fn write(to: &mut Option<Sink>, waiting: &mut Vec<u8>) -> io::Result<()> {
    let next = waiting.get(..waiting.len().min(ATOMIC)).unwrap_or_default();
    let count = match to {
        None => waiting.len(),
        Some(Sink::Paced(to)) => to.write(next).await?,
        Some(Sink::Plain(to)) => to.write(next)?,
    };
    waiting.drain(..count);
    Ok(())
}

/// A descriptor of our own for one of the three.
pub(super) fn own(of: impl AsFd) -> io::Result<OwnedFd> {
    of.as_fd().try_clone_to_owned()
}
