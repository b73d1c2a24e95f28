//! Opening a log: everything of the last segment is verified and folded; an
//! unterminated last line is moved aside; any other damage stops the start.

use super::core::{Core, Entry};
use super::error::LogError;
use super::fold::Folded;
use super::record::Event;
use super::scan::{Line, Lines, Scanner};
use super::segment::{LockedDir, Segment, load_checkpoint, save_checkpoint};
use super::tree::Tree;
use crate::clock::Clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Opens the log in `dir`, or begins one.
pub(crate) fn open(
    dir: &Path,
    clock: Clock,
    segment_bytes: u64,
) -> Result<(Core, Folded), LogError> {
    let dir = LockedDir::open(dir)?;
    let segments = Segment::list(dir.path()).map_err(|e| LogError::unusable(dir.path(), &e))?;
    let mut recovered = Vec::new();
    let (mut core, mut folded) = match usable(&dir, segments, &mut recovered)? {
        None => begin(dir, clock, segment_bytes)?,
        Some((last, earlier)) => resume(dir, clock, segment_bytes, last, &earlier, &mut recovered)?,
    };
    if !recovered.is_empty() {
        core.commit(recovered.into_iter().map(|event| Entry { event, sealed: None }))?;
        folded.records = core.tree.size();
    }
    Ok((core, folded))
}

/// The last segment and those before it. A crash in the middle of a rotation
/// leaves a last segment without one whole record: it is moved aside.
fn usable(
    dir: &LockedDir,
    mut segments: Vec<Segment>,
    recovered: &mut Vec<Event>,
) -> Result<Option<(Segment, Vec<Segment>)>, LogError> {
    while let Some(last) = segments.pop() {
        if last.first == 0 || has_record(&last)? {
            return Ok(Some((last, segments)));
        }
        let unusable = |error: io::Error| LogError::unusable(&last.path, &error);
        let bytes = std::fs::metadata(&last.path).map_err(unusable)?.len();
        let aside = aside_name(&last.path);
        std::fs::rename(&last.path, &aside).map_err(unusable)?;
        dir.sync().map_err(unusable)?;
        recovered.push(Event::Recovered { moved_to: file_name(&aside), bytes });
    }
    Ok(None)
}

fn has_record(segment: &Segment) -> Result<bool, LogError> {
    let unusable = |error: io::Error| LogError::unusable(&segment.path, &error);
    let mut lines = Lines::new(File::open(&segment.path).map_err(unusable)?);
    while lines.read().map_err(unusable)? == Line::Whole {
        if !super::seal::is_sealed_line(&lines.buffer) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn begin(dir: LockedDir, clock: Clock, segment_bytes: u64) -> Result<(Core, Folded), LogError> {
    let segment = Segment::at(dir.path(), 0);
    let file = segment.open(true).map_err(|error| LogError::unusable(&segment.path, &error))?;
    dir.sync().map_err(|error| LogError::unusable(dir.path(), &error))?;
    let core = Core {
        dir,
        clock,
        segment_bytes,
        stats: std::sync::Arc::default(),
        segment,
        file,
        len: 0,
        snapshot_len: 0,
        before: Tree::default(),
        tree: Tree::default(),
    };
    Ok((core, Folded::default()))
}

fn resume(
    dir: LockedDir,
    clock: Clock,
    segment_bytes: u64,
    segment: Segment,
    earlier: &[Segment],
    recovered: &mut Vec<Event>,
) -> Result<(Core, Folded), LogError> {
    let unusable = |error: io::Error| LogError::unusable(&segment.path, &error);
    let mut file = segment.open(false).map_err(unusable)?;
    let before = match load_checkpoint(dir.path(), segment.first) {
        // Only a tree whose head is the `root` of the segment's first record
        // gets past the scanner; with another one everything is read.
        Some(tree) if fits(&tree, &segment)? => tree,
        _ => read_all(&dir, earlier, segment.first)?,
    };
    let mut scanner = Scanner::new(before.clone());
    scanner.enter(&segment)?;
    let mut folded = Folded::default();
    let mut lines = Lines::new(File::open(&segment.path).map_err(unusable)?);
    let (mut len, mut snapshot_len) = (0, 0);
    let torn = loop {
        match lines.read().map_err(unusable)? {
            Line::Whole => {
                if let Some(scanned) = scanner.take(&lines.buffer)? {
                    folded.apply(&scanned.record, &scanned.sealed);
                    len = lines.offset;
                    if matches!(scanned.record.event, Event::Snapshot { .. }) {
                        snapshot_len = len;
                    }
                }
            }
            // Sealed lines whose record did not make it go with the torn one.
            Line::Torn => break true,
            Line::End => break scanner.sealed_waiting(),
        }
    };
    if torn {
        let event = move_aside(&mut file, &segment.path, len).map_err(unusable)?;
        dir.sync().map_err(unusable)?;
        recovered.push(event);
    }
    let stats = std::sync::Arc::default();
    let tree = scanner.tree;
    let core =
        Core { dir, clock, segment_bytes, stats, segment, file, len, snapshot_len, before, tree };
    Ok((core, folded))
}

fn fits(tree: &Tree, segment: &Segment) -> Result<bool, LogError> {
    let unusable = |error: io::Error| LogError::unusable(&segment.path, &error);
    let mut scanner = Scanner::new(tree.clone());
    scanner.enter(segment)?;
    let mut lines = Lines::new(File::open(&segment.path).map_err(unusable)?);
    while lines.read().map_err(unusable)? == Line::Whole {
        match scanner.take(&lines.buffer) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(true),
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

/// The tree over every segment before the last; keeps it for the next start.
fn read_all(dir: &LockedDir, earlier: &[Segment], first: u64) -> Result<Tree, LogError> {
    let mut scanner = Scanner::new(Tree::default());
    for segment in earlier {
        let unusable = |error: io::Error| LogError::unusable(&segment.path, &error);
        scanner.enter(segment)?;
        let mut lines = Lines::new(File::open(&segment.path).map_err(unusable)?);
        loop {
            match lines.read().map_err(unusable)? {
                Line::Whole => {
                    scanner.take(&lines.buffer)?;
                }
                Line::Torn => return Err(scanner.torn()),
                Line::End if scanner.sealed_waiting() => return Err(scanner.dangling()),
                Line::End => break,
            }
        }
    }
    if scanner.tree.size() == first && first > 0 {
        save_checkpoint(dir.path(), &scanner.tree)
            .map_err(|error| LogError::unusable(dir.path(), &error))?;
    }
    Ok(scanner.tree)
}

/// Copies what stands behind `len` into a file of its own, durably, and cuts
/// it off.
fn move_aside(file: &mut File, path: &Path, len: u64) -> io::Result<Event> {
    let aside = aside_name(path);
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.seek(SeekFrom::Start(len))?;
    let mut torn = Vec::new();
    file.read_to_end(&mut torn)?;
    copy.write_all(&torn)?;
    copy.sync_all()?;
    file.set_len(len)?;
    file.sync_all()?;
    Ok(Event::Recovered { moved_to: file_name(&aside), bytes: torn.len() as u64 })
}

fn aside_name(path: &Path) -> PathBuf {
    let base = file_name(path);
    (0u32..)
        .map(|n| path.with_file_name(format!("{base}.torn-{n}")))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| path.with_file_name(format!("{base}.torn")))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
