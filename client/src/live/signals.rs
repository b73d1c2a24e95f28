//! Signals as something to wait for: the terminal is put back before they end
//! the program.

use crate::failure::Failure;
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt::Display;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use tokio::net::unix::pipe::Receiver;

/// `struct signalfd_siginfo` has 128 bytes; the first four are the number
/// (signalfd(2)).
const INFO: usize = 128;

/// What came.
pub(crate) enum Signal {
    /// One that ends programs, by its number.
    Ended(u8),
    /// Ctrl-Z.
    Stop,
    /// The terminal has another size, or is ours again.
    Resized,
}

/// They are kept from doing what they do, from here on.
pub(crate) struct Signals(File);

/// They are listened to.
pub(crate) struct Listening(Receiver);

fn failed(error: &dyn Display) -> Failure {
    Failure::new(format!("cannot take signals: {error}"))
}

impl Signals {
    /// Takes them. Before there is any other thread.
    pub(crate) fn take() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        for number in [
            Number::SIGINT,
            Number::SIGTERM,
            Number::SIGHUP,
            Number::SIGQUIT,
            Number::SIGTSTP,
            Number::SIGWINCH,
            Number::SIGCONT,
        ] {
            set.add(number);
        }
        set.thread_block().map_err(|error| failed(&error))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let fd = SignalFd::with_flags(&set, flags).map_err(|error| failed(&error))?;
        let own = fd.as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
        Ok(Self(File::from(own)))
    }

    /// Listens to them. Inside a runtime.
    pub(crate) fn listen(self) -> Result<Listening, Failure> {
        // No pipe, but read in the same way.
        Receiver::from_file_unchecked(self.0).map(Listening).map_err(|error| failed(&error))
    }
}

impl Listening {
    /// The next one.
    pub(crate) async fn next(&self) -> Result<Signal, Failure> {
        loop {
            self.0.readable().await.map_err(|error| failed(&error))?;
            let mut info = [0; INFO];
            match self.0.try_read(&mut info) {
                Ok(_) => {
                    let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    return Ok(match Number::try_from(number) {
                        Ok(Number::SIGTSTP) => Signal::Stop,
                        Ok(Number::SIGWINCH | Number::SIGCONT) => Signal::Resized,
                        _ => Signal::Ended(u8::try_from(number).unwrap_or_default()),
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }
}
