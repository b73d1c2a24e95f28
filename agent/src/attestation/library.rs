//! Whose a mapped file is. At level 2 nobody whom it defends against may have
//! been able to write what runs: not the requester's uid, and no other than root.

use super::executable::{Digests, Look, Measured, foreign};
use super::genuine::loose_step;
use super::server::Rules;
use crate::mutants::{Check, on};
use crate::process::image::{self, FileStat};
use crate::process::mappings::{self, MappedFile, Mapping};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old it may be who can write a directory.
const DIRECTORIES_FRESH: Duration = Duration::from_secs(1);
/// Directories, and mounts, that are remembered.
const REMEMBERED: usize = 1024;
/// Characters of a name that are told.
const NAME_CHARS: usize = 200;

/// Whose mapping it is.
pub(super) struct Mine<'a> {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) exe: &'a Measured,
    pub(super) rules: &'a Rules,
}

/// What comes of it.
pub(super) enum Verdict {
    /// Whether fs-verity keeps it as it is.
    Passes {
        kept: bool,
    },
    Fails(String),
    /// Only if its digest is listed; why it does not pass by itself.
    Read(Box<Look>, String),
}

/// What is remembered about directories and mounts.
#[derive(Default)]
pub(super) struct Libraries {
    /// Whoever may write them, or none.
    directories: Mutex<HashMap<PathBuf, (Instant, Option<PathBuf>)>>,
    /// By an ID that is never reused: why a mount's files are not believed.
    mounts: Mutex<HashMap<u64, Option<String>>>,
}

impl Libraries {
    /// Whether a file that is mapped there counts.
    pub(super) fn judge(
        &self,
        digests: &Digests,
        mine: &Mine<'_>,
        mapping: &Mapping,
        name: &[u8],
    ) -> Verdict {
        let path = Path::new(OsStr::from_bytes(name));
        let said = words(name);
        let (file, stat) = match self.open(mine.pid, mapping, path) {
            Ok(opened) => opened,
            Err(why) => return Verdict::Fails(format!("{said} {why}")),
        };
        if let Some(why) = never(digests, mine.uid, &stat) {
            return Verdict::Fails(format!("{said} {why}"));
        }
        let Some(why) = self.by_itself(mine.pid, path, &stat) else {
            return Verdict::Passes { kept: stat.verity };
        };
        let why = format!("{said} {why}");
        let exe = &mine.exe.exe;
        if (stat.device, stat.inode) == (exe.device, exe.inode) {
            // Its digest is known.
            let listed =
                mine.rules.listed.contains(&exe.digest.0) || mine.rules.clients.is_genuine(exe);
            return if listed {
                Verdict::Passes { kept: stat.verity }
            } else {
                Verdict::Fails(why)
            };
        }
        if mine.rules.listed.is_empty() {
            return Verdict::Fails(why);
        }
        Verdict::Read(Box::new(Look::mapped(mine.pid, file, path.to_owned(), stat)), why)
    }

    /// The very file where the kernel lets us have it, else the one that the
    /// agent finds under its name and that maps would number the same.
    fn open(
        &self,
        pid: u32,
        mapping: &Mapping,
        path: &Path,
    ) -> Result<(OwnedFd, FileStat), String> {
        let unseen = |error: io::Error| format!("could not be looked at: {error}");
        if let Some(file) = open_exactly(pid, mapping).map_err(unseen)? {
            let stat = image::stat(&file).map_err(unseen)?;
            return Ok((file, stat));
        }
        let file = image::open_cached(path).map_err(unseen)?;
        let stat = image::stat(&file).map_err(unseen)?;
        // Opening it to map it would ask whoever serves its file system.
        if let Some(why) = self.served(pid, &stat) {
            return Err(why);
        }
        let same = mapping.file.is_some_and(|number| {
            plainly(&stat) == number || numbered(&file).is_some_and(|own| own == number)
        });
        if !same {
            return Err("is another file where the agent looks for it".to_owned());
        }
        Ok((file, stat))
    }

    /// Why it does not count without being listed.
    fn by_itself(&self, pid: u32, path: &Path, stat: &FileStat) -> Option<String> {
        if on(Check::LibraryDeleted) && stat.links == 0 {
            return Some("was deleted or replaced after it was mapped (link count 0)".to_owned());
        }
        if on(Check::LibraryOwner) && stat.uid != 0 {
            return Some(format!("belongs to uid {}", stat.uid));
        }
        if on(Check::LibraryFileSystem)
            && let Some(why) = self.served(pid, stat)
        {
            return Some(why);
        }
        let own = image::open_cached(path).and_then(image::stat);
        let same = own.is_ok_and(|own| (own.device, own.inode) == (stat.device, stat.inode));
        if on(Check::LibraryOwnView) && !same {
            return Some("is another file where the agent looks for it".to_owned());
        }
        let step =
            self.loose(path.parent().unwrap_or(path)).filter(|_| on(Check::LibraryDirectory))?;
        Some(format!("lies below {}, which others than root may write", step.display()))
    }

    /// The directory on the way there that others than root may write.
    fn loose(&self, directory: &Path) -> Option<PathBuf> {
        let known = || self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, step)) = known().get(directory)
            && at.elapsed() <= DIRECTORIES_FRESH
        {
            return step.clone();
        }
        let step = loose_step(directory);
        remember(&mut known(), directory.to_owned(), (Instant::now(), step.clone()));
        step
    }

    /// Why the bytes of its file system are somebody else's.
    fn served(&self, pid: u32, stat: &FileStat) -> Option<String> {
        let Some(mount) = stat.unique_mount else { return foreign(pid, stat.mount) };
        let known = || self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = known().get(&mount) {
            return why.clone();
        }
        let why = foreign(pid, stat.mount);
        remember(&mut known(), mount, why.clone());
        why
    }
}

fn remember<K: Eq + Hash, V>(known: &mut HashMap<K, V>, key: K, value: V) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, value);
}

/// `/proc/PID/map_files` gives the very file, to whoever has
/// CAP_CHECKPOINT_RESTORE; `None`: not to us.
///
/// # Errors
/// ENOENT where the mapping is another by now.
pub(super) fn open_exactly(pid: u32, mapping: &Mapping) -> io::Result<Option<OwnedFd>> {
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    match OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(link) {
        Ok(file) => Ok(Some(file.into())),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A name of the kernel's, for people.
pub(super) fn words(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let shown = |c: char| if c.is_control() { '?' } else { c };
    let plain: String = name.chars().take(NAME_CHARS).map(shown).collect();
    if name.chars().nth(NAME_CHARS).is_some() { format!("{plain}…") } else { plain }
}

/// Why it does not count, whatever its digest: it can be written while it runs.
fn never(digests: &Digests, uid: u32, stat: &FileStat) -> Option<String> {
    if stat.mode & libc::S_IFMT != libc::S_IFREG {
        return Some("is not a regular file".to_owned());
    }
    if on(Check::LibraryDeleted) && digests.is_memfd(stat) {
        return Some("is a memfd or shared memory, whose bytes are its owner's".to_owned());
    }
    if !on(Check::LibraryWritable) {
        return None;
    }
    if stat.uid == uid && uid != 0 {
        return Some(format!("is writable by uid {uid}"));
    }
    // With an access control list the group's bits are its mask (acl(5)).
    match stat.mode & 0o022 {
        0 => None,
        0o020 => Some("is writable by a group".to_owned()),
        _ => Some("is writable by everybody".to_owned()),
    }
}

/// What maps gives on file systems whose stat is plain.
fn plainly(stat: &FileStat) -> MappedFile {
    let (major, minor) = (libc::major(stat.device), libc::minor(stat.device));
    MappedFile { major, minor, inode: stat.inode }
}

fn numbered(file: &OwnedFd) -> Option<MappedFile> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    mappings::number_of(&file).ok()
}
