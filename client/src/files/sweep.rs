//! What a reaper that was killed, or a host that crashed, has left.

use super::dir::PREFIX;
use super::wipe;
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::geteuid;
use rustix::fs::{FlockOperation, flock};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

/// The process that a directory was made for. It stands in the directory's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// Clock ticks since boot: see proc_pid_stat(5), field 22.
    start: u64,
}

impl Owner {
    /// This process, which may become another program.
    pub(super) fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let start = start_of(pid).ok_or_else(|| io::Error::other("/proc is not readable"))?;
        Ok(Self { pid, start })
    }

    fn lives(self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start)
    }
}

impl FromStr for Owner {
    type Err = ();

    /// From the whole name of a directory.
    fn from_str(name: &str) -> Result<Self, ()> {
        let rest = name.strip_prefix(PREFIX).ok_or(())?;
        let (pid, start) =
            rest.split('.').next().and_then(|owner| owner.split_once('-')).ok_or(())?;
        Ok(Self { pid: pid.parse().map_err(drop)?, start: start.parse().map_err(drop)? })
    }
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18))??.parse().ok()
}

/// Removes directories of ours that nobody guards, and whose process is gone.
/// In silence: it is another command's business.
pub(super) fn sweep(place: &OwnedFd, path: &Path) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let listing = openat(place, ".", flags, Mode::empty()).and_then(Dir::from_fd);
    let Ok(mut listing) = listing else { return };
    for found in listing.iter().flatten() {
        let Ok(name) = found.file_name().to_str() else { continue };
        let Ok(owner) = name.parse::<Owner>() else { continue };
        if owner.lives() {
            continue;
        }
        let Ok(dir) = openat(place, name, flags, Mode::empty()) else { continue };
        let ours = fstat(&dir).is_ok_and(|stat| stat.st_uid == geteuid().as_raw());
        // In another pid namespace nobody has that pid; but a reaper holds the lock.
        if ours && flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = wipe::directory(&dir, &path.join(name)); // the next one tries again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileDir, Place};
    use super::*;

    #[test]
    fn a_name_tells_whose_directory_it_is() {
        let owner = Owner { pid: 7, start: 99 };
        assert_eq!(format!("{PREFIX}{owner}.abc").parse(), Ok(owner));
        for bad in ["jsi-files.", "jsi-files.7.abc", "jsi-files.x-9.a", "other.7-99.abc"] {
            assert!(bad.parse::<Owner>().is_err(), "{bad}");
        }
        assert!(Owner::this().unwrap().lives());
        assert!(!Owner { start: 1, ..Owner::this().unwrap() }.lives());
    }

    #[test]
    fn only_what_is_unguarded_and_without_a_process_is_swept() {
        let base = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
        let place = Place::choose(Some(base.path()), false).unwrap();
        let make = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("a"), "secret").unwrap();
            path
        };
        let gone = Owner { pid: std::process::id(), start: 1 };
        let left = make(&format!("{PREFIX}{gone}.aaaa"));
        let guarded = make(&format!("{PREFIX}{gone}.bbbb"));
        let lock = std::fs::File::open(&guarded).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockShared).unwrap();
        let living = make(&format!("{PREFIX}{}.cccc", Owner::this().unwrap()));
        let other = make("other");
        let fresh = FileDir::fresh(&place).unwrap();
        assert!(!left.exists());
        assert!(guarded.exists() && living.exists() && other.exists());
        fresh.remove();
    }
}
