//! Where files with secrets may be.

use crate::failure::Failure;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, access, geteuid};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Of ramfs, from linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// A directory in which others can be made, open.
pub(crate) struct Place {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
}

/// Why a directory is none.
enum Fault {
    /// It cannot be had at all.
    Unusable(String),
    /// It is not on memory.
    OnDisk,
}

impl Place {
    /// The directory that was named, else the first of `$XDG_RUNTIME_DIR`,
    /// `/run/user/UID` and `/dev/shm` that is on memory and safe.
    pub(crate) fn choose(named: Option<&Path>, allow_disk: bool) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Self::named(path, allow_disk);
        }
        let uid = geteuid();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
        let places = runtime
            .map(PathBuf::from)
            .into_iter()
            .chain([PathBuf::from(format!("/run/user/{uid}")), PathBuf::from("/dev/shm")]);
        let mut faults: Vec<String> = Vec::new();
        for path in places {
            match Self::at(&path, false) {
                Ok(place) => return Ok(place),
                Err(Fault::OnDisk) => faults.push(format!("{} is not on memory", path.display())),
                Err(Fault::Unusable(why)) => faults.push(format!("{}: {why}", path.display())),
            }
        }
        faults.dedup();
        let failure = Failure::new("there is no place on memory for a file with a secret");
        Err(faults
            .into_iter()
            .fold(failure, Failure::advise)
            .advise("name one with --file-dir DIR; one on a disk needs --allow-disk too"))
    }

    fn named(path: &Path, allow_disk: bool) -> Result<Self, Failure> {
        let shown = path.display();
        Self::at(path, allow_disk).map_err(|fault| match fault {
            Fault::Unusable(why) => Failure::new(format!("no file can be made in {shown}: {why}")),
            Fault::OnDisk => Failure::usage(format!(
                "{shown} is not on memory (tmpfs): what is written there may stay on the disk"
            ))
            .advise("say --allow-disk if that is meant"),
        })
    }

    fn at(path: &Path, allow_disk: bool) -> Result<Self, Fault> {
        let unusable = |error: nix::Error| Fault::Unusable(error.desc().to_owned());
        let absolute = std::path::absolute(path).map_err(|e| Fault::Unusable(e.to_string()))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(&absolute, flags, Mode::empty()).map_err(unusable)?;
        let stat = fstat(&fd).map_err(unusable)?;
        if let Some(why) = unsafe_place(stat.st_uid, stat.st_mode, geteuid().as_raw()) {
            return Err(Fault::Unusable(why.to_owned()));
        }
        access(&absolute, AccessFlags::W_OK | AccessFlags::X_OK).map_err(unusable)?;
        if !allow_disk && !on_memory(&fd).map_err(unusable)? {
            return Err(Fault::OnDisk);
        }
        Ok(Self { path: absolute, fd })
    }
}

/// Why somebody else could take away or put in place what is made there;
/// `None`: nobody could.
fn unsafe_place(owner: u32, mode: u32, uid: u32) -> Option<&'static str> {
    let others_write = mode & 0o022 != 0;
    let sticky = mode & 0o1000 != 0;
    if owner != uid && owner != 0 {
        return Some("it belongs to another user");
    }
    (others_write && !sticky).then_some("others can write there, and it has no sticky bit")
}

pub(super) fn on_memory(fd: &OwnedFd) -> nix::Result<bool> {
    let found = fstatfs(fd)?.filesystem_type();
    Ok(found == TMPFS_MAGIC || found == RAMFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_where_others_could_meddle_is_refused() {
        assert_eq!(unsafe_place(1000, 0o40_700, 1000), None);
        assert_eq!(unsafe_place(0, 0o41_777, 1000), None);
        assert!(unsafe_place(0, 0o40_777, 1000).is_some());
        assert!(unsafe_place(1001, 0o40_700, 1000).is_some());
        assert!(unsafe_place(1000, 0o40_770, 1000).is_some());
    }

    #[test]
    fn a_disk_is_refused_unless_it_is_allowed() {
        let memory = Place::choose(Some(Path::new("/dev/shm")), false);
        assert!(memory.is_ok_and(|place| on_memory(&place.fd) == Ok(true)));
        // /proc is neither a disk nor a place on memory.
        let Err(Failure::Told { code, message, .. }) = Place::choose(Some(Path::new("/")), false)
        else {
            panic!("the root directory was taken")
        };
        if nix::unistd::geteuid().is_root() {
            assert_eq!(code, 2, "{message}");
        }
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let Err(Failure::Told { message, .. }) = Place::choose(Some(Path::new("/nowhere")), true)
        else {
            panic!("it was taken")
        };
        assert!(message.contains("/nowhere") && message.contains("No such file"), "{message}");
    }
}
