//! The process between a terminal of its own and the command.
//!
//! The command cannot lead the session of its terminal: a group whose parent is
//! in another session is an orphan, which the kernel does not stop at Ctrl-Z.
//! So this process leads it, and the command has a group of its own (as sudo
//! does it with use_pty). It ends as the command ends, and stops as it stops.

use super::child::{UNDER, die_with};
use super::job::{Change, Ended, Job, stop_like};
use crate::failure::Failure;
use crate::session;
use crate::signals::{Signals, die_of};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgrp, setsid, tcsetpgrp};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What reaches this process is meant for the command, and reaches that by its
/// terminal or its supervisor.
const TAKEN: [Signal; 9] = [
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The hidden subcommand: the supervisor's pid, the numbers of two descriptors
/// that are the command's alone, and what to start.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    match monitor(&words) {
        Ok(Ended::Code(code)) => ExitCode::from(code),
        Ok(Ended::Signal(signal)) => ExitCode::from(die_of(signal)),
        Err(failure) => {
            failure.report();
            ExitCode::from(125)
        }
    }
}

fn monitor(words: &[OsString]) -> Result<Ended, Failure> {
    let _ = nix::sys::prctl::set_name(c"jsi-monitor");
    let told = || Failure::usage(format!("{} is for jsi itself", super::child::MONITOR));
    let number = |word: &OsString| word.to_str().and_then(|word| word.parse::<i32>().ok());
    let [parent, report, go, under, _, rest @ ..] = words else { return Err(told()) };
    if under != UNDER {
        return Err(told());
    }
    let parent = number(parent).and_then(|pid| u32::try_from(pid).ok()).ok_or_else(told)?;
    session::drop_group(); // before it, since it would be forgotten
    die_with(parent)?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot give the command a terminal: {error}"))
    };
    setsid().map_err(|errno| failed(&errno.desc()))?;
    rustix::process::ioctl_tiocsctty(io::stdin()).map_err(|error| failed(&error))?;
    session::block_on(async {
        let signals = Signals::take(&TAKEN).map_err(|error| failed(&error))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("jsi").arg(UNDER).arg(std::process::id().to_string()).args(rest);
        let child = command.process_group(0).spawn().map_err(|error| failed(&error))?;
        for fd in [report, go].into_iter().filter_map(number) {
            let _ = nix::unistd::close(fd); // nothing here owns it
        }
        serve(&signals, child.id()).await.map_err(|error| failed(&error))
    })
}

async fn serve(signals: &Signals, pid: u32) -> io::Result<Ended> {
    let job = Job::new(pid);
    let group = Pid::from_raw(i32::try_from(pid).unwrap_or_default());
    foreground(group);
    loop {
        match signals.next().await?.signal {
            Signal::SIGCHLD => {}
            // The supervisor was continued, or this process alone.
            Signal::SIGCONT => resume(group),
            _ => continue,
        }
        while let Some(change) = job.change() {
            match change {
                Change::Ended(ended) => return Ok(ended),
                Change::Stopped(signal) => {
                    foreground(getpgrp());
                    // The supervisor sees it, and lets this process go on.
                    stop_like(if signal == Signal::SIGSTOP { signal } else { Signal::SIGSTOP });
                    resume(group);
                }
            }
        }
    }
}

fn resume(group: Pid) {
    foreground(group);
    let _ = nix::sys::signal::killpg(group, Signal::SIGCONT); // it may be gone
}

/// SIGTTOU is blocked here, so that this never stops.
fn foreground(group: Pid) {
    let _ = tcsetpgrp(io::stdin(), group); // it may be gone
}
