//! Reads a log line by line and says what does not fit. Start, `verify` and
//! `tail` all go through here.

use super::error::{Damage, LogError};
use super::record::{Event, LeaseRecord, Record, VERSION};
use super::seal::{is_sealed_line, line_hash};
use super::segment::Segment;
use super::tree::{Tree, hex, leaf_hash};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

const PREFIX: &[u8] = b"{\"leaf\":\"";
const MIDDLE: &[u8] = b"\",\"rec\":";
const LEAF_LEN: usize = 64;

/// Puts one leaf together: its line, with line feed, and its leaf hash.
pub(crate) fn frame(rec: &[u8]) -> (Vec<u8>, super::tree::Hash) {
    let leaf = leaf_hash(rec);
    let mut line = Vec::with_capacity(PREFIX.len() + LEAF_LEN + MIDDLE.len() + rec.len() + 2);
    line.extend_from_slice(PREFIX);
    line.extend_from_slice(hex(&leaf).as_bytes());
    line.extend_from_slice(MIDDLE);
    line.extend_from_slice(rec);
    line.extend_from_slice(b"}\n");
    (line, leaf)
}

/// The leaf hash and the exact bytes of `rec` in a line without its line feed.
pub(crate) fn unframe(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(PREFIX)?;
    let (leaf, rest) = rest.split_at_checked(LEAF_LEN)?;
    let rec = rest.strip_prefix(MIDDLE)?.strip_suffix(b"}")?;
    Some((leaf, rec))
}

/// A record as it was read, with the sealed lines in front of it.
pub(crate) struct Scanned {
    pub(crate) record: Record,
    /// Hash and line of each.
    pub(crate) sealed: Vec<(String, String)>,
    /// The exact bytes of `rec`.
    pub(crate) raw: String,
}

/// Follows the chain from leaf to leaf.
pub(crate) struct Scanner {
    pub(crate) tree: Tree,
    file: PathBuf,
    line: u64,
    first_of_segment: bool,
    sealed: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Scanner {
    /// Begins behind the leaves of that tree.
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree, file: PathBuf::new(), line: 0, first_of_segment: false, sealed: Vec::new() }
    }

    /// Begins a segment.
    pub(crate) fn enter(&mut self, segment: &Segment) -> Result<(), LogError> {
        self.file.clone_from(&segment.path);
        self.line = 0;
        self.first_of_segment = true;
        self.sealed.clear();
        if segment.first == self.tree.size() {
            return Ok(());
        }
        self.line = 1;
        Err(self.damage(format!(
            "the segment begins with record {} by its name, but record {} comes next",
            segment.first,
            self.tree.size()
        )))
    }

    /// Sealed lines wait for the record that names them.
    pub(crate) fn sealed_waiting(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Takes the next line, without its line feed; `None` for a sealed one.
    pub(crate) fn take(&mut self, line: &[u8]) -> Result<Option<Scanned>, LogError> {
        self.line += 1;
        if is_sealed_line(line) {
            let text = String::from_utf8(line.to_vec())
                .map_err(|_| self.damage("the sealed line is not text".to_owned()))?;
            self.sealed.push((line_hash(line), text));
            return Ok(None);
        }
        let (leaf, rec) =
            unframe(line).ok_or_else(|| self.damage("the line is malformed".to_owned()))?;
        let hash = leaf_hash(rec);
        if leaf != hex(&hash).as_bytes() {
            return Err(self.damage("its leaf hash does not fit its bytes".to_owned()));
        }
        let record = self.parse(rec)?;
        self.check(&record)?;
        self.tree.push(hash);
        self.first_of_segment = false;
        let raw = String::from_utf8_lossy(rec).into_owned();
        Ok(Some(Scanned { record, sealed: std::mem::take(&mut self.sealed), raw }))
    }

    /// What to say of a line that stops in the middle.
    pub(crate) fn torn(&mut self) -> LogError {
        self.line += 1;
        self.damage("the line is cut short: it has no line feed".to_owned())
    }

    /// What to say of sealed lines that nothing follows.
    pub(crate) fn dangling(&self) -> LogError {
        self.damage("a sealed line stands in front of no record".to_owned())
    }

    fn parse(&self, rec: &[u8]) -> Result<Record, LogError> {
        let malformed = |error| self.damage(format!("the record is malformed: {error}"));
        let Version { v } = serde_json::from_slice(rec).map_err(malformed)?;
        if v > VERSION {
            return Err(LogError::Newer { file: self.file.clone(), line: self.line, version: v });
        }
        // Its hash fits, so that these are the bytes that were written.
        serde_json::from_slice(rec).map_err(|error| {
            self.damage(format!(
                "this agent does not know the record, whose hash fits ({error}): a newer version \
                 may have written it, and reads it"
            ))
        })
    }

    fn check(&self, record: &Record) -> Result<(), LogError> {
        let expected = self.tree.size();
        if record.seq != expected {
            return Err(self.damage(format!("it says that it is record {}", record.seq)));
        }
        if record.root != hex(&self.tree.root()) {
            return Err(self.damage(
                "its root is not the head over the records before it: one of them was changed, \
                 dropped or put in"
                    .to_owned(),
            ));
        }
        let snapshot = matches!(record.event, Event::Snapshot { .. });
        if self.first_of_segment && snapshot != (expected > 0) {
            return Err(self.damage("the segment does not begin with a snapshot".to_owned()));
        }
        self.check_sealed(&record.event)
    }

    fn check_sealed(&self, event: &Event) -> Result<(), LogError> {
        let mut named: Vec<&str> = match event {
            Event::Intent { lease } | Event::Granted { lease } => sealed_of(lease).collect(),
            Event::Snapshot { leases, .. } => leases.iter().flat_map(sealed_of).collect(),
            _ => Vec::new(),
        };
        let mut there: Vec<&str> = self.sealed.iter().map(|(hash, _)| hash.as_str()).collect();
        named.sort_unstable();
        there.sort_unstable();
        if named == there {
            return Ok(());
        }
        Err(self.damage(
            "the sealed lines in front of it are not those that it names: one was changed, \
             dropped or put in"
                .to_owned(),
        ))
    }

    fn damage(&self, why: String) -> LogError {
        LogError::Damaged(Damage {
            file: self.file.clone(),
            line: self.line,
            seq: self.tree.size(),
            why,
        })
    }
}

fn sealed_of(lease: &LeaseRecord) -> impl Iterator<Item = &str> {
    lease.sealed.as_deref().into_iter()
}

/// Lines of one segment, with their places.
pub(crate) struct Lines {
    reader: BufReader<File>,
    /// Bytes of whole lines read so far.
    pub(crate) offset: u64,
    pub(crate) buffer: Vec<u8>,
}

/// What [`Lines::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A whole line is in the buffer, without its line feed.
    Whole,
    /// The rest of the file, which has no line feed, is in the buffer.
    Torn,
    /// Nothing is left.
    End,
}

impl Lines {
    pub(crate) fn new(file: File) -> Self {
        Self { reader: BufReader::with_capacity(256 * 1024, file), offset: 0, buffer: Vec::new() }
    }

    /// Reads the next line.
    pub(crate) fn read(&mut self) -> io::Result<Line> {
        self.buffer.clear();
        self.extend()
    }

    /// As [`Self::read`], but lets an agent that is writing finish its line.
    pub(crate) fn read_patiently(&mut self) -> io::Result<Line> {
        let mut found = self.read()?;
        for _ in 0..10 {
            if found != Line::Torn {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            found = self.extend()?;
        }
        Ok(found)
    }

    /// Reads on behind what the buffer holds.
    pub(crate) fn extend(&mut self) -> io::Result<Line> {
        self.reader.read_until(b'\n', &mut self.buffer)?;
        if self.buffer.last() == Some(&b'\n') {
            self.offset += self.buffer.len() as u64;
            self.buffer.pop();
            Ok(Line::Whole)
        } else if self.buffer.is_empty() {
            Ok(Line::End)
        } else {
            Ok(Line::Torn)
        }
    }
}
