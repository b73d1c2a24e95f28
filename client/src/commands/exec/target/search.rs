//! Finding a program as execvp does, and opening it.

use super::{NOT_FOUND, cannot_run};
use crate::failure::Failure;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for without PATH, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A file that can be executed, open for nothing else.
pub(super) struct Opened {
    pub(super) file: File,
}

impl Opened {
    /// Fails as execution would.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let opened = Self::to_read(path)?;
        nix::unistd::access(&opened.link(), nix::unistd::AccessFlags::X_OK)?;
        Ok(opened)
    }

    /// The same for what an interpreter is to read.
    pub(super) fn to_read(path: &Path) -> io::Result<Self> {
        let fd: OwnedFd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let opened = Self { file: fd.into() };
        if !opened.file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a regular file"));
        }
        Ok(opened)
    }

    /// A path that leads to this very file: proc_pid_fd(5).
    pub(super) fn link(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Its bytes; `None`: it may be executed but not read.
    pub(super) fn bytes(&self) -> io::Result<Option<File>> {
        match File::open(self.link()) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The first file on the way that can be executed, and the name it was found by.
pub(super) fn search(program: &OsStr, path: Option<&OsStr>) -> Result<(PathBuf, Opened), Failure> {
    let not_found =
        || Failure::new(format!("{}: command not found", program.display())).code(NOT_FOUND);
    if program.is_empty() {
        return Err(not_found());
    }
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match Opened::at(&path) {
            Ok(opened) => Ok((path, opened)),
            Err(error) => Err(cannot_run(&path, &error)),
        };
    }
    let mut refused = None;
    let places = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    for place in places.as_bytes().split(|b| *b == b':') {
        let place =
            if place.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(place)) };
        let candidate = place.join(program);
        match Opened::at(&candidate) {
            Ok(opened) => return Ok((candidate, opened)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert((candidate, error));
            }
            Err(_) => {}
        }
    }
    match refused {
        Some((candidate, error)) => Err(cannot_run(&candidate, &error)),
        None => Err(not_found()),
    }
}
