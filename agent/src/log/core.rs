//! The writing end of the log, for one thread: numbers records, writes them in
//! one piece, syncs once, and rotates segments.

use super::error::LogError;
use super::fold::Folded;
use super::record::{Event, Record, VERSION};
use super::scan::{Line, Lines, Scanner, frame};
use super::segment::{LockedDir, Segment, save_checkpoint};
use super::tree::{Tree, hex};
use super::{Head, Stats};
use crate::clock::Clock;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One event on its way, with the sealed line that goes in front of it.
pub(crate) struct Entry {
    pub(crate) event: Event,
    pub(crate) sealed: Option<String>,
}

/// The last segment, open, and the tree over everything in it and before it.
pub(crate) struct Core {
    pub(crate) dir: LockedDir,
    pub(crate) clock: Clock,
    pub(crate) segment_bytes: u64,
    pub(crate) stats: Arc<Stats>,
    pub(crate) segment: Segment,
    pub(crate) file: File,
    /// Bytes of whole, synced lines in the segment.
    pub(crate) len: u64,
    /// Bytes of the snapshot that it begins with.
    pub(crate) snapshot_len: u64,
    /// The tree as it was before the segment.
    pub(crate) before: Tree,
    pub(crate) tree: Tree,
}

impl Core {
    /// Appends them all, durably, with one write and one sync. On an error
    /// nothing of them is left in the file, as far as the system lets us.
    pub(crate) fn commit(&mut self, entries: impl Iterator<Item = Entry>) -> Result<(), LogError> {
        let mut tree = self.tree.clone();
        let mut bytes = Vec::new();
        for entry in entries {
            encode(&self.clock, &mut tree, entry, &mut bytes)?;
        }
        if let Err(error) = self.write(&bytes) {
            self.take_back();
            return Err(LogError::failed(&self.segment.path, &error));
        }
        self.len += bytes.len() as u64;
        self.tree = tree;
        if self.snapshot_len == 0 && self.segment.first > 0 {
            self.snapshot_len = self.len;
        }
        Ok(())
    }

    /// The segment is full: it has twice its snapshot, so that a snapshot
    /// larger than a segment does not make each record rotate.
    pub(crate) fn is_full(&self) -> bool {
        self.len - self.snapshot_len.min(self.len) >= self.segment_bytes.max(self.snapshot_len)
    }

    /// Starts the next segment with a snapshot of the leases that live.
    pub(crate) fn rotate(&mut self) -> Result<(), LogError> {
        let (event, sealed) = self.refold()?.into_snapshot();
        let mut tree = self.tree.clone();
        let mut bytes = Vec::new();
        for line in sealed {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        encode(&self.clock, &mut tree, Entry { event, sealed: None }, &mut bytes)?;
        let next = Segment::at(self.dir.path(), self.tree.size());
        // Kept first: without it the next start reads every segment, no worse.
        let made = save_checkpoint(self.dir.path(), &self.tree)
            .and_then(|()| self.create(&next, &bytes))
            .map_err(|error| {
                // A segment without its snapshot must not stay in the way.
                let _ = std::fs::remove_file(&next.path);
                LogError::failed(&next.path, &error)
            });
        self.file = made?;
        self.segment = next;
        self.before = std::mem::replace(&mut self.tree, tree);
        self.len = bytes.len() as u64;
        self.snapshot_len = self.len;
        Ok(())
    }

    /// The head over everything that is durable.
    pub(crate) fn head(&self) -> Head {
        Head { size: self.tree.size(), root: hex(&self.tree.root()) }
    }

    /// Where writing goes now.
    pub(crate) fn path(&self) -> PathBuf {
        self.segment.path.clone()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stats.writes.fetch_add(1, Ordering::Relaxed);
        self.file.write_all(bytes)?;
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn create(&self, segment: &Segment, bytes: &[u8]) -> io::Result<File> {
        let mut file = segment.open(true)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        self.dir.sync()?;
        Ok(file)
    }

    fn take_back(&self) {
        // The log is faulted already; a line that stays is moved aside at start.
        if self.file.set_len(self.len).is_ok() {
            let _ = self.file.sync_data();
        }
    }

    /// Reads the segment again instead of keeping all leases in memory twice;
    /// it was just written, so it is in the page cache.
    fn refold(&self) -> Result<Folded, LogError> {
        let read = |error: io::Error| LogError::failed(&self.segment.path, &error);
        let mut lines = Lines::new(File::open(&self.segment.path).map_err(read)?);
        let mut scanner = Scanner::new(self.before.clone());
        scanner.enter(&self.segment)?;
        let mut folded = Folded::default();
        while lines.read().map_err(read)? == Line::Whole {
            if let Some(scanned) = scanner.take(&lines.buffer)? {
                folded.apply(&scanned.record, &scanned.sealed);
            }
        }
        Ok(folded)
    }
}

fn encode(
    clock: &Clock,
    tree: &mut Tree,
    entry: Entry,
    bytes: &mut Vec<u8>,
) -> Result<(), LogError> {
    let now = clock.now();
    let record = Record {
        v: VERSION,
        seq: tree.size(),
        root: hex(&tree.root()),
        at: now.wall.rfc3339(),
        boot: now.boot,
        event: entry.event,
    };
    let rec = serde_json::to_vec(&record).map_err(|error| LogError::Bug(error.to_string()))?;
    let (line, leaf) = frame(&rec);
    if let Some(sealed) = entry.sealed {
        bytes.extend_from_slice(sealed.as_bytes());
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(&line);
    tree.push(leaf);
    Ok(())
}
