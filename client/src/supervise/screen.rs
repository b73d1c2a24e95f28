//! The terminal: the person's own, and the one that the command is given.

use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{tcgetwinsize, tcsetwinsize};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

/// The person's terminal. Put back as it was when this is dropped.
pub(super) struct Screen {
    terminal: File,
    /// As it was before it was made raw; `None`: it is not raw.
    before: Option<Termios>,
}

/// A terminal for the command: our side, and the other, which is given away.
pub(super) struct Pty {
    pub(super) ours: OwnedFd,
    pub(super) theirs: OwnedFd,
}

impl Screen {
    /// The terminal that is standard input, where it is one.
    pub(super) fn of_stdin() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Some(Self { terminal, before: None }))
    }

    /// Every key goes to the command as it is, and nothing is done about it
    /// here. Where this process is not in the foreground, nothing changes.
    pub(super) fn make_raw(&mut self) -> io::Result<()> {
        if self.before.is_some() || !self.is_ours() {
            return Ok(());
        }
        let before = tcgetattr(&self.terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?;
        self.before = Some(before);
        Ok(())
    }

    /// As it was.
    pub(super) fn put_back(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &before); // it may be gone
        }
    }

    /// Lines need a carriage return.
    pub(super) fn is_raw(&self) -> bool {
        self.before.is_some()
    }

    /// This process is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.terminal) == Ok(getpgrp())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.put_back();
    }
}

impl Pty {
    /// Of the size, and with the settings, of `like`. `bare`: it only passes on
    /// what is written, since the terminal behind it does the rest.
    pub(super) fn open(like: impl AsFd, bare: bool) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        let mut settings = tcgetattr(&like)?;
        if bare {
            settings.output_flags.remove(OutputFlags::OPOST);
            settings.local_flags.remove(LocalFlags::ECHO);
            settings.input_flags.remove(InputFlags::ICRNL);
        }
        tcsetattr(&theirs, SetArg::TCSANOW, &settings)?;
        let pty = Self { ours, theirs };
        resize(&like, &pty.ours);
        rustix::fs::fcntl_setfl(
            &pty.ours,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK,
        )?;
        Ok(pty)
    }
}

/// Gives a terminal the size of another; the kernel tells the command.
pub(super) fn resize(like: impl AsFd, to: impl AsFd) {
    if let Ok(size) = tcgetwinsize(like) {
        let _ = tcsetwinsize(to, size); // it may be gone
    }
}
