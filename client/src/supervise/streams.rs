//! Where the command's output goes, and whether it gets a terminal.

use super::child::Streams;
use super::pump::{Pump, own};
use super::screen::Pty;
use crate::redact::Automaton;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Streams of one life of the command.
pub(super) struct Laid {
    /// The child's sides.
    pub(super) theirs: Streams,
    pub(super) pumps: Vec<Pump>,
    /// Our sides of terminals, to be resized.
    pub(super) terminals: Vec<OwnedFd>,
    /// It has a terminal that it is alone with.
    pub(super) is_alone: bool,
}

/// Output goes straight where ours goes.
pub(super) fn straight() -> Laid {
    let theirs = Streams { stdout: None, stderr: None, terminal: None };
    Laid { theirs, pumps: Vec::new(), terminals: Vec::new(), is_alone: false }
}

/// Output goes through us. Where we have a terminal on both ends, the command
/// gets one of its own; where only its output goes to one, that is a terminal
/// for it, too, and all else is as it was; else it gets pipes.
pub(super) fn through(by: &Rc<Automaton>) -> io::Result<Laid> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let is_alone = stdin.is_terminal() && (stdout.is_terminal() || stderr.is_terminal());
    let mut laid = Laid { is_alone, ..straight() };
    let mut shared: Option<OwnedFd> = None;
    if is_alone {
        let pty = Pty::open(&stdin, false)?;
        laid.theirs.terminal = Some(own(&pty.theirs)?);
        laid.terminals.push(own(&pty.ours)?);
        // What comes from it, echo included, goes to where the person looks.
        let to = if stdout.is_terminal() { own(&stdout)? } else { own(&stderr)? };
        laid.pumps.push(Pump::new(pty.ours, to, Rc::clone(by))?);
        shared = Some(pty.theirs);
    }
    laid.theirs.stdout = Some(lay(&mut laid, &shared, &stdout, by)?);
    laid.theirs.stderr = Some(lay(&mut laid, &shared, &stderr, by)?);
    Ok(laid)
}

/// The child's side of one stream.
fn lay(
    laid: &mut Laid,
    shared: &Option<OwnedFd>,
    to: &(impl AsFd + IsTerminal),
    by: &Rc<Automaton>,
) -> io::Result<OwnedFd> {
    if !to.is_terminal() {
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK)?;
        laid.pumps.push(Pump::new(ours, own(to)?, Rc::clone(by))?);
        return Ok(theirs);
    }
    if let Some(terminal) = shared {
        return own(terminal);
    }
    let pty = Pty::open(to, true)?;
    laid.terminals.push(own(&pty.ours)?);
    laid.pumps.push(Pump::new(pty.ours, own(to)?, Rc::clone(by))?);
    Ok(pty.theirs)
}
