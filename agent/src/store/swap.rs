//! Another store in the place of this one: all of it or nothing, whenever the
//! agent or the machine stops.
//!
//! The new files are gathered in `.restore/new`, synced. Then `.restore/commit`
//! decides: a start that finds it goes on to the end, a start that does not
//! forgets what was gathered. The old files move to `.restore/old`, `moved`
//! says that all of them have, and the new ones move up. It is done inside the
//! store's own directory, because that may be a mount, and the one above it
//! another's.

use super::error::StoreError;
use super::files::{Files, read_file, sync_dir, write_new};
use crate::names::CredentialName;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub(super) const WORK: &str = ".restore";
const DONE: &str = ".restore.done";

/// A store that is being gathered; forgotten when dropped.
pub(super) struct Staging {
    store: PathBuf,
    work: PathBuf,
    committed: bool,
}

impl Staging {
    /// Begins; there is at most one at a time.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another is under way; [`StoreError::Io`].
    pub(super) fn begin(files: &Files) -> Result<Self, StoreError> {
        let work = files.dir().join(WORK);
        match DirBuilder::new().mode(0o700).create(&work) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(StoreError::Busy),
            made => made.map_err(StoreError::io(&work))?,
        }
        let staging = Self { store: files.dir().to_owned(), work, committed: false };
        for name in ["new", "old"] {
            staging.make_dir(&staging.work.join(name))?;
        }
        // The marks are made now and only renamed later: that needs no room.
        for name in ["commit.new", "moved.new"] {
            let path = staging.work.join(name);
            write_new(&path, b"").map_err(StoreError::io(&path))?;
        }
        Ok(staging)
    }

    /// Takes one file; `below` is its path below the store's directory, checked
    /// by the caller.
    pub(super) fn write(&self, below: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.work.join("new").join(below);
        step().map_err(StoreError::io(&path))?;
        if let Some(parent) = path.parent() {
            self.make_dir(parent)?;
        }
        write_new(&path, bytes).map_err(StoreError::io(&path))
    }

    /// Age file and metadata of a secret that was taken.
    pub(super) fn read(&self, name: &CredentialName) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let read = |ending: &str| {
            let path = self.work.join("new").join(format!("{name}{ending}"));
            read_file(&path).map_err(StoreError::io(&path))
        };
        Ok((read(".age")?, read(".json")?))
    }

    /// Puts it in the store's place. Where that fails the old store is there still.
    pub(super) fn commit(mut self) -> Result<(), StoreError> {
        let (store, work) = (self.store.clone(), self.work.clone());
        let synced = sync_dirs(&work).and_then(|()| sync_dir(&store));
        synced.map_err(StoreError::io(&work))?;
        mark(&work, "commit").map_err(StoreError::io(&work))?;
        if let Err(error) = move_old(&store, &work) {
            if stopped() {
                return Err(StoreError::Busy);
            }
            // Nothing of the new store is in place yet: back to the old one.
            undo(&store, &work).map_err(StoreError::io(&work))?;
            return Err(StoreError::io(&store)(error));
        }
        // From here on only forwards, at the next start if need be.
        self.committed = true;
        finish(&store, &work).map_err(StoreError::io(&store))
    }

    fn make_dir(&self, dir: &Path) -> Result<(), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io(dir))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed && !stopped() {
            // What is left is cleared at the next start.
            let _ = std::fs::remove_dir_all(&self.work);
        }
    }
}

/// Finishes or forgets what a crash left behind.
pub(super) fn settle(files: &Files) -> Result<(), StoreError> {
    let (store, work) = (files.dir(), files.dir().join(WORK));
    let settled = || {
        if store.join(DONE).symlink_metadata().is_ok() {
            std::fs::remove_dir_all(store.join(DONE))?;
        }
        if work.symlink_metadata().is_err() {
            return Ok(());
        }
        if work.join("commit").symlink_metadata().is_err() {
            return std::fs::remove_dir_all(&work);
        }
        if work.join("moved").symlink_metadata().is_err() {
            move_old(store, &work)?;
        }
        finish(store, &work)
    };
    settled().map_err(StoreError::io(&work))
}

fn move_old(store: &Path, work: &Path) -> io::Result<()> {
    move_all(store, &work.join("old"))?;
    mark(work, "moved")
}

fn finish(store: &Path, work: &Path) -> io::Result<()> {
    move_all(&work.join("new"), store)?;
    let done = store.join(DONE);
    step()?;
    std::fs::rename(work, &done)?;
    sync_dir(store)?;
    step()?;
    std::fs::remove_dir_all(&done)
}

fn undo(store: &Path, work: &Path) -> io::Result<()> {
    move_all(&work.join("old"), store)?;
    std::fs::remove_file(work.join("commit"))?;
    sync_dir(work)
}

/// Moves whatever belongs to a store: its files, and the directories of names. The
/// keys of issuers (`_<area>`) are this agent's own, and stay.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()? {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let ours = entry.file_type()?.is_dir() || text.ends_with(".age") || text.ends_with(".json");
        if ours && !text.starts_with(['.', '_']) {
            step()?;
            std::fs::rename(entry.path(), to.join(&name))?;
        }
    }
    sync_dir(from)?;
    sync_dir(to)
}

fn mark(work: &Path, name: &str) -> io::Result<()> {
    step()?;
    std::fs::rename(work.join(format!("{name}.new")), work.join(name))?;
    sync_dir(work)
}

/// A directory and all below it; their files are synced already.
fn sync_dirs(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dirs(&entry.path())?;
        }
    }
    sync_dir(dir)
}

/// Where a test stops a restore as SIGKILL would: nothing is tidied up behind it.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it stops")]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
fn stopped() -> bool {
    false
}

#[cfg(test)]
pub(super) use stopping::{go_on, step, stop_after, stopped};

#[cfg(test)]
mod stopping {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Stops this thread's next restore after that many steps.
    pub(in super::super) fn stop_after(steps: u32) {
        LEFT.set(Some(steps + 1));
    }

    /// Whether it was stopped; if so, the next goes on.
    pub(in super::super) fn stopped() -> bool {
        LEFT.get() == Some(0)
    }

    pub(in super::super) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0 | 1) => {
                LEFT.set(Some(0));
                Err(io::Error::other("stopped"))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    /// For the next start.
    pub(in super::super) fn go_on() {
        LEFT.set(None);
    }
}
