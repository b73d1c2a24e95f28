//! Who is told when the agent serves requests: the waiting parent, the reader
//! of stdout, the service manager (sd_notify(3)).

use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, PoisonError};

/// First byte of a message to the parent; a pid follows, or the error and a
/// zero, so that the first of two that fail is heard.
const READY: u8 = b'R';
const FAILED: u8 = b'E';

/// To be signalled once, when requests are served.
#[derive(Clone)]
pub struct Ready(Arc<Mutex<Target>>);

enum Target {
    /// A parent waits; what it prints, it knows.
    Parent(OwnedFd),
    /// Foreground: these lines, if any, go to stdout.
    Stdout(String),
    Done,
}

impl Ready {
    pub(super) fn to_parent(pipe: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(Target::Parent(pipe))))
    }

    pub(super) fn to_stdout(lines: String) -> Self {
        Self(Arc::new(Mutex::new(Target::Stdout(lines))))
    }

    /// Says that requests are served. Once; later calls do nothing.
    ///
    /// # Errors
    /// Whoever waited has gone, or stdout is closed: nobody would ever learn of
    /// this agent, so it must end.
    pub fn signal(&self) -> io::Result<()> {
        let target = std::mem::replace(&mut *self.target(), Target::Done);
        match target {
            Target::Parent(pipe) => {
                File::from(pipe)
                    .write_all(format!("{}{}", READY as char, std::process::id()).as_bytes())?;
            }
            Target::Stdout(lines) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines.as_bytes())?;
                stdout.flush()?;
            }
            Target::Done => return Ok(()),
        }
        if let Err(error) = notify(Notice::Ready) {
            tracing::warn!("the service manager was not told that the agent is ready: {error}");
        }
        Ok(())
    }

    /// Says why the agent will not serve: to the parent, or on stderr.
    pub(super) fn fail(&self, error: &str) {
        let target = std::mem::replace(&mut *self.target(), Target::Done);
        let told = match target {
            Target::Parent(pipe) => {
                let mut message = vec![FAILED];
                // PIPE_BUF: written in one piece, whoever else writes.
                message.extend(error.bytes().filter(|byte| *byte != 0).take(4000));
                message.push(0);
                File::from(pipe).write_all(&message)
            }
            Target::Stdout(_) | Target::Done => writeln!(io::stderr(), "jsi-agent: {error}"),
        };
        drop(told); // nobody is left to tell
    }

    fn target(&self) -> std::sync::MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of an agent that was started in the background.
pub(super) enum Outcome {
    /// It serves; the broker's pid.
    Ready(Pid),
    /// It does not.
    Failed(String),
}

/// Waits for the agent behind the pipe to be ready or to fail.
pub(super) fn wait(pipe: OwnedFd) -> io::Result<Outcome> {
    let mut pipe = File::from(pipe);
    let mut message = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = match pipe.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        message.extend_from_slice(&chunk[..n]);
        let text = || String::from_utf8_lossy(&message[1..]).into_owned();
        match message.first() {
            // One write, and at most a few bytes: it is whole.
            Some(&READY) => match text().parse() {
                Ok(pid) => return Ok(Outcome::Ready(Pid::from_raw(pid))),
                Err(_) => return Ok(Outcome::Failed("the agent answered nonsense".to_owned())),
            },
            Some(_) if n == 0 => {
                return Ok(Outcome::Failed(
                    text().split('\0').next().unwrap_or_default().to_owned(),
                ));
            }
            None if n == 0 => {
                return Ok(Outcome::Failed("the agent ended before it was ready".to_owned()));
            }
            _ => {}
        }
    }
}

/// What a service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Requests are served, after start and after a reload.
    Ready,
    /// A reload has begun; [`Notice::Ready`] ends it.
    Reloading,
    /// The agent is stopping.
    Stopping,
}

/// Tells the service manager, where there is one (`NOTIFY_SOCKET`).
///
/// # Errors
/// When there is one and it cannot be reached.
pub fn notify(notice: Notice) -> io::Result<()> {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|a| !a.is_empty()) else {
        return Ok(());
    };
    let text = match notice {
        Notice::Ready => format!("READY=1\nMAINPID={}", std::process::id()),
        Notice::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()?),
        Notice::Stopping => "STOPPING=1".to_owned(),
    };
    send(address.as_bytes(), &text)
}

fn send(address: &[u8], text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    socket.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

fn monotonic_usec() -> io::Result<i64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000)
}

/// A pipe for [`Ready::to_parent`] and [`wait`]; close-on-exec.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// A second descriptor of the same pipe, close-on-exec.
pub(super) fn again(pipe: impl AsFd) -> io::Result<OwnedFd> {
    pipe.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_learns_of_readiness_of_failure_and_of_a_silent_end() {
        let (read, write) = pipe().unwrap();
        Ready::to_parent(write).signal().unwrap();
        let own = Pid::this();
        assert!(matches!(wait(read).unwrap(), Outcome::Ready(pid) if pid == own));

        let (read, write) = pipe().unwrap();
        Ready::to_parent(write).fail("the log is full");
        assert!(matches!(wait(read).unwrap(), Outcome::Failed(text) if text == "the log is full"));

        let (read, write) = pipe().unwrap();
        drop(Ready::to_parent(write));
        assert!(
            matches!(wait(read).unwrap(), Outcome::Failed(text) if text.contains("ended before"))
        );
    }

    #[test]
    fn of_two_processes_that_fail_the_first_is_heard() {
        let (read, write) = pipe().unwrap();
        let second = Ready::to_parent(again(&write).unwrap());
        Ready::to_parent(write).fail("no memory may be locked");
        second.fail("the attestor has ended");
        drop(second);
        assert!(
            matches!(wait(read).unwrap(), Outcome::Failed(text) if text == "no memory may be locked")
        );
    }

    #[test]
    fn an_agent_whose_parent_has_gone_is_not_ready() {
        let (read, write) = pipe().unwrap();
        drop(read);
        assert!(Ready::to_parent(write).signal().is_err());
    }

    #[test]
    fn a_service_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), "READY=1").unwrap();
        let name = format!("jsi-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_bytes(), "READY=1").unwrap();
        for socket in [at_path, abstract_one] {
            let mut buf = [0; 64];
            let n = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..n], b"READY=1");
        }
    }
}
