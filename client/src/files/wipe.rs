//! Removal: overwritten, cut to nothing, unlinked.

use super::orders::Node;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Directories within directories that are followed: what a command may have
/// put there is gone with the host's memory in any case.
const DEEPEST: usize = 16;
/// Written over a file at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// Longest file that is written over, in bytes: longer than any secret.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Removes one file. That it is gone already is no error.
pub(super) fn file(dir: impl AsFd, name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    entry(dir.as_fd(), &name)
}

/// Removes one file while it is still that one; what somebody has put in its
/// place is theirs.
pub(super) fn known(dir: impl AsFd, name: &str, node: &Node) -> io::Result<()> {
    let dir = dir.as_fd();
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let is_it = || match openat(dir, name.as_c_str(), flags, Mode::empty()) {
        Ok(fd) => Node::of(&File::from(fd)).is_ok_and(|now| now == *node),
        Err(_) => false,
    };
    if is_it() {
        overwrite(dir, &name, Some(node));
    }
    match is_it() {
        true => unlink(dir, &name),
        false => Ok(()),
    }
}

fn entry(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    overwrite(dir.as_fd(), name, None);
    unlink(dir.as_fd(), name)
}

fn unlink(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A copy that was made by a hard link, or a descriptor that is open, has
/// zeros then. What cannot be opened so (a link, a pipe, a file that the
/// command took its rights from) is not ours to write over, and only unlinked.
fn overwrite(dir: impl AsFd, name: &CStr, only: Option<&Node>) {
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(fd) = openat(dir, name, flags, Mode::empty()) else { return };
    let Ok(stat) = fstat(&fd) else { return };
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return;
    }
    let mut file = File::from(fd);
    if only.is_some_and(|only| Node::of(&file).map_or(true, |now| now != *only)) {
        return;
    }
    let mut left = u64::try_from(stat.st_size).unwrap_or_default().min(LONGEST);
    let zeros = [0; PIECE];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        if file.write_all(zeros.get(..count).unwrap_or_default()).is_err() {
            break; // unlinking is what counts
        }
        left -= count as u64;
    }
    let _ = file.set_len(0); // unlinking is what counts
}

/// Removes a directory, where it is still the one that is open, and all in it.
pub(super) fn directory(open: &OwnedFd, path: &Path) -> io::Result<()> {
    empty(open, DEEPEST)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(parent) = nix::fcntl::open(parent, flags, Mode::empty()) else { return Ok(()) };
    let Ok(found) = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return Ok(()) };
    let ours = fstat(open)?;
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino) {
        return Ok(()); // the command has put something else there
    }
    match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn empty(dir: &OwnedFd, deepest: usize) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Opened anew, since a directory that is read keeps its place.
    let mut listing = Dir::from_fd(openat(dir, OsStr::from_bytes(b"."), flags, Mode::empty())?)?;
    let mut first = Ok(());
    for found in listing.iter() {
        let found = found?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = match found.file_type() {
            Some(kind) => kind == Type::Directory,
            None => fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|s| s.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()),
        };
        let done = match is_dir {
            false => entry(dir, name),
            true if deepest == 0 => Err(io::Error::other("directories are nested too deep")),
            true => openat(dir, name, flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|below| empty(&below, deepest - 1))
                .and_then(|()| Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)),
        };
        first = first.and(done); // the others are removed all the same
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn a_file_is_zero_for_those_who_have_it_open_or_linked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "secret").unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        file(open(dir.path()), "a").unwrap();
        assert!(!dir.path().join("a").exists());
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"");
        file(open(dir.path()), "a").unwrap();
    }

    #[test]
    fn a_known_file_goes_and_what_took_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "secret").unwrap();
        let node = Node::of(&File::open(&a).unwrap()).unwrap();
        std::fs::write(&b, "theirs").unwrap();
        std::fs::rename(&b, &a).unwrap();
        known(open(dir.path()), "a", &node).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), b"theirs");
        // Nor is another name of theirs followed.
        let theirs = Node::of(&File::open(&a).unwrap()).unwrap();
        symlink(&a, &b).unwrap();
        known(open(dir.path()), "b", &theirs).unwrap();
        assert!(a.exists() && b.is_symlink());
        known(open(dir.path()), "a", &theirs).unwrap();
        known(open(dir.path()), "a", &theirs).unwrap();
        assert!(!a.exists());
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "kept").unwrap();
        let ours = dir.path().join("ours");
        std::fs::create_dir_all(ours.join("below/deeper")).unwrap();
        std::fs::write(ours.join("below/deeper/x"), "secret").unwrap();
        symlink(outside.path().join("kept"), ours.join("file")).unwrap();
        symlink(outside.path(), ours.join("dir")).unwrap();
        nix::unistd::mkfifo(&ours.join("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::set_permissions(ours.join("below/deeper/x"), PermissionsExt::from_mode(0o400))
            .unwrap();
        directory(&open(&ours), &ours).unwrap();
        assert!(!ours.exists());
        assert_eq!(std::fs::read(outside.path().join("kept")).unwrap(), b"kept");
    }

    #[test]
    fn what_was_put_in_the_directorys_place_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours");
        std::fs::create_dir(&ours).unwrap();
        std::fs::write(ours.join("a"), "secret").unwrap();
        let opened = open(&ours);
        std::fs::rename(&ours, dir.path().join("moved")).unwrap();
        std::fs::create_dir(&ours).unwrap();
        std::fs::write(ours.join("other"), "other").unwrap();
        directory(&opened, &ours).unwrap();
        assert!(ours.join("other").exists());
        assert!(!dir.path().join("moved/a").exists());
    }
}
