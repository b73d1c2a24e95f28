//! The terminal while a board is on it: another screen, no cursor, no echo; and
//! as it was before, however that ends.

use crate::failure::Failure;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use tokio::net::unix::pipe::Receiver;

/// Another screen (xterm), and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
/// The cursor, and the screen that was there.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the top left; then each line, cleared behind; then everything below.
const HOME: &str = "\x1b[H";
const CLEAR_BEHIND: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// What was typed.
pub(crate) enum Key {
    /// `q`, or the end of input.
    Quit,
    /// Something else.
    Other,
}

/// A terminal with a board on it. Put back when dropped.
pub(crate) struct Tty {
    /// `None`: there is no terminal to type on.
    keys: Option<Receiver>,
    before: Option<Termios>,
    entered: bool,
}

impl Tty {
    /// Takes the terminal. Inside a runtime.
    pub(crate) fn enter() -> Result<Self, Failure> {
        // A descriptor of its own: others share the one of standard input, and
        // must not find it non-blocking.
        let open = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open("/dev/tty");
        // No pipe, but read in the same way.
        let keys = open.ok().and_then(|tty| Receiver::from_file_unchecked(tty).ok());
        let before = keys.as_ref().and_then(|tty| tcgetattr(tty).ok());
        let mut tty = Self { keys, before, entered: false };
        tty.take()?;
        Ok(tty)
    }

    fn take(&mut self) -> Result<(), Failure> {
        if let (Some(keys), Some(before)) = (&self.keys, &self.before) {
            let mut raw = before.clone();
            raw.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            tcsetattr(keys, SetArg::TCSANOW, &raw)
                .map_err(|error| Failure::new(format!("cannot set the terminal: {error}")))?;
        }
        self.entered = true;
        crate::output::to_stdout(ENTER.as_bytes())
    }

    /// Gives the terminal back as it was.
    pub(crate) fn leave(&mut self) {
        if !std::mem::take(&mut self.entered) {
            return;
        }
        let _ = crate::output::to_stdout(LEAVE.as_bytes()); // it may be gone
        if let (Some(keys), Some(before)) = (&self.keys, &self.before) {
            let _ = tcsetattr(keys, SetArg::TCSADRAIN, before); // as above
        }
    }

    /// Ctrl-Z: gives the terminal back, stops, and takes it again when continued.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.leave();
        raise(Signal::SIGSTOP).map_err(|error| Failure::new(format!("cannot stop: {error}")))?;
        self.take()
    }

    /// Shows these lines and nothing else.
    pub(crate) fn draw(&self, lines: &[String]) -> Result<(), Failure> {
        let mut text = HOME.to_owned();
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str(CLEAR_BEHIND);
        }
        text.push_str(CLEAR_BELOW);
        crate::output::to_stdout(text.as_bytes())
    }

    /// What is typed next. Never comes where there is nothing to type on.
    pub(crate) async fn key(&self) -> Result<Key, Failure> {
        let Some(keys) = &self.keys else { return std::future::pending().await };
        let failed = |error: io::Error| Failure::new(format!("cannot read the terminal: {error}"));
        loop {
            keys.readable().await.map_err(failed)?;
            let mut typed = [0; 64];
            match keys.try_read(&mut typed) {
                Ok(0) => return Ok(Key::Quit),
                Ok(length) => {
                    let quits = typed[..length].iter().any(|key| matches!(key, b'q' | b'Q'));
                    return Ok(if quits { Key::Quit } else { Key::Other });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)), // it hung up
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.leave();
    }
}
