//! Reads a whole log and names the first record that does not fit. Writes
//! nothing and takes no lock, so it also reads the log of a running agent.

use super::error::{Damage, LogError};
use super::record::Record;
use super::scan::{Line, Lines, Scanner};
use super::segment::Segment;
use super::tree::{Tree, hex, unhex};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// A tree head (RFC 6962): `SIZE:ROOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records it covers.
    pub size: u64,
    /// Lower-case hex of SHA-256.
    pub root: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.size, self.root)
    }
}

impl FromStr for Head {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a head is SIZE:ROOT, as `jsi-agent audit head` prints it";
        let (size, root) = text.split_once(':').ok_or(SHAPE)?;
        let size = size.parse().map_err(|_| SHAPE)?;
        unhex(root).ok_or(SHAPE)?;
        Ok(Self { size, root: root.to_owned() })
    }
}

/// Why a log does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// This record is the first that does not fit.
    #[error("{0}")]
    Record(Damage),
    /// The log ends before the kept head.
    #[error("the log was cut: it has {records} records, and the kept head covers {size}")]
    Cut {
        /// Records that are there.
        records: u64,
        /// Records that the head covers.
        size: u64,
    },
    /// The log before the kept head is another one.
    #[error(
        "history was rewritten: the head over the first {size} records is {found}, \
         and {kept} was kept"
    )]
    Rewritten {
        /// Records that the head covers.
        size: u64,
        /// The head now.
        found: String,
        /// The head that was kept.
        kept: String,
    },
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(LogError),
}

/// Reads the log in `dir` whole and checks it against the head `kept` elsewhere.
///
/// # Errors
/// Names the first record that does not fit, or says how the log differs from
/// the kept head.
pub fn verify(dir: &Path, kept: Option<&Head>) -> Result<Head, VerifyError> {
    let mut found = None;
    let head = read(dir, |size, tree, _, _| {
        if kept.is_some_and(|kept| kept.size == size) {
            found = Some(hex(&tree.root()));
        }
    })
    .map_err(|error| match error {
        LogError::Damaged(damage) => VerifyError::Record(damage),
        error => VerifyError::Unreadable(error),
    })?;
    let Some(kept) = kept else { return Ok(head) };
    if kept.size == 0 {
        found = Some(hex(&Tree::default().root()));
    }
    match found {
        None => Err(VerifyError::Cut { records: head.size, size: kept.size }),
        Some(root) if root != kept.root => {
            Err(VerifyError::Rewritten { size: kept.size, found: root, kept: kept.root.clone() })
        }
        Some(_) => Ok(head),
    }
}

/// Reads every record of the log in `dir`, verified, oldest first: the record
/// and the exact bytes of its `rec`.
///
/// # Errors
/// At the first record that does not fit; those before it have been given.
pub fn for_each_record(dir: &Path, mut each: impl FnMut(&Record, &str)) -> Result<Head, LogError> {
    read(dir, |_, _, record, raw| each(record, raw))
}

fn read(dir: &Path, mut each: impl FnMut(u64, &Tree, &Record, &str)) -> Result<Head, LogError> {
    let segments = Segment::list(dir).map_err(|error| LogError::unusable(dir, &error))?;
    if segments.is_empty() {
        return Err(LogError::nothing_in(dir));
    }
    let mut scanner = Scanner::new(Tree::default());
    for segment in &segments {
        let unusable = |error: io::Error| LogError::unusable(&segment.path, &error);
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            Err(error) => return Err(unusable(error)),
        };
        scanner.enter(segment)?;
        let mut lines = Lines::new(file);
        let mut patience = 10;
        loop {
            match lines.read_patiently().map_err(unusable)? {
                Line::Whole => {
                    if let Some(scanned) = scanner.take(&lines.buffer)? {
                        each(scanner.tree.size(), &scanner.tree, &scanned.record, &scanned.raw);
                    }
                }
                Line::Torn => return Err(scanner.torn()),
                // The record behind it may be on its way.
                Line::End if scanner.sealed_waiting() && patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Line::End if scanner.sealed_waiting() => return Err(scanner.dangling()),
                Line::End => break,
            }
        }
    }
    Ok(Head { size: scanner.tree.size(), root: hex(&scanner.tree.root()) })
}
