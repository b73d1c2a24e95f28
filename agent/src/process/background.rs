//! An agent in the background, seen by the process that the user started.

use super::daemon::{self, PID_VARIABLE, SOCKET_VARIABLE};
use super::readiness::{self, Outcome};
use super::sys::{fork, pidfd, signal};
use super::{Parts, PrivateDir, separation};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Serves requests.
#[derive(Debug)]
pub struct Background {
    /// The broker's pid.
    pub pid: Pid,
    /// Its socket.
    pub socket: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// It could not be forked.
    #[error("cannot start the agent")]
    Os(#[from] io::Error),
    /// It ended; its own words.
    #[error("{0}")]
    Failed(String),
}

impl Background {
    /// Starts an agent and waits until it serves. With `watched` its life ends
    /// with that of this process, whatever this process becomes.
    ///
    /// # Errors
    /// See [`BackgroundError`]. No process is left then.
    pub fn start(mut parts: Parts, watched: bool) -> Result<Self, BackgroundError> {
        let socket = parts.config.socket.clone();
        let dir = parts.private_dir.as_ref().map(|dir| dir.path().to_owned());
        let (read, write) = readiness::pipe()?;
        if watched {
            parts.command = Some(pidfd::open(getpid().as_raw().unsigned_abs())?);
        }
        match daemon::detach() {
            Ok(false) => {}
            Ok(true) => {
                drop(read);
                parts.report = Some(write);
                become_agent(parts)
            }
            // Which of the two processes this is, cannot be told: end both.
            Err(error) => return Err(error.into()),
        }
        drop(write);
        drop(parts);
        match readiness::wait(read)? {
            Outcome::Ready(pid) => Ok(Self { pid, socket }),
            Outcome::Failed(error) => {
                if let Some(dir) = dir {
                    PrivateDir::inherited(dir).remove();
                }
                Err(BackgroundError::Failed(error))
            }
        }
    }

    /// Becomes COMMAND, with the agent in its environment and nothing else
    /// changed: terminal, job control, privileges and exit code are its own.
    ///
    /// # Errors
    /// Returns only when COMMAND cannot be executed; the agent ends with this
    /// process.
    pub fn become_command(&self, command: Vec<OsString>) -> io::Result<Infallible> {
        let argv = command
            .into_iter()
            .map(|word| CString::new(word.into_vec()).map_err(io::Error::from))
            .collect::<Result<Vec<_>, _>>()?;
        signal::default(Signal::SIGPIPE)?;
        let pid = OsString::from(self.pid.to_string());
        let socket: &Path = &self.socket;
        fork::become_command(&argv, &[(SOCKET_VARIABLE, socket.as_os_str()), (PID_VARIABLE, &pid)])
    }
}

fn become_agent(parts: Parts) -> ! {
    let pipe = parts.report.as_ref().and_then(|pipe| readiness::again(pipe).ok());
    match separation::separate(parts) {
        Ok(never) => match never {},
        Err(error) => separation::report(pipe.as_ref(), &error),
    }
    fork::leave(1)
}
