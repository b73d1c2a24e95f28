//! Reading files that decide which credential goes into which variable.

use crate::failure::Failure;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{getgid, getuid};
use ring::digest::{SHA256, digest};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file that is read, in bytes: far more than anybody writes, and little
/// to hold.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file as it was when it was read, once: what is checked is what is used.
pub(crate) struct ReadFile {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// All of it.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// SHA-256 of the bytes, lower-case hex.
    pub(crate) digest: String,
}

/// Reads a file that nobody but the caller and root could have written.
pub(crate) fn read(path: &Path) -> Result<ReadFile, Failure> {
    let path = placed(path)?;
    // A pipe in its place must not make the caller wait.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(&path, flags, Mode::empty()).map(File::from);
    let file = file.map_err(|errno| cannot_read(&path, &errno.into()))?;
    let found = file.metadata().map_err(|error| cannot_read(&path, &error))?;
    if !found.is_file() {
        return Err(Failure::new(format!("{} is not a regular file", path.display())));
    }
    private(&path, &found)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let above = std::fs::metadata(directory).map_err(|error| cannot_read(directory, &error))?;
    private(directory, &above)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(&path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(format!("{} is larger than 1 MiB", path.display())));
    }
    let digest = data_encoding::HEXLOWER.encode(digest(&SHA256, &bytes).as_ref());
    Ok(ReadFile { path, bytes, digest })
}

/// A file's one name: its directory without links and `..`, and its own name,
/// which may be that of a link.
pub(crate) fn placed(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| cannot_read(path, &error))?;
    let (Some(directory), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Failure::new(format!("{} is not a file", path.display())));
    };
    let directory = directory.canonicalize().map_err(|error| cannot_read(path, &error))?;
    Ok(directory.join(name))
}

/// Whether others than the caller and root may write there. In a sticky
/// directory (/tmp) they may add files, but not replace one of the caller's.
pub(crate) fn writable_by_others(found: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    let sticky = found.is_dir() && found.mode() & STICKY != 0;
    // A group of one's own has the number of its user (adduser's USERGROUPS).
    let own_group = found.gid() == getgid().as_raw() && found.gid() == getuid().as_raw();
    let by_group = found.mode() & 0o020 != 0 && !own_group;
    !sticky && (found.mode() & 0o002 != 0 || by_group)
}

/// Whether it belongs to the caller or to root.
pub(crate) fn own(found: &Metadata) -> bool {
    found.uid() == getuid().as_raw() || found.uid() == 0
}

fn private(path: &Path, found: &Metadata) -> Result<(), Failure> {
    if !own(found) {
        return Err(Failure::new(format!(
            "{} belongs to uid {}, who could choose which credentials go where",
            path.display(),
            found.uid()
        ))
        .code(3)
        .advise("take a copy of your own, or leave it out: --no-project"));
    }
    if writable_by_others(found) {
        return Err(Failure::new(format!(
            "{} can be written by others (mode {:04o}, group {}), who could choose which \
             credentials go where",
            path.display(),
            found.mode() & 0o7777,
            found.gid()
        ))
        .code(3)
        .advise(format!("close it: chmod go-w {}", path.display()))
        .advise("or leave it out: --no-project"));
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { 4 } else { 1 };
    Failure::new(format!("cannot read {}: {error}", path.display())).code(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("project");
        fs::create_dir(&place).unwrap();
        let file = place.join("jsi.toml");
        fs::write(&file, "x").unwrap();
        for (file_mode, place_mode, good) in [
            (0o644, 0o755, true),
            (0o600, 0o700, true),
            (0o646, 0o755, false),
            (0o644, 0o757, false),
            (0o644, 0o1777, true),
        ] {
            set(&file, file_mode);
            set(&place, place_mode);
            assert_eq!(read(&file).is_ok(), good, "{file_mode:o} in {place_mode:o}");
        }
    }

    #[test]
    fn pipes_directories_and_large_files_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let large = dir.path().join("large");
        fs::write(&large, vec![b' '; 1024 * 1024 + 1]).unwrap();
        for path in [&pipe, &large, &dir.path().to_owned(), &dir.path().join("nothing")] {
            assert!(read(path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_file_has_one_name_however_it_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        fs::create_dir(place.join("a")).unwrap();
        std::os::unix::fs::symlink(place.join("a"), place.join("b")).unwrap();
        fs::write(place.join("a/f"), "").unwrap();
        for way in ["a/f", "a/../a/f", "b/f", "./a/./f"] {
            assert_eq!(read(&place.join(way)).unwrap().path, place.join("a/f"), "{way}");
        }
    }

    #[test]
    fn the_digest_is_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "abc").unwrap();
        let found = read(&path).unwrap();
        assert_eq!(
            found.digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
