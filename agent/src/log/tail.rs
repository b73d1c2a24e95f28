//! Reads the end of a log and follows it, without judging the chain.

use super::error::LogError;
use super::record::Record;
use super::scan::{Line, Lines, unframe};
use super::seal::is_sealed_line;
use super::segment::Segment;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Follows a log from some place on, over all segments to come.
pub struct Follower {
    dir: PathBuf,
    segment: Segment,
    lines: Lines,
    torn: bool,
    next: u64,
}

impl Follower {
    /// The last `count` records, each with the exact bytes of its `rec`, and
    /// what follows them.
    ///
    /// # Errors
    /// Where there is no log, or it cannot be read.
    pub fn open(dir: &Path, count: usize) -> Result<(Vec<(Record, String)>, Self), LogError> {
        let segments = Segment::list(dir).map_err(|error| LogError::unusable(dir, &error))?;
        let newest = segments.last().map_or(0, |segment| segment.first);
        let from = newest.saturating_sub(count as u64);
        // The last that begins early enough; else the first there is.
        let start = segments.iter().rev().find(|segment| segment.first <= from);
        let Some(segment) = start.or(segments.first()) else {
            return Err(LogError::nothing_in(dir));
        };
        let mut follower = Self {
            dir: dir.to_owned(),
            segment: segment.clone(),
            lines: open(segment)?,
            torn: false,
            next: segment.first,
        };
        let mut last = VecDeque::new();
        while let Some(record) = follower.next_record()? {
            last.push_back(record);
            if last.len() > count {
                last.pop_front();
            }
        }
        Ok((last.into(), follower))
    }

    /// The next record; `None`: nothing more is there yet.
    ///
    /// # Errors
    /// Where a file cannot be read or a line is malformed.
    pub fn next_record(&mut self) -> Result<Option<(Record, String)>, LogError> {
        loop {
            let path = &self.segment.path;
            let unusable = |error: io::Error| LogError::unusable(path, &error);
            let line = if self.torn { self.lines.extend() } else { self.lines.read() };
            let line = line.map_err(unusable)?;
            self.torn = line == Line::Torn;
            match line {
                Line::Whole if is_sealed_line(&self.lines.buffer) => {}
                Line::Whole => {
                    let found = parse(&self.lines.buffer).ok_or_else(|| {
                        let why = "a line is malformed; see jsi-agent audit verify";
                        unusable(io::Error::new(io::ErrorKind::InvalidData, why))
                    })?;
                    self.next = found.0.seq + 1;
                    return Ok(Some(found));
                }
                Line::Torn => return Ok(None),
                Line::End => {
                    let next = Segment::at(&self.dir, self.next);
                    if next.first == self.segment.first || !next.path.exists() {
                        return Ok(None);
                    }
                    self.lines = open(&next)?;
                    self.segment = next;
                }
            }
        }
    }
}

fn open(segment: &Segment) -> Result<Lines, LogError> {
    let file = File::open(&segment.path);
    file.map(Lines::new).map_err(|error| LogError::unusable(&segment.path, &error))
}

fn parse(line: &[u8]) -> Option<(Record, String)> {
    let (_, rec) = unframe(line)?;
    let record = serde_json::from_slice(rec).ok()?;
    Some((record, String::from_utf8(rec.to_vec()).ok()?))
}
