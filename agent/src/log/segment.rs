//! The files of a log: segments, checkpoints, and the lock on their directory.

use super::error::LogError;
use super::tree::{Tree, hex, unhex};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One file of the log, named by the sequence number of its first record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// Sequence number of its first record.
    pub(crate) first: u64,
    /// The file.
    pub(crate) path: PathBuf,
}

impl Segment {
    /// The segment that begins there.
    pub(crate) fn at(dir: &Path, first: u64) -> Self {
        Self { first, path: dir.join(format!("{first:020}.jsonl")) }
    }

    /// All of a directory, in order.
    pub(crate) fn list(dir: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(digits) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) else {
                continue;
            };
            if digits.len() == 20
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && let Ok(first) = digits.parse()
            {
                found.push(Self { first, path: entry.path() });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Opens it for appending, mode 0600; `create`: it must not be there yet.
    pub(crate) fn open(&self, create: bool) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(create)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)
    }
}

/// The log's directory, made if it is missing, locked as long as this lives.
pub(crate) struct LockedDir {
    handle: File,
    path: PathBuf,
}

impl LockedDir {
    /// Opens and locks it (flock(2), exclusive), so that two agents never
    /// write one log.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let unusable = |error: io::Error| LogError::unusable(path, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let handle = File::open(path).map_err(unusable)?;
        let facts = handle.metadata().map_err(unusable)?;
        if facts.mode() & 0o022 != 0 {
            return Err(LogError::Unusable {
                path: path.to_owned(),
                error: format!("others may write it (mode {:04o})", facts.mode() & 0o7777),
                remedy: format!("chmod 0700 {}", path.display()),
            });
        }
        match handle.try_lock() {
            Ok(()) => Ok(Self { handle, path: path.to_owned() }),
            Err(TryLockError::WouldBlock) => Err(LogError::InUse { dir: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes renames and new files in it durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

/// The tree over everything before a segment, so that a start need not read
/// it. Believed only where its head is the `root` of the segment's first record.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    size: u64,
    frontier: Vec<String>,
}

fn checkpoint_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.frontier"))
}

/// Keeps the tree over everything before segment `tree.size()`.
pub(crate) fn save_checkpoint(dir: &Path, tree: &Tree) -> io::Result<()> {
    let checkpoint = Checkpoint {
        size: tree.size(),
        frontier: tree.frontier().iter().map(|hash| hex(hash)).collect(),
    };
    let path = checkpoint_path(dir, tree.size());
    let temporary = path.with_extension("frontier.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(&checkpoint)?)?;
    file.sync_data()?;
    std::fs::rename(&temporary, &path)
}

/// The kept tree; `None` where there is none or it is malformed: it is read
/// anew from the segments then.
pub(crate) fn load_checkpoint(dir: &Path, first: u64) -> Option<Tree> {
    let bytes = std::fs::read(checkpoint_path(dir, first)).ok()?;
    let checkpoint: Checkpoint = serde_json::from_slice(&bytes).ok()?;
    let frontier = checkpoint.frontier.iter().map(|text| unhex(text)).collect::<Option<_>>()?;
    Tree::from_frontier(checkpoint.size, frontier).filter(|tree| tree.size() == first)
}
