//! What the process that becomes the command tells its supervisor before it
//! does, and what it waits for.
//!
//! Two pipes whose ends the child inherits by number. It opens them anew by
//! their path in /proc, since a number cannot be owned without unsafe code.

use crate::failure::Failure;
use crate::files::Orders;
use crate::obtain::Obtained;
use crate::ready::Readable;
use jsi_client::v1::Lease;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use zeroize::Zeroizing;

/// Longest frame, in bytes: a secret and its label.
const LONGEST: usize = 2 * 1024 * 1024;
/// Length of what stands before a frame, in bytes: its kind and its length.
const HEAD: usize = 5;

const PID: u8 = b'P';
const LEASE: u8 = b'L';
const SECRET: u8 = b'S';
const FILES: u8 = b'D';
const READY: u8 = b'R';
const FAILED: u8 = b'F';

/// What the child says.
pub(super) enum Frame {
    /// Its pid.
    Pid(u32),
    /// A lease that it holds.
    Lease(Box<Lease>),
    /// A value that it was given, and what it is called.
    Secret(String, Zeroizing<Vec<u8>>),
    /// Files that it will make once it is answered.
    Files(Orders),
    /// It will become the command once it is answered.
    Ready,
    /// It cannot; its user knows why. Whether it may help to try again.
    Failed { again: bool },
}

/// The supervisor's ends, and those that the child is to inherit.
pub(super) struct Link {
    pub(super) frames: Frames,
    go: File,
    theirs: Option<(OwnedFd, OwnedFd)>,
}

/// What comes from the child.
pub(super) struct Frames {
    from: Readable,
    head: [u8; HEAD],
    body: Zeroizing<Vec<u8>>,
    got: usize,
}

impl Link {
    /// Needs a tokio runtime with I/O.
    pub(super) fn new() -> io::Result<Self> {
        let (from, report) = pipe2(OFlag::O_CLOEXEC)?;
        let (wait, go) = pipe2(OFlag::O_CLOEXEC)?;
        rustix::fs::fcntl_setfl(&from, rustix::fs::OFlags::NONBLOCK)?;
        fcntl_setfd(&report, FdFlags::empty())?;
        fcntl_setfd(&wait, FdFlags::empty())?;
        let frames = Frames {
            from: Readable::new(from)?,
            head: [0; HEAD],
            body: Zeroizing::new(Vec::new()),
            got: 0,
        };
        Ok(Self { frames, go: go.into(), theirs: Some((report, wait)) })
    }

    /// The numbers that the child finds its ends by.
    pub(super) fn numbers(&self) -> [String; 2] {
        let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        self.theirs
            .as_ref()
            .map(|(report, wait)| [number(report), number(wait)])
            .unwrap_or_default()
    }

    /// The child has them.
    pub(super) fn started(&mut self) {
        self.theirs = None;
    }

    /// Answers it.
    pub(super) fn go(&mut self) -> io::Result<()> {
        self.go.write_all(b"g")
    }
}

impl Frames {
    /// The next frame; `None`: there will be none. Loses nothing when dropped
    /// halfway.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        while self.got < HEAD {
            let rest = self.head.get_mut(self.got..).unwrap_or_default();
            match self.from.read(rest).await? {
                0 => return Ok(None),
                count => self.got += count,
            }
        }
        let [kind, length @ ..] = self.head;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Err(malformed());
        }
        if self.body.len() != length {
            self.body = Zeroizing::new(vec![0; length]);
        }
        while self.got < HEAD + length {
            let rest = self.body.get_mut(self.got - HEAD..).unwrap_or_default();
            match self.from.read(rest).await? {
                0 => return Ok(None),
                count => self.got += count,
            }
        }
        self.got = 0;
        let body = std::mem::take(&mut self.body);
        frame(kind, &body).map(Some)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "jsi does not understand itself")
}

fn frame(kind: u8, body: &[u8]) -> io::Result<Frame> {
    let text = || std::str::from_utf8(body).map_err(|_| malformed());
    Ok(match kind {
        PID => Frame::Pid(text()?.parse().map_err(|_| malformed())?),
        LEASE => {
            let (left, id) = text()?.split_once(' ').ok_or_else(malformed)?;
            let left: u64 = left.parse().map_err(|_| malformed())?;
            Frame::Lease(Box::new(lease(id, left)))
        }
        SECRET => {
            let end = body.iter().position(|b| *b == 0).ok_or_else(malformed)?;
            let label = String::from_utf8_lossy(body.get(..end).unwrap_or_default()).into_owned();
            Frame::Secret(label, Zeroizing::new(body.get(end + 1..).unwrap_or_default().to_vec()))
        }
        FILES => Frame::Files(serde_json::from_slice(body)?),
        READY => Frame::Ready,
        FAILED => Frame::Failed { again: body == b"again" },
        _ => return Err(malformed()),
    })
}

/// As much of a lease as is to be known: its ID and what is left of it.
fn lease(id: &str, left_ms: u64) -> Lease {
    let remaining = prost_types::Duration {
        seconds: i64::try_from(left_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(left_ms % 1000 * 1_000_000).unwrap_or_default(),
    };
    Lease { id: id.to_owned(), remaining: Some(remaining), ..Lease::default() }
}

/// The child's ends.
pub(crate) struct Report {
    to: File,
    go: File,
}

impl Report {
    /// By the numbers that it was given.
    pub(crate) fn open(to: i32, go: i32) -> io::Result<Self> {
        let reopen = |fd: i32, how: OFlag| -> io::Result<File> {
            let path = format!("/proc/self/fd/{fd}");
            let opened = open(path.as_str(), how | OFlag::O_CLOEXEC, Mode::empty())?;
            nix::unistd::close(fd)?;
            Ok(opened.into())
        };
        Ok(Self { to: reopen(to, OFlag::O_WRONLY)?, go: reopen(go, OFlag::O_RDONLY)? })
    }

    /// Who it is, what it was granted, and, where `secrets` are wanted, what it
    /// was given.
    pub(crate) fn obtained(&mut self, obtained: &Obtained, secrets: bool) -> Result<(), Failure> {
        self.tell(obtained, secrets).map_err(gone)
    }

    fn tell(&mut self, obtained: &Obtained, secrets: bool) -> io::Result<()> {
        self.send(PID, std::process::id().to_string().as_bytes())?;
        for leased in obtained.leases() {
            let lease = leased.lease();
            let left = crate::keep::left(lease).as_millis();
            self.send(LEASE, format!("{left} {}", lease.id).as_bytes())?;
            for field in leased.fields().iter().filter(|field| secrets && field.sensitive()) {
                let label = format!("{}#{}\0", lease.credential, field.name());
                let mut body =
                    Zeroizing::new(Vec::with_capacity(label.len() + field.value().len()));
                body.extend_from_slice(label.as_bytes());
                body.extend_from_slice(field.value());
                self.send(SECRET, &body)?;
            }
        }
        Ok(())
    }

    /// Files that are to come; they may be made when this returns.
    pub(crate) fn files(&mut self, orders: &Orders) -> Result<(), Failure> {
        let body = serde_json::to_vec(orders).map_err(io::Error::from);
        body.and_then(|body| self.send(FILES, &body)).and_then(|()| self.wait()).map_err(gone)
    }

    /// All is done; the command may come when this returns.
    pub(crate) fn ready(&mut self) -> Result<(), Failure> {
        self.send(READY, &[]).and_then(|()| self.wait()).map_err(gone)
    }

    /// It came to nothing.
    pub(crate) fn failed(&mut self, again: bool) {
        let _ = self.send(FAILED, if again { b"again" } else { b"" }); // its end says it too
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| malformed())?;
        let [a, b, c, d] = length.to_le_bytes();
        self.to.write_all(&[kind, a, b, c, d])?;
        self.to.write_all(body)
    }

    fn wait(&mut self) -> io::Result<()> {
        self.go.read_exact(&mut [0])
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::new(format!("the supervisor of this command is gone: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut link = Link::new().unwrap();
            let (to, go) = link.theirs.take().unwrap();
            let mut report = Report { to: to.into(), go: go.into() };
            report.send(PID, b"42").unwrap();
            report.send(SECRET, b"a#b\0va\0lue").unwrap();
            report.send(LEASE, b"1500 a/x").unwrap();
            report.failed(true);
            drop(report);
            let mut next = async || link.frames.next().await.unwrap();
            assert!(matches!(next().await, Some(Frame::Pid(42))));
            let Some(Frame::Secret(label, value)) = next().await else { panic!() };
            assert_eq!((label.as_str(), value.as_slice()), ("a#b", &b"va\0lue"[..]));
            let Some(Frame::Lease(lease)) = next().await else { panic!() };
            assert_eq!(lease.id, "a/x");
            assert_eq!(crate::keep::left(&lease).as_millis(), 1500);
            assert!(matches!(next().await, Some(Frame::Failed { again: true })));
            assert!(next().await.is_none());
        });
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (kind, body) in [(b'?', ""), (PID, "x"), (LEASE, "5"), (SECRET, "x"), (FILES, "{")] {
            assert!(frame(kind, body.as_bytes()).is_err(), "{kind} {body}");
        }
    }
}
