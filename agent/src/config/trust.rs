//! Files that decide what the agent does: read only where nobody but root and
//! the agent's own uid could have written them, at any step of the way there.

use crate::mutants::{Check, on};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// Symbolic links that are followed on one way (the kernel's own limit, path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Bytes of one configuration or policy file: far more than people write, and
/// little enough that a device or a runaway file does not fill memory.
pub(super) const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Group's and others' write permission.
const SHARED_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a file or directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Someone else may write it.
    #[error("{} has mode {mode:04o}: group or others may write it; mend with: chmod go-w {}", path.display(), path.display())]
    Writable {
        /// The step of the way that is at fault.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Someone else owns it.
    #[error("{} (mode {mode:04o}) belongs to uid {owner}, not to {expected}; mend with: chown {} {} && chmod go-w {}",
        path.display(), chown_to, path.display(), path.display())]
    Owner {
        /// The step of the way that is at fault.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
        /// Who may own it, in words.
        expected: String,
        /// The uid to give it to.
        chown_to: u32,
    },
    /// It is not of the kind that is read.
    #[error("{} is not {expected}", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// `a regular file` or `a directory`.
        expected: &'static str,
    },
    /// It is larger than any configuration.
    #[error("{} is larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is no text.
    #[error("{} is not UTF-8 (line {line})", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line of the first byte that is none, from 1.
        line: usize,
    },
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The step of the way that failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl TrustError {
    /// It does not exist (which some callers take for empty).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// With what the system said.
    #[must_use]
    pub fn whole(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// Reads a text file that nobody but root and `uid` could have written, and
/// says who owns it.
///
/// # Errors
/// Says which step of the path is at fault, its mode, and what mends it.
pub fn read_trusted(path: &Path, uid: u32) -> Result<(String, u32), TrustError> {
    let (real, expected) = resolve(path, uid)?;
    let io_error = |source| TrustError::Io { path: path.to_owned(), source };
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(&real)
        .map_err(io_error)?;
    let meta = file.metadata().map_err(io_error)?;
    if !meta.is_file() || !expected.is_file() {
        return Err(TrustError::Kind { path: path.to_owned(), expected: "a regular file" });
    }
    // What is read is judged, not what stood there before.
    judge(&real, &meta, uid, false)?;
    if meta.len() > MAX_FILE {
        return Err(TrustError::TooLarge(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(TrustError::TooLarge(path.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        TrustError::NotText { path: path.to_owned(), line }
    })?;
    Ok((text, meta.uid()))
}

/// The files of a directory that end in `.extension`, sorted by name; the
/// directory is one that nobody but root and `uid` could have changed. Names
/// that begin with a dot are left out (editors' half-written files).
///
/// # Errors
/// As [`read_trusted`].
pub fn trusted_entries(dir: &Path, extension: &str, uid: u32) -> Result<Vec<PathBuf>, TrustError> {
    let real = trusted_path(dir, uid)?;
    if !real.is_dir() {
        return Err(TrustError::Kind { path: dir.to_owned(), expected: "a directory" });
    }
    let io_error = |source| TrustError::Io { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&real).map_err(io_error)? {
        let name = entry.map_err(io_error)?.file_name();
        let path = dir.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Where `path` leads, each step of the way (symbolic links included) owned by
/// root or `uid` and not writable by group or others. A sticky directory such
/// as /tmp may be shared: what others cannot replace there is judged by itself.
///
/// # Errors
/// As [`read_trusted`].
pub fn trusted_path(path: &Path, uid: u32) -> Result<PathBuf, TrustError> {
    resolve(path, uid).map(|(path, _)| path)
}

fn resolve(path: &Path, uid: u32) -> Result<(PathBuf, Metadata), TrustError> {
    let io_error = |path: &Path, source| TrustError::Io { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(|source| io_error(path, source))?;
    let mut left: VecDeque<OsString> = names(&absolute);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    loop {
        let meta = std::fs::symlink_metadata(&at).map_err(|source| io_error(&at, source))?;
        if meta.is_symlink() {
            // A link has no mode of its own; who owns it could point it elsewhere.
            judge(&at, &meta, uid, true)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(io_error(path, io::Error::from_raw_os_error(libc::ELOOP)));
            }
            let goal = std::fs::read_link(&at).map_err(|source| io_error(&at, source))?;
            for name in names(&goal).into_iter().rev() {
                left.push_front(name);
            }
            if goal.is_absolute() {
                at = PathBuf::from("/");
            } else {
                at.pop();
            }
            continue;
        }
        let Some(next) = left.pop_front() else {
            judge(&at, &meta, uid, false)?;
            return Ok((at, meta));
        };
        judge(&at, &meta, uid, meta.is_dir() && meta.mode() & STICKY != 0)?;
        if next == ".." {
            at.pop();
        } else {
            at.push(next);
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn judge(path: &Path, meta: &Metadata, uid: u32, shared: bool) -> Result<(), TrustError> {
    if !on(Check::TrustedFiles) {
        return Ok(());
    }
    let mode = meta.mode() & 0o7777;
    if meta.uid() != 0 && meta.uid() != uid {
        let expected = if uid == 0 { "root".to_owned() } else { format!("root or uid {uid}") };
        let (path, owner) = (path.to_owned(), meta.uid());
        return Err(TrustError::Owner { path, mode, owner, expected, chown_to: uid });
    }
    if mode & SHARED_WRITE != 0 && !shared {
        return Err(TrustError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn file(dir: &Path, name: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_private_file_is_read_also_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "a", 0o600);
        symlink("a", dir.path().join("b")).unwrap();
        symlink(&path, dir.path().join("c")).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(
                read_trusted(&dir.path().join(name), uid()).unwrap(),
                ("text".into(), uid())
            );
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o666, 0o620, 0o602] {
            let path = file(dir.path(), "a", mode);
            let error = read_trusted(&path, uid()).unwrap_err();
            assert!(matches!(error, TrustError::Writable { .. }), "{mode:o}: {error}");
            let text = error.to_string();
            assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod go-w"), "{text}");
        }
    }

    #[test]
    fn a_file_below_a_directory_that_others_may_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("open");
        std::fs::create_dir(&below).unwrap();
        let path = file(&below, "a", 0o600);
        std::fs::set_permissions(&below, Permissions::from_mode(0o777)).unwrap();
        symlink(&path, dir.path().join("link")).unwrap();
        for path in [path, dir.path().join("link")] {
            let error = read_trusted(&path, uid()).unwrap_err();
            assert!(matches!(&error, TrustError::Writable { path, .. } if path.ends_with("open")));
        }
        assert!(trusted_entries(&below, "cedar", uid()).is_err());
    }

    #[test]
    fn anothers_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "a", 0o600);
        if uid() == 0 {
            std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
            assert!(matches!(read_trusted(&path, 0), Err(TrustError::Owner { owner: 4711, .. })));
        } else {
            // The same file, judged for another agent.
            assert!(matches!(read_trusted(&path, uid() + 1), Err(TrustError::Owner { .. })));
        }
    }

    #[test]
    fn a_directory_or_a_loop_is_not_read_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_trusted(dir.path(), uid()), Err(TrustError::Kind { .. })));
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(read_trusted(&dir.path().join("loop"), uid()).is_err());
        assert!(read_trusted(&dir.path().join("none"), uid()).unwrap_err().is_missing());
    }
}
