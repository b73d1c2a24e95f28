//! The store's files as they are at one moment, while the agent goes on.
//!
//! Files are replaced by renaming and never written in place, so a hard link
//! keeps what was there for as long as it is read. Where the file system has no
//! hard links, they are copied.

use super::Store;
use super::error::StoreError;
use super::files::{Files, read_file, write_new};
use crate::memory::random_array;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// What the directory of a snapshot begins with; no credential's name begins
/// with a dot.
pub(super) const PREFIX: &str = ".backup.";

/// All files of the store at one moment; removed when dropped.
pub struct Snapshot {
    dir: PathBuf,
    /// Paths below the store's directory, in order.
    files: Vec<String>,
}

impl Store {
    /// Takes a snapshot. Nobody writes meanwhile: some microseconds a file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
        Snapshot::take(&self.files)
    }
}

impl Snapshot {
    fn take(files: &Files) -> Result<Self, StoreError> {
        let name = data_encoding::HEXLOWER.encode(&random_array::<8>());
        let dir = files.dir().join(format!("{PREFIX}{name}"));
        make_dir(&dir)?;
        let mut snapshot = Self { dir, files: Vec::new() };
        let mut found = Vec::new();
        files.walk(&mut |path| {
            // Metadata without its secret is what a crash left of a removal.
            let name = files.name_of(path, ".age").or_else(|| files.name_of(path, ".json"));
            if name.is_some_and(|name| files.exists(&name)) {
                found.push(path.to_owned());
            }
            Ok(())
        })?;
        for path in found {
            let below = path.strip_prefix(files.dir()).ok().and_then(Path::to_str);
            if let Some(below) = below {
                snapshot.keep(&path, below)?;
            }
        }
        snapshot.files.sort();
        Ok(snapshot)
    }

    fn keep(&mut self, path: &Path, below: &str) -> Result<(), StoreError> {
        let kept = self.dir.join(below);
        if let Some(parent) = kept.parent() {
            make_dir(parent)?;
        }
        if std::fs::hard_link(path, &kept).is_err() {
            let bytes = read_file(path).map_err(StoreError::io(path))?;
            write_new(&kept, &bytes).map_err(StoreError::io(&kept))?;
        }
        self.files.push(below.to_owned());
        Ok(())
    }

    /// Paths below the store's directory, in order.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// One of its files.
    ///
    /// # Errors
    /// [`StoreError::Io`], also for a file that is no file of a store.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.dir.join(file);
        read_file(&path).map_err(StoreError::io(&path))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // What is left is cleared at the next start.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Clears snapshots that a crash left behind.
pub(super) fn clear(files: &Files) -> Result<(), StoreError> {
    let dir = files.dir();
    let entries = std::fs::read_dir(dir).map_err(StoreError::io(dir))?;
    for entry in entries {
        let entry = entry.map_err(StoreError::io(dir))?;
        let left = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if left {
            std::fs::remove_dir_all(entry.path()).map_err(StoreError::io(&entry.path()))?;
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io(dir))
}
