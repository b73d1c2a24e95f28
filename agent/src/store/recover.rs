//! What a crash left behind: a replacement that was begun is finished where
//! its secret is in place already, and forgotten where it is not.

use super::error::StoreError;
use super::files::{Files, read_file, sync_dir};
use super::plain::{Metadata, sha256};
use std::path::{Path, PathBuf};

/// Puts the store in order. Only files that this store names are touched.
pub(super) fn recover(files: &Files) -> Result<(), StoreError> {
    let mut left = Vec::new();
    let mut orphans = Vec::new();
    files.walk(&mut |path| {
        if let Some(meant) = meant(path) {
            left.push((path.to_owned(), meant));
        } else if files.name_of(path, ".json").is_some_and(|name| !files.exists(&name)) {
            orphans.push(path.to_owned());
        }
        Ok(())
    })?;
    for (path, meant) in left {
        if is_last_step(&path, &meant) {
            std::fs::rename(&path, &meant).map_err(StoreError::io(&path))?;
        } else {
            std::fs::remove_file(&path).map_err(StoreError::io(&path))?;
        }
        let parent = path.parent().unwrap_or_else(|| files.dir());
        sync_dir(parent).map_err(StoreError::io(parent))?;
    }
    for path in orphans {
        // Metadata of a secret that was being removed.
        if read_file(&path).is_ok_and(|bytes| Metadata::parse(&bytes).is_ok()) {
            std::fs::remove_file(&path).map_err(StoreError::io(&path))?;
        }
    }
    Ok(())
}

/// The file that a temporary one was to become.
fn meant(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".new")?;
    let ours = name.ends_with(".age") || name.ends_with(".json");
    ours.then(|| path.with_file_name(name))
}

/// Metadata whose secret is in place already.
fn is_last_step(path: &Path, meant: &Path) -> bool {
    let parsed = || {
        let metadata = Metadata::parse(&read_file(path).ok()?).ok()?;
        let sealed = read_file(&meant.with_extension("age")).ok()?;
        Some(sha256(&sealed) == metadata.sha256)
    };
    meant.extension().is_some_and(|ending| ending == "json") && parsed().unwrap_or(false)
}
