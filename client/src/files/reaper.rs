//! Starting a reaper, and telling it what to do.

use super::{FileDir, Orders};
use crate::failure::Failure;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "reap-files";
/// How long a reaper may take until it is ready. It gives up asking the agent
/// before.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to answer later: it has nothing else to do.
const ANSWER: Duration = Duration::from_secs(2);
/// By which the agent is found.
const KEPT: [&str; 2] = ["JSI_AUTH_SOCK", "XDG_RUNTIME_DIR"];

/// A process that removes files when another has ended, or their leases have.
/// Goes on when this value is dropped.
pub(crate) struct Reaper {
    channel: UnixStream,
}

impl Reaper {
    /// Starts one; when this returns it is at work.
    ///
    /// It is the same program again, without anything of the terminal, the
    /// command or its pipes: its three descriptors are the process that it
    /// waits for, the channel of its orders, and the directory. The process
    /// that starts it ends, so that the command has no child it does not know.
    pub(crate) fn start(dir: &FileDir, process: u32, orders: &Orders) -> Result<Self, Failure> {
        start(dir, process, orders).map_err(|error| {
            Failure::new(format!(
                "no process could be started that removes the files in {}: {error}",
                dir.path().display()
            ))
        })
    }

    /// Gives it other orders.
    pub(crate) fn tell(&mut self, orders: &Orders) -> io::Result<()> {
        self.channel.write_all(&line(orders)?)?;
        answer(&self.channel)
    }
}

fn start(dir: &FileDir, process: u32, orders: &Orders) -> io::Result<Reaper> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the process has no pid"))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (channel, theirs) = UnixStream::pair()?;
    channel.set_read_timeout(Some(READY))?;
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let environment: Vec<(&str, OsString)> = kept.collect();
    let mut child = Command::new("/proc/self/exe")
        .arg0("jsi")
        .arg(COMMAND)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::from(process))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::from(dir.share()?))
        .spawn()?;
    let ready = (&channel).write_all(&line(orders)?).and_then(|()| answer(&channel));
    if ready.is_err() {
        // Ends the reaper too: it does not serve before it has answered.
        let _ = channel.shutdown(std::net::Shutdown::Both);
    }
    let ended = child.wait()?;
    ready?;
    channel.set_read_timeout(Some(ANSWER))?;
    if !ended.success() {
        return Err(io::Error::other(format!("it ended at once ({ended})")));
    }
    Ok(Reaper { channel })
}

fn line(orders: &Orders) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(orders)?;
    line.push(b'\n');
    Ok(line)
}

/// It says `ready`, or what is wrong.
fn answer(channel: &UnixStream) -> io::Result<()> {
    let mut said = String::new();
    BufReader::with_capacity(512, channel).read_line(&mut said)?;
    match said.trim_end() {
        "ready" => Ok(()),
        "" => Err(io::Error::other("it ended without a word")),
        other => Err(io::Error::other(other.to_owned())),
    }
}
