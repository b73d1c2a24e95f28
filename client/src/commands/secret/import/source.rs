//! Files that are read whole, and noticed when they change meanwhile.

use super::item::Fault;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Entries of a directory, all below it counted, that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// How deep directories are followed.
const MAX_DEPTH: usize = 32;

/// What tells one state of a file from another; who may write it cannot set its
/// ctime back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State([i64; 7]);

impl State {
    fn of(facts: &Metadata) -> Self {
        Self([
            facts.dev().cast_signed(),
            facts.ino().cast_signed(),
            facts.size().cast_signed(),
            facts.mtime(),
            facts.mtime_nsec(),
            facts.ctime(),
            facts.ctime_nsec(),
        ])
    }
}

/// A file's bytes, and the state that it had before and after they were read.
pub(super) struct Taken {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) state: State,
    /// Permission bits.
    pub(super) mode: u32,
}

/// What a file said when it was opened again.
pub(super) const CHANGED: &str =
    "it changed while it was read: nothing of it was taken; try again when nobody writes it";

/// Reads a regular file of at most `most` bytes; why not otherwise. `follow`: it
/// may be a link itself.
pub(super) fn read(path: &Path, most: usize, follow: bool) -> Result<Taken, String> {
    read_while(path, most, follow, || {})
}

fn read_while(
    path: &Path,
    most: usize,
    follow: bool,
    meanwhile: impl FnOnce(),
) -> Result<Taken, String> {
    // No waiting for the other end of a pipe.
    let mut flags = nix::libc::O_NONBLOCK;
    if !follow {
        flags |= nix::libc::O_NOFOLLOW;
    }
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(
            |error| match error.raw_os_error() {
                Some(nix::libc::ELOOP) => "it is a symbolic link; name what it leads to".to_owned(),
                _ => error.to_string(),
            },
        )?;
    let before = file.metadata().map_err(|error| error.to_string())?;
    if let Some(why) = unfit(&before) {
        return Err(why.to_owned());
    }
    let len = usize::try_from(before.len()).unwrap_or(usize::MAX);
    if len > most {
        return Err(format!("it has {len} bytes; at most {most} are taken"));
    }
    let bytes = whole(&file, len).map_err(|error| error.to_string())?;
    meanwhile();
    let after = file.metadata().map_err(|error| error.to_string())?;
    let state = State::of(&before);
    let still = now(path, follow).is_ok_and(|now| now == state);
    if bytes.len() != len || State::of(&after) != state || !still {
        return Err(CHANGED.to_owned());
    }
    Ok(Taken { bytes, state, mode: before.mode() & 0o7777 })
}

/// The state of an open file.
pub(super) fn of(file: &File) -> io::Result<State> {
    Ok(State::of(&file.metadata()?))
}

/// The state that the file of that name has now.
pub(super) fn now(path: &Path, follow: bool) -> io::Result<State> {
    let facts = if follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    facts.map(|facts| State::of(&facts))
}

fn unfit(facts: &Metadata) -> Option<&'static str> {
    let kind = facts.file_type();
    if kind.is_file() {
        None
    } else if kind.is_fifo() || kind.is_socket() {
        Some("it is a pipe or a socket; give what comes out of it on standard input, as -")
    } else if kind.is_dir() {
        Some("it is a directory")
    } else {
        Some("it is no regular file")
    }
}

/// At most `len` bytes, and one more where there are more. Of a fixed buffer, so
/// that no growth leaves copies.
fn whole(file: &File, len: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(len + 64));
    file.take(len as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that was found below a directory.
pub(super) struct Below {
    /// Its path below the directory, as text.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// The regular files below `dir`, in order, and what is there besides. What begins
/// with a dot is not looked at; links are not followed.
pub(super) fn walk(dir: &Path, deep: bool) -> io::Result<(Vec<Below>, Vec<Fault>)> {
    let mut walk = Walk { files: Vec::new(), faults: Vec::new(), seen: 0, deep };
    walk.enter(dir, "", 0)?;
    walk.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((walk.files, walk.faults))
}

struct Walk {
    files: Vec<Below>,
    faults: Vec<Fault>,
    seen: usize,
    deep: bool,
}

impl Walk {
    fn enter(&mut self, dir: &Path, name: &str, depth: usize) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let text = entry.file_name().to_string_lossy().into_owned();
            if text.starts_with('.') {
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_ENTRIES {
                let why = format!("there are more than {MAX_ENTRIES} files; name a part of it");
                return Err(io::Error::other(why));
            }
            let name = if name.is_empty() { text } else { format!("{name}/{text}") };
            let (path, kind) = (entry.path(), entry.file_type()?);
            let skipped = |why: &str| Fault::skipped(name.clone(), why);
            if kind.is_file() {
                self.files.push(Below { name, path });
            } else if kind.is_symlink() {
                let why = "it is a symbolic link, which is not followed; import what it leads to";
                self.faults.push(skipped(why));
            } else if !kind.is_dir() {
                self.faults.push(skipped("it is a pipe, a socket or a device"));
            } else if depth >= MAX_DEPTH {
                self.faults.push(Fault::failed(name, "directories stand too deep, or in a loop"));
            } else if self.deep {
                // One that cannot be read does not hide the others.
                if let Err(error) = self.enter(&path, &name, depth + 1) {
                    if self.seen > MAX_ENTRIES {
                        return Err(error);
                    }
                    self.faults.push(Fault::failed(name, error.to_string()));
                }
            } else {
                self.faults.push(skipped("it is a directory"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let changed = |meanwhile: &dyn Fn()| {
            std::fs::write(&path, "hunter2").unwrap();
            let read = read_while(&path, 100, true, meanwhile);
            read.err().is_some_and(|why| why == CHANGED)
        };
        assert!(!changed(&|| {}));
        assert!(changed(&|| {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        }));
        // The same length, and the old mtime put back.
        assert!(changed(&|| {
            let old = std::fs::metadata(&path).unwrap().modified().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::fs::write(&path, "hunter3").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }));
        // Another file in its place, as editors do it.
        assert!(changed(&|| {
            std::fs::write(dir.path().join("b"), "hunter2").unwrap();
            std::fs::rename(dir.path().join("b"), &path).unwrap();
        }));
        assert!(changed(&|| std::fs::remove_file(&path).unwrap()));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert!(read(&at("pipe"), 9, true).err().unwrap().contains("standard input"));
        assert!(read(dir.path(), 9, true).err().unwrap().contains("directory"));
        assert!(read(Path::new("/dev/zero"), 9, true).err().unwrap().contains("no regular file"));
        assert!(read(&at("link"), 9, false).err().unwrap().contains("symbolic link"));
        assert_eq!(*read(&at("link"), 9, true).ok().unwrap().bytes, b"x");
        assert!(read(&at("file"), 0, true).err().unwrap().contains("at most 0"));
        assert!(read(&at("none"), 9, true).is_err());
    }

    #[test]
    fn a_directory_is_walked_without_following_links_or_waiting_for_pipes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        for file in ["z.gpg", "b/y.gpg", "b/c/x.gpg", ".hidden"] {
            std::fs::write(at(file), "x").unwrap();
        }
        symlink(dir.path(), at("b/loop")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        let (files, faults) = walk(dir.path(), true).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["b/c/x.gpg", "b/y.gpg", "z.gpg"]);
        let mut skipped: Vec<_> = faults.iter().map(|fault| fault.source.as_str()).collect();
        skipped.sort_unstable();
        assert_eq!(skipped, ["b/loop", "pipe"]);
        assert!(faults.iter().all(|fault| !fault.failed));
    }
}
