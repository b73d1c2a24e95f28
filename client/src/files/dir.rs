//! The directory, and the files in it.

use super::orders::{Named, Node};
use super::{Place, sweep, wipe};
use crate::failure::Failure;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the names of our directories begin with.
pub(super) const PREFIX: &str = "jsi-files.";
/// How often another name is tried.
const TRIES: usize = 8;

/// An open directory that files with secrets are put into.
pub(crate) struct FileDir {
    path: PathBuf,
    fd: OwnedFd,
    own: bool,
}

/// A file that is not in its place yet, and empty.
pub(crate) struct New<'a> {
    dir: &'a FileDir,
    name: String,
    temporary: String,
    file: File,
}

impl FileDir {
    /// A fresh one of mode 0700, for the process that asks. What crashed ones
    /// left in that place is removed first.
    pub(crate) fn fresh(place: &Place) -> Result<Self, Failure> {
        sweep::sweep(&place.fd, &place.path);
        let fault = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot make a directory in {}: {error}", place.path.display()))
        };
        let owner = sweep::Owner::this().map_err(|error| fault(&error))?;
        for _ in 0..TRIES {
            let name = format!("{PREFIX}{owner}.{}", random().map_err(|error| fault(&error))?);
            match mkdirat(&place.fd, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => continue,
                Err(errno) => return Err(fault(&errno.desc())),
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(&place.fd, name.as_str(), flags, Mode::empty())
                .map_err(|errno| fault(&errno.desc()))?;
            // The umask may have taken from it; and what holds this lock guards it.
            fchmod(&fd, Mode::S_IRWXU).map_err(|errno| fault(&errno.desc()))?;
            flock(&fd, FlockOperation::NonBlockingLockShared).map_err(|error| fault(&error))?;
            return Ok(Self { path: place.path.join(name), fd, own: true });
        }
        Err(fault(&"every name that was tried is taken"))
    }

    /// One that [`FileDir::fresh`] made for another process of ours.
    pub(crate) fn existing(path: &Path) -> Result<Self, Failure> {
        let fault = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot open the directory {}: {error}", path.display()))
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|errno| fault(&errno.desc()))?;
        let stat = fstat(&fd).map_err(|errno| fault(&errno.desc()))?;
        let ours = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0;
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if !ours || !named {
            return Err(fault(&"it is not a directory of jsi's own"));
        }
        flock(&fd, FlockOperation::NonBlockingLockShared).map_err(|error| fault(&error))?;
        Ok(Self { path: path.to_owned(), fd, own: true })
    }

    /// One that is not made for the files, and stays.
    pub(crate) fn at(place: Place) -> Self {
        let Place { path, fd } = place;
        Self { path, fd, own: false }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It goes with its files.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// It is on memory.
    pub(crate) fn is_on_memory(&self) -> bool {
        super::place::on_memory(&self.fd).unwrap_or(false)
    }

    /// Another descriptor of the same opening, so that a lock is shared.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// A file of that mode, empty, and not in its place yet.
    pub(crate) fn begin(&self, name: &str, mode: u32) -> Result<New<'_>, Failure> {
        let fault = |error: &dyn std::fmt::Display| self.fault(name, error);
        let temporary = format!(".{name}.{}", random().map_err(|error| fault(&error))?);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| fault(&errno.desc()))?;
        let new = New { dir: self, name: name.to_owned(), temporary, file: fd.into() };
        fchmod(&new.file, Mode::from_bits_truncate(mode)).map_err(|errno| fault(&errno.desc()))?;
        Ok(new)
    }

    /// A file of mode 0600 with that content. Whole or not at all.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        self.begin(name, 0o600)?.commit(content)
    }

    /// Removes what was made, where nobody else will.
    pub(crate) fn remove(&self) {
        if self.own {
            let _ = wipe::directory(&self.fd, &self.path); // the next one sweeps
        }
    }

    /// Removes one file while it is still the one that was made.
    pub(crate) fn remove_file(&self, file: &Named) {
        let _ = wipe::known(&self.fd, &file.name, &file.node); // its reaper does the same
    }

    fn fault(&self, name: &str, error: impl std::fmt::Display) -> Failure {
        Failure::new(format!("cannot write {name} in {}: {error}", self.path.display()))
    }
}

impl AsFd for FileDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl New<'_> {
    /// Its name until it is in its place.
    pub(crate) fn temporary(&self) -> &str {
        &self.temporary
    }

    /// Which file it is, which it stays in its place.
    pub(crate) fn node(&self) -> Result<Node, Failure> {
        Node::of(&self.file).map_err(|error| self.dir.fault(&self.name, error))
    }

    /// Gives it to another user, which takes a privilege.
    pub(crate) fn give(&self, uid: u32, gid: Option<u32>) -> Result<(), Failure> {
        fchown(&self.file, Some(Uid::from_raw(uid)), gid.map(Gid::from_raw))
            .map_err(|errno| self.dir.fault(&self.name, errno.desc()))
    }

    /// Fills it and puts it in its place, over what is there: a link there is
    /// replaced, not followed.
    pub(crate) fn commit(mut self, content: &[u8]) -> Result<PathBuf, Failure> {
        self.file.write_all(content).map_err(|error| {
            let failure = self.dir.fault(&self.name, &error);
            match error.kind() {
                io::ErrorKind::StorageFull => {
                    failure.advise("make room there, or name another place with --file-dir")
                }
                _ => failure,
            }
        })?;
        renameat(&self.dir.fd, self.temporary.as_str(), &self.dir.fd, self.name.as_str())
            .map_err(|errno| self.dir.fault(&self.name, errno.desc()))?;
        let path = self.dir.path.join(&self.name);
        self.temporary.clear();
        Ok(path)
    }
}

impl Drop for New<'_> {
    /// Where it was not put in its place.
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            let _ = self.file.set_len(0); // unlinking is what counts
            let name = self.temporary.as_str();
            let _ = unlinkat(&self.dir.fd, name, UnlinkatFlags::NoRemoveDir); // its reaper does the same
        }
    }
}

/// 16 characters that nobody can foresee.
fn random() -> io::Result<String> {
    let mut bytes = [0; 10];
    let failed = |_| io::Error::other("there is no randomness");
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn place() -> Place {
        Place::choose(Some(Path::new("/dev/shm")), false).unwrap()
    }

    #[test]
    fn files_are_of_mode_0600_in_a_directory_of_mode_0700() {
        let dir = FileDir::fresh(&place()).unwrap();
        let path = dir.write("TOKEN", b"value").unwrap();
        assert_eq!((mode(dir.path()), mode(&path)), (0o700, 0o600));
        assert_eq!(std::fs::read(&path).unwrap(), b"value");
        dir.write("TOKEN", b"another").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        dir.remove();
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_link_in_a_files_place_is_replaced() {
        let outside = tempfile::tempdir().unwrap();
        let kept = outside.path().join("kept");
        std::fs::write(&kept, "kept").unwrap();
        let dir = FileDir::fresh(&place()).unwrap();
        symlink(&kept, dir.path().join("TOKEN")).unwrap();
        dir.write("TOKEN", b"value").unwrap();
        assert_eq!(std::fs::read(&kept).unwrap(), b"kept");
        assert_eq!(std::fs::read(dir.path().join("TOKEN")).unwrap(), b"value");
        dir.remove();
    }

    #[test]
    fn a_directory_in_a_files_place_is_an_error_and_leaves_nothing() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("target")).unwrap();
        let dir = FileDir::at(Place::choose(Some(outside.path()), true).unwrap());
        assert!(dir.write("target", b"value").is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
