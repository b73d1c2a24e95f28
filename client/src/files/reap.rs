//! The reaper: waits for the end of a process or of leases, and removes files.
//!
//! It holds no secret, answers to no signal but SIGKILL, and ends when its work
//! is done. Descriptor 0 is the pidfd, 1 the channel of its orders, 2 the
//! directory; there are no others. Where it was killed, the next
//! `jsi exec --file` removes what was left.

use super::{Orders, wipe};
use crate::alarm::{Alarm, boot_time};
use crate::ready::Readable;
use jsi_client::Watch;
use jsi_client::v1::Lease;
use jsi_client::v1::lease_event::Kind;
use nix::sys::signal::SigSet;
use nix::unistd::{pipe, setsid};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long the agent may take to begin telling of leases.
const AGENT: Duration = Duration::from_secs(5);
/// Longest line of orders, in bytes.
const MOST: usize = 1024 * 1024;

/// The hidden subcommand: first the process that starts the reaper and waits
/// until it is at work, then (with the descriptor that says so) the reaper.
pub(crate) fn main(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let hold = arguments.last().and_then(|last| last.to_str()?.parse().ok());
    let done = match hold {
        Some(hold) => reap(hold),
        None => start(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started it reads this; later nobody does.
            let _ = descriptor(io::stdout())
                .map(std::os::unix::net::UnixStream::from)
                .and_then(|mut to| io::Write::write_all(&mut to, format!("{error}\n").as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Its parent stays until the agent has seen who asks: an orphan of pid 1 asks
/// for nobody.
fn start() -> io::Result<()> {
    close_the_rest()?;
    detach();
    let (mut read, write) = pipe().map(|(read, write)| (std::fs::File::from(read), write))?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC)?;
    let reaper = Command::new("/proc/self/exe")
        .arg0("jsi")
        .arg(super::reaper::COMMAND)
        .arg(write.as_raw_fd().to_string())
        .spawn()?;
    drop(write);
    drop(reaper); // not waited for: it outlives this process
    // Until it has closed its end, or has ended.
    read.read_to_end(&mut Vec::new()).map(drop)
}

/// A shell may have left more open than the three.
fn close_the_rest() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        let _ = nix::unistd::close(fd); // that of the listing is closed already
    }
    Ok(())
}

/// Neither the terminal nor the group of the command reaches it any more.
fn detach() {
    let _ = setsid(); // fails only where it leads a group of its own already
    let _ = SigSet::all().thread_block();
}

fn reap(hold: i32) -> io::Result<()> {
    detach();
    let _ = nix::sys::prctl::set_name(c"jsi-reaper");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut reaper = Reaper::begin()?;
        reaper.first(hold).await?;
        reaper.serve().await
    })
}

struct Reaper {
    process: Readable,
    directory: OwnedFd,
    /// `None`: nobody gives orders any more.
    channel: Option<UnixStream>,
    said: Vec<u8>,
    alarm: Alarm,
    orders: Orders,
    watch: Option<Watch>,
}

/// What has happened.
enum Event {
    /// The process has ended, or nothing is left to do.
    Ended,
    Orders(Orders),
    /// Nobody gives orders any more.
    HungUp,
    /// A lease has ended.
    Lease(String),
    /// A lease has so much time left now.
    Lasts(Box<Lease>),
    /// The agent tells nothing any more.
    Unwatched,
    /// A lease's time may be over.
    Time,
}

impl Reaper {
    fn begin() -> io::Result<Self> {
        let channel = std::os::unix::net::UnixStream::from(descriptor(io::stdout())?);
        channel.set_nonblocking(true)?;
        Ok(Self {
            process: Readable::new(descriptor(io::stdin())?)?,
            directory: descriptor(io::stderr())?,
            channel: Some(UnixStream::from_std(channel)?),
            said: Vec::new(),
            alarm: Alarm::new()?,
            orders: Orders::default(),
            watch: None,
        })
    }

    /// The first orders, and word that they are carried out.
    async fn first(&mut self, hold: i32) -> io::Result<()> {
        match read_orders(self.channel.as_mut(), &mut self.said).await? {
            Some(orders) => self.orders = orders,
            None => return Err(io::Error::other("it was told nothing")),
        }
        if self.orders.watch {
            self.alarm.set(Some(boot_time() + AGENT))?;
            tokio::select! {
                watch = watch() => self.watch = watch,
                _ = self.alarm.wait() => {}
            }
            self.alarm.set(None)?;
        }
        self.answer().await;
        // Lets the process go that started this one. A descriptor of our own,
        // which nothing here owns.
        let _ = nix::unistd::close(hold);
        Ok(())
    }

    async fn serve(mut self) -> io::Result<()> {
        loop {
            self.set_alarm()?;
            match self.next().await? {
                Event::Ended => return self.remove_all(),
                Event::Orders(orders) => {
                    self.orders = orders;
                    self.answer().await;
                }
                Event::HungUp => self.channel = None,
                Event::Unwatched => self.watch = None,
                Event::Lease(id) => self.lease_ended(&id),
                Event::Lasts(lease) => self.orders.lasts(&lease),
                Event::Time => self.times(),
            }
        }
    }

    async fn next(&mut self) -> io::Result<Event> {
        let Self { process, channel, said, alarm, watch, .. } = self;
        tokio::select! {
            biased;
            ended = process.wait() => ended.map(|()| Event::Ended),
            orders = read_orders(channel.as_mut(), said), if channel.is_some() => {
                // What is malformed comes from nobody who could be told.
                Ok(orders.ok().flatten().map_or(Event::HungUp, Event::Orders))
            }
            event = next_event(watch), if watch.is_some() => {
                Ok(event.unwrap_or(Event::Unwatched))
            }
            time = alarm.wait() => time.map(|()| Event::Time),
        }
    }

    /// Where the agent does not tell of ends, the times count.
    fn set_alarm(&self) -> io::Result<()> {
        let by_time = self.watch.is_none();
        let first = self.orders.leases.iter().map(|lease| lease.until_ms).min();
        self.alarm.set(first.filter(|_| by_time).map(Duration::from_millis))
    }

    fn times(&mut self) {
        let now = u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX);
        let over: Vec<String> = self
            .orders
            .leases
            .iter()
            .filter(|lease| lease.until_ms <= now)
            .map(|lease| lease.id.clone())
            .collect();
        over.iter().for_each(|id| self.lease_ended(id));
    }

    fn lease_ended(&mut self, id: &str) {
        let ended = self.orders.leases.iter().filter(|lease| lease.id == id);
        let names: Vec<String> = ended.flat_map(|lease| lease.files.clone()).collect();
        names.iter().for_each(|name| self.remove(name));
        self.orders.leases.retain(|lease| lease.id != id);
    }

    /// In a directory that is not ours, only while it is the file we know. Where
    /// that fails it is tried again at the end.
    fn remove(&self, name: &str) {
        if self.orders.own {
            let _ = wipe::file(&self.directory, name);
            return;
        }
        for file in self.orders.files.iter().filter(|file| file.name == name) {
            let _ = wipe::known(&self.directory, name, &file.node);
        }
    }

    fn remove_all(self) -> io::Result<()> {
        if self.orders.own {
            let path = Path::new(std::ffi::OsStr::from_bytes(&self.orders.path));
            return wipe::directory(&self.directory, path);
        }
        self.orders.files.iter().for_each(|file| self.remove(&file.name));
        Ok(())
    }

    /// Whoever gave the orders may be gone.
    async fn answer(&mut self) {
        if let Some(channel) = &self.channel
            && channel.writable().await.is_ok()
        {
            let _ = channel.try_write(b"ready\n");
        }
    }
}

/// The next line; `None`: there will be none.
async fn read_orders(
    channel: Option<&mut UnixStream>,
    said: &mut Vec<u8>,
) -> io::Result<Option<Orders>> {
    let Some(channel) = channel else { return Ok(None) };
    loop {
        if let Some(end) = said.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = said.drain(..=end).collect();
            return Ok(Some(serde_json::from_slice(&line)?));
        }
        channel.readable().await?;
        let mut piece = [0; 4096];
        match channel.try_read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => said.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if said.len() > MOST {
            return Err(io::Error::other("the orders are too long"));
        }
    }
}

/// The changes of the leases of whoever started the command. `None` where they
/// cannot be had; then the times count.
async fn watch() -> Option<Watch> {
    let agent = crate::session::agent().await.ok()?;
    let mut watch = agent.watch("", false).await.ok()?;
    // Those that were there come first: their end is certain to be told.
    while watch.next().await.ok()??.kind() != Kind::Synced {}
    Some(watch)
}

/// What the agent tells next; `None`: it tells nothing any more. The time that
/// it told last is what counts then.
async fn next_event(watch: &mut Option<Watch>) -> Option<Event> {
    loop {
        let event = watch.as_mut()?.next().await.ok()??;
        match (event.kind(), event.lease) {
            (Kind::Ending | Kind::Ended | Kind::Stuck, Some(lease)) => {
                return Some(Event::Lease(lease.id));
            }
            (Kind::Renewed | Kind::Present, Some(lease)) => {
                return Some(Event::Lasts(Box::new(lease)));
            }
            (Kind::Lost, _) => return None,
            _ => {}
        }
    }
}

fn descriptor(of: impl AsFd) -> io::Result<OwnedFd> {
    of.as_fd().try_clone_to_owned()
}
