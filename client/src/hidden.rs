//! Input that is not shown, on the controlling terminal. The terminal is put
//! back however it ends: a signal is waited for beside the keys, and only obeyed
//! once everything is as it was.

use crate::signals::die_of;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Longest line, in bytes. The buffer never grows, so that no copies are left.
const MAX_LINE: usize = 64 * 1024;

/// What came of asking.
pub(crate) enum Answer {
    /// The line, without its end.
    Line(Zeroizing<Vec<u8>>),
    /// A signal ended it; the exit code for it.
    Ended(u8),
}

/// Asks, and reads a line.
///
/// # Errors
/// There is no terminal, it was closed, or the line is too long.
pub(crate) fn ask(question: &str) -> io::Result<Answer> {
    let mut hidden = Hidden::begin()?;
    let answer = hidden.line(question);
    hidden.end();
    match answer? {
        Typed::Line(line) => Ok(Answer::Line(line)),
        Typed::Signal(signal) => Ok(Answer::Ended(die_of(signal))),
    }
}

enum Typed {
    Line(Zeroizing<Vec<u8>>),
    Signal(Signal),
}

/// A terminal that shows nothing of what is typed. Put back when dropped.
struct Hidden {
    terminal: File,
    before: Termios,
    signals: SignalFd,
    mask: SigSet,
    hidden: bool,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mask = SigSet::thread_get_mask()?;
        let taken: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP]
                .into_iter()
                .collect();
        taken.thread_block()?;
        let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut this = Self { terminal, before, signals, mask, hidden: false };
        this.hide()?;
        Ok(this)
    }

    /// Before the question is there, and without what was typed earlier, as
    /// readpassphrase(3) does. Keys come one by one: a terminal's own lines end
    /// at 4,095 bytes, silently.
    fn hide(&mut self) -> io::Result<()> {
        let mut silent = self.before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON);
        silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        self.hidden = true;
        Ok(tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &silent)?)
    }

    fn show(&mut self) {
        if std::mem::take(&mut self.hidden) {
            let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before); // it may be gone
        }
    }

    fn end(&mut self) {
        self.show();
        let _ = self.mask.thread_set_mask(); // of a mask that was in force
    }

    fn line(&mut self, question: &str) -> io::Result<Typed> {
        let mut line = Line::new();
        write!(self.terminal, "{question}: ")?;
        loop {
            if let Some(signal) = self.wait()? {
                writeln!(self.terminal)?;
                if signal != Signal::SIGTSTP {
                    return Ok(Typed::Signal(signal));
                }
                self.show();
                raise(Signal::SIGSTOP)?;
                self.hide()?;
                write!(self.terminal, "{question}: ")?;
                continue;
            }
            let mut keys = Zeroizing::new([0; 256]);
            let count = self.terminal.read(&mut *keys)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into()); // it hung up
            }
            for &key in &keys[..count] {
                if let Some(line) = line.take(key)? {
                    writeln!(self.terminal)?;
                    return Ok(Typed::Line(line));
                }
            }
        }
    }

    /// Waits for keys, or for a signal.
    fn wait(&self) -> io::Result<Option<Signal>> {
        loop {
            let mut asked = [
                PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut asked, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(came) = self.signals.read_signal()? {
                let number = i32::try_from(came.ssi_signo).unwrap_or_default();
                return Ok(Some(Signal::try_from(number)?));
            }
            if asked[0].any() == Some(true) {
                return Ok(None);
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.end();
    }
}

/// A line that is being typed.
struct Line(Zeroizing<Vec<u8>>);

impl Line {
    fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(MAX_LINE)))
    }

    /// Takes a key; the line, where that ends it.
    fn take(&mut self, key: u8) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        const END_OF_INPUT: u8 = 0x04;
        const KILL: u8 = 0x15;
        match key {
            b'\n' | b'\r' => return Ok(Some(std::mem::take(&mut self.0))),
            END_OF_INPUT if self.0.is_empty() => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            END_OF_INPUT => return Ok(Some(std::mem::take(&mut self.0))),
            KILL => self.0.clear(),
            // Backspace and delete take a character, which may be of several bytes.
            0x08 | 0x7f => while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            key if self.0.len() < MAX_LINE => self.0.push(key),
            _ => return Err(io::Error::other("the line is too long")),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut line = Line::new();
        for &key in keys {
            if let Some(line) = line.take(key)? {
                return Ok(Some(line.to_vec()));
            }
        }
        Ok(None)
    }

    #[test]
    fn keys_become_a_line_and_mistakes_are_taken_back() {
        for (keys, line) in [
            (&b"abc\n"[..], &b"abc"[..]),
            (b"abx\x7fc\r", b"abc"),
            (b"wrong\x15right\n", b"right"),
            ("aö\x7fb\n".as_bytes(), b"ab"),
            (b"\x7f\x7fa\n", b"a"),
            (b"abc\x04", b"abc"),
            (b"\n", b""),
        ] {
            assert_eq!(typed(keys).unwrap().as_deref(), Some(line), "{keys:?}");
        }
        assert_eq!(typed(b"abc").unwrap(), None);
    }

    #[test]
    fn the_end_of_input_and_a_line_without_end_are_errors() {
        assert!(typed(b"\x04").is_err());
        assert!(typed(&vec![b'a'; MAX_LINE + 1]).is_err());
    }
}
