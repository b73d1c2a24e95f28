//! Signals that are read instead of being obeyed.

use crate::ready::Readable;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::AsFd;

/// Blocks signals for this thread, and reads them. Whoever is started inherits
/// the block: see [`Signals::before`].
pub(crate) struct Signals {
    from: SignalFd,
    ready: Readable,
    before: SigSet,
}

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    pub(crate) signal: Signal,
    /// The kernel sent it: for a key on the terminal, for one.
    pub(crate) by_kernel: bool,
}

impl Signals {
    /// Takes those from here on. Needs a tokio runtime with I/O, and a process
    /// of one thread.
    pub(crate) fn take(which: &[Signal]) -> io::Result<Self> {
        let taken: SigSet = which.iter().copied().collect();
        let before = SigSet::thread_get_mask()?;
        taken.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let from = SignalFd::with_flags(&taken, flags)?;
        let ready = Readable::new(from.as_fd().try_clone_to_owned()?)?;
        Ok(Self { from, ready, before })
    }

    /// The next one. Loses nothing when dropped halfway.
    pub(crate) async fn next(&self) -> io::Result<Came> {
        loop {
            if let Some(info) = self.from.read_signal()? {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                if let Ok(signal) = Signal::try_from(number) {
                    // SI_USER is 0, SI_QUEUE and its like are below: sigaction(2).
                    return Ok(Came { signal, by_kernel: info.ssi_code > 0 });
                }
                continue;
            }
            self.ready.wait_fresh().await?;
        }
    }

    /// What was blocked before.
    pub(crate) fn before(&self) -> &SigSet {
        &self.before
    }

    /// Obeys them again.
    pub(crate) fn give_back(&self) {
        let _ = self.before.thread_set_mask(); // of a mask that was in force
    }
}

/// Ends this process as that signal ends one, so that whoever waits for it sees
/// the same. Where the signal is ignored, by the code that shells give it.
pub(crate) fn die_of(signal: Signal) -> u8 {
    // The dump of this process would be of no use, and not without secrets.
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let only: SigSet = [signal].into_iter().collect();
    let _ = only.thread_unblock(); // of a valid set
    let _ = nix::sys::signal::raise(signal);
    u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)
}
