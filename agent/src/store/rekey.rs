//! Change of identity: every age file of the store is sealed anew for another
//! one. All of them or none, whatever happens in between.
//!
//! First everything is made beside the store, in `.rekey`, and opened again by
//! the new identity. Then one file, `.rekey/commit`, is renamed into place:
//! before that instant the next start forgets all of it, after that instant the
//! next start finishes it. What follows are renames that may be repeated.
//!
//! The journal key stays what it was, now sealed for the new identity: what the
//! log has sealed is opened as before.

use super::error::StoreError;
use super::files::{Files, STAGE, beside, read_file, sync_dir};
use super::identity::{IdentityFile, KeptIdentity, NewIdentity, Remote};
use super::plain::{Metadata, sha256};
use super::{Store, journal, plain};
use crate::config::IdentityKind;
use crate::memory::SecretBuf;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

const COMMIT: &str = "commit";

/// What the identity's file is to hold, and what opens it.
pub struct NewBytes {
    /// The whole file.
    pub file: SecretBuf,
    /// Its passphrase; for a systemd credential the key itself.
    pub opened_by: SecretBuf,
    /// Who is asked where it is another program's.
    pub remote: Option<Arc<dyn Remote>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Rekeyed {
    /// Age files that were sealed anew.
    pub files: usize,
    /// From what kind.
    pub from: IdentityKind,
    /// To what kind.
    pub to: IdentityKind,
    /// The old identity; without it older backups of the store open no more.
    pub kept: PathBuf,
}

/// Where it is, for whoever shows it, and for tests that end it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many of so many files are sealed anew.
    Sealed(usize, usize),
    /// Something was written or renamed.
    Done,
}

/// What the commit says: enough to repeat everything behind it.
#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    v: u32,
    /// Files in `.rekey`, as paths below the store.
    files: Vec<PathBuf>,
    /// The identity's file; the new one lies beside it.
    identity: PathBuf,
    /// Where the old one goes.
    kept: PathBuf,
}

impl Store {
    /// Seals every file anew for another identity. The store must be open, and
    /// by [`Store::open_alone`]. `progress` hears how many of how many files.
    ///
    /// # Errors
    /// Nothing has changed then; [`StoreError::Damaged`] names a file that the
    /// present identity does not open.
    pub fn rekey(
        &self,
        new: NewBytes,
        stamp: &str,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Rekeyed, StoreError> {
        let result = self.rekey_by_steps(new, stamp, &mut |step| {
            if let Step::Sealed(done, all) = step {
                progress(done, all);
            }
            Ok(())
        });
        if result.is_err() {
            // Undone, or finished where it was decided already.
            recover(&self.files, self.identity.path())?;
        }
        result
    }

    pub(super) fn rekey_by_steps(
        &self,
        new: NewBytes,
        stamp: &str,
        step: &mut dyn FnMut(Step) -> Result<(), StoreError>,
    ) -> Result<Rekeyed, StoreError> {
        let _alone = self.access.write().unwrap_or_else(PoisonError::into_inner);
        let from = self.identity.read()?.kind;
        let mut stage = Stage::begin(&self.files, self.identity.path(), step)?;
        let (identity, to) = stage.identity(new)?;
        {
            let kept = self.kept();
            let old = kept.as_ref().ok_or(StoreError::Locked)?;
            stage.seal_all(old, &identity)?;
        }
        let files = stage.files.len();
        let kept = stage.commit(stamp)?;
        finish(&self.files, step)?;
        Ok(Rekeyed { files, from, to, kept })
    }
}

/// What is being made.
struct Stage<'a> {
    store: &'a Files,
    dir: PathBuf,
    identity: &'a Path,
    files: Vec<PathBuf>,
    step: &'a mut dyn FnMut(Step) -> Result<(), StoreError>,
}

impl<'a> Stage<'a> {
    fn begin(
        store: &'a Files,
        identity: &'a Path,
        step: &'a mut dyn FnMut(Step) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let dir = store.dir().join(STAGE);
        DirBuilder::new().mode(0o700).create(&dir).map_err(StoreError::io(&dir))?;
        sync_dir(store.dir()).map_err(StoreError::io(store.dir()))?;
        step(Step::Done)?;
        Ok(Self { store, dir, identity, files: Vec::new(), step })
    }

    /// Writes the new identity beside the old one, and opens it.
    fn identity(&mut self, new: NewBytes) -> Result<(KeptIdentity, IdentityKind), StoreError> {
        let path = beside(self.identity);
        NewIdentity::adopt(&new.file, &path, None)?;
        (self.step)(Step::Done)?;
        let file = IdentityFile::at(&path);
        let found = file.read()?;
        let kept = file.open_with(&found, &new.opened_by, new.remote.as_ref())?;
        Ok((kept, found.kind))
    }

    fn seal_all(&mut self, old: &KeptIdentity, new: &KeptIdentity) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.store.walk(&mut |path| {
            if path.extension().is_some_and(|ending| ending == "age") {
                found.push(path.to_owned());
            }
            Ok(())
        })?;
        let all = found.len();
        for (at, path) in found.into_iter().enumerate() {
            self.seal(&path, old, new)?;
            (self.step)(Step::Sealed(at + 1, all))?;
        }
        let journal_path = journal::path(self.store);
        if journal_path.symlink_metadata().is_err()
            && let Some(key) = journal::key(old)
        {
            let sealed = sealed_and_opened(&key, new, &journal_path)?;
            self.write(&journal_path, &sealed)?;
        }
        Ok(())
    }

    fn seal(
        &mut self,
        path: &Path,
        old: &KeptIdentity,
        new: &KeptIdentity,
    ) -> Result<(), StoreError> {
        let before = read_file(path).map_err(StoreError::io(path))?;
        let text = plain::open(&before, &old.keys()?).map_err(|error| match error {
            StoreError::Bug(why) => StoreError::Damaged { file: path.to_owned(), why },
            error => error,
        })?;
        let sealed = sealed_and_opened(&text, new, path)?;
        self.write(path, &sealed)?;
        if let Some((metadata, info)) = self.store.metadata_of(path, &before) {
            let text = serde_json::to_vec_pretty(&Metadata::of(&info, &sealed))
                .map_err(|error| StoreError::Bug(error.to_string()))?;
            self.write(&metadata, &text)?;
        } else if self.store.name_of(path, ".age").is_some() {
            let why = format!(
                "its metadata (.json beside it) does not fit (SHA-256 {:.16}…)",
                sha256(&before)
            );
            return Err(StoreError::Damaged { file: path.to_owned(), why });
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let below = path.strip_prefix(self.store.dir());
        let below = below.map_err(|error| StoreError::Bug(error.to_string()))?.to_owned();
        let staged = self.dir.join(&below);
        write_new(&staged, bytes).map_err(StoreError::io(&staged))?;
        self.files.push(below);
        (self.step)(Step::Done)
    }

    /// From here on it happens.
    fn commit(&mut self, stamp: &str) -> Result<PathBuf, StoreError> {
        let kept = unused(self.identity, stamp);
        let commit = Commit {
            v: 1,
            files: std::mem::take(&mut self.files),
            identity: self.identity.to_owned(),
            kept: kept.clone(),
        };
        let text = serde_json::to_vec(&commit);
        let text = text.map_err(|_| {
            StoreError::Bug("a path of the identity or the store is not UTF-8".to_owned())
        })?;
        let path = self.dir.join(COMMIT);
        let staged = beside(&path);
        let written = || {
            for dir in directories(&commit.files) {
                sync_dir(&self.dir.join(dir))?;
            }
            if let Some(parent) = self.identity.parent() {
                sync_dir(parent)?;
            }
            write_new(&staged, &text)?;
            std::fs::rename(&staged, &path)?;
            sync_dir(&self.dir)
        };
        written().map_err(StoreError::io(&path))?;
        (self.step)(Step::Done)?;
        Ok(kept)
    }
}

/// Where the new identity lies until it takes the old one's place.
#[must_use]
pub fn staged_identity(identity: &Path) -> PathBuf {
    beside(identity)
}

/// Sealed for the new identity, and seen to open.
fn sealed_and_opened(
    text: &SecretBuf,
    new: &KeptIdentity,
    path: &Path,
) -> Result<Vec<u8>, StoreError> {
    let sealed = plain::seal(text.expose(), &*new.recipient()?)?;
    match plain::open(&sealed, &new.keys()?) {
        Ok(opened) if opened.same(text.expose()) => Ok(sealed),
        Ok(_) | Err(StoreError::Bug(_)) => Err(StoreError::Helper(format!(
            "the new identity does not open what is sealed for it ({}); nothing was changed",
            path.display()
        ))),
        Err(error) => Err(error),
    }
}

/// Takes up what a crash has left of a change of identity: finishes what was
/// decided, forgets what was not.
pub(super) fn recover(files: &Files, identity: &Path) -> Result<(), StoreError> {
    let dir = files.dir().join(STAGE);
    if dir.symlink_metadata().is_err() {
        return Ok(());
    }
    if dir.join(COMMIT).symlink_metadata().is_ok() {
        return finish(files, &mut |_| Ok(()));
    }
    let staged = beside(identity);
    remove(&staged).map_err(StoreError::io(&staged))?;
    std::fs::remove_dir_all(&dir).map_err(StoreError::io(&dir))?;
    sync_dir(files.dir()).map_err(StoreError::io(files.dir()))
}

/// Does what the commit says; each part may have been done already.
fn finish(
    files: &Files,
    step: &mut dyn FnMut(Step) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let dir = files.dir().join(STAGE);
    let path = dir.join(COMMIT);
    let bytes = std::fs::read(&path).map_err(StoreError::io(&path))?;
    let commit: Commit = serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged {
        file: path.clone(),
        why: format!("it does not say what to do ({error})"),
    })?;
    for below in &commit.files {
        let to = files.dir().join(below);
        rename(&dir.join(below), &to).map_err(StoreError::io(&to))?;
        step(Step::Done)?;
    }
    for below in directories(&commit.files) {
        let parent = files.dir().join(below);
        sync_dir(&parent).map_err(StoreError::io(&parent))?;
    }
    let identity = &commit.identity;
    let staged = beside(identity);
    if staged.symlink_metadata().is_ok() {
        keep(identity, &commit.kept).map_err(StoreError::io(&commit.kept))?;
        step(Step::Done)?;
        rename(&staged, identity).map_err(StoreError::io(identity))?;
        step(Step::Done)?;
    }
    if let Some(parent) = identity.parent() {
        sync_dir(parent).map_err(StoreError::io(parent))?;
    }
    remove(&path).map_err(StoreError::io(&path))?;
    step(Step::Done)?;
    std::fs::remove_dir_all(&dir).map_err(StoreError::io(&dir))?;
    sync_dir(files.dir()).map_err(StoreError::io(files.dir()))?;
    step(Step::Done)
}

/// A second name for the old identity, or a copy where the file system has none.
fn keep(identity: &Path, kept: &Path) -> io::Result<()> {
    match std::fs::hard_link(identity, kept) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(_) => {
            let bytes = zeroize::Zeroizing::new(std::fs::read(identity)?);
            write_new(kept, &bytes)
        }
        Ok(()) => Ok(()),
    }
}

fn unused(identity: &Path, stamp: &str) -> PathBuf {
    let name = identity.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let named = |end: String| identity.with_file_name(format!("{name}.old-{stamp}{end}"));
    std::iter::once(String::new())
        .chain((2_u32..).map(|number| format!("-{number}")))
        .map(named)
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_else(|| named("-last".to_owned()))
}

/// Each directory of those files once, the topmost (empty) first.
fn directories(files: &[PathBuf]) -> std::collections::BTreeSet<PathBuf> {
    files.iter().flat_map(|file| file.ancestors().skip(1)).map(Path::to_owned).collect()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// One that is gone was renamed before.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound && to.symlink_metadata().is_ok() => {
            Ok(())
        }
        result => result,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[path = "rekey_tests.rs"]
mod tests;
