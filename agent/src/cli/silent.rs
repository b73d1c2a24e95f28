//! A line from the controlling terminal that is not shown, as readpassphrase(3)
//! reads one: whatever ends or stops the command, the terminal shows again
//! what is typed.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// What a terminal gives at once in canonical mode (termios(3)).
const MAX_LINE: usize = 4096;

/// What ends or stops a command from outside.
const CAUGHT: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGALRM,
];

/// Asks. [`io::ErrorKind::Interrupted`]: a signal came that ends nothing.
pub(super) fn line(question: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let caught: SigSet = CAUGHT.into_iter().collect();
    let before = SigSet::thread_get_mask()?;
    caught.thread_block()?;
    let result = SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC)
        .map_err(io::Error::from)
        .and_then(|signals| asked(&mut terminal, question, &signals, before));
    before.thread_set_mask()?;
    result
}

fn asked(
    terminal: &mut File,
    question: &str,
    signals: &SignalFd,
    before: SigSet,
) -> io::Result<Zeroizing<Vec<u8>>> {
    loop {
        // Silent before the question is there: who types ahead is not shown.
        let silence = Silence::begin(terminal)?;
        terminal.write_all(question.as_bytes())?;
        match answer(terminal, signals)? {
            Came::Line(line) => {
                drop(silence);
                terminal.write_all(b"\n")?;
                return Ok(line);
            }
            Came::Signal(signal) => {
                drop(silence);
                terminal.write_all(b"\n")?;
                // Does what it would have done, now that the terminal is as it was.
                before.thread_set_mask()?;
                raise(signal)?;
                if signal != Signal::SIGTSTP {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                CAUGHT.into_iter().collect::<SigSet>().thread_block()?;
            }
        }
    }
}

enum Came {
    Line(Zeroizing<Vec<u8>>),
    Signal(Signal),
}

fn answer(terminal: &mut File, signals: &SignalFd) -> io::Result<Came> {
    // Of a fixed size: growing would leave copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    loop {
        let mut both = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut both, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            polled => polled?,
        };
        if both[0].any().unwrap_or(false) {
            let signal = signals.read_signal()?.and_then(|info| i32::try_from(info.ssi_signo).ok());
            if let Some(signal) = signal.and_then(|number| Signal::try_from(number).ok()) {
                return Ok(Came::Signal(signal));
            }
            continue;
        }
        let mut piece = Zeroizing::new([0; MAX_LINE]);
        let count = terminal.read(&mut piece[..])?;
        let piece = piece.get(..count).unwrap_or_default();
        if line.len() + count > MAX_LINE {
            return Err(io::Error::other("the line is longer than 4096 bytes"));
        }
        line.extend_from_slice(piece);
        // Nothing read: Ctrl-D, or the terminal has gone.
        if count == 0 && line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count == 0 || line.last() == Some(&b'\n') {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            return Ok(Came::Line(line));
        }
    }
}

/// A terminal that shows nothing of what is typed. Put back when dropped.
struct Silence {
    terminal: File,
    before: Termios,
}

impl Silence {
    fn begin(terminal: &File) -> io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        silent.local_flags.insert(LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before); // it may be gone
    }
}
