//! Where in a file something is wrong.

use crate::failure::Failure;
use std::path::Path;
use std::sync::Arc;

/// A file's text, for messages that name a place in it.
pub(crate) struct Source<'a> {
    path: Arc<Path>,
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// A file that was read.
    pub(crate) fn new(path: &Path, bytes: &'a [u8]) -> Self {
        Self { path: path.into(), bytes }
    }

    /// The file.
    pub(crate) fn path(&self) -> Arc<Path> {
        self.path.clone()
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.before(at).iter().filter(|&&b| b == b'\n').count() + 1
    }

    /// The column of an offset, from 1, in characters.
    pub(crate) fn column(&self, at: usize) -> usize {
        let line = self.before(at).rsplit(|&b| b == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim_start_matches('\u{feff}').chars().count() + 1
    }

    /// `FILE:LINE:COLUMN: what is wrong`.
    pub(crate) fn fault(&self, at: usize, why: impl std::fmt::Display) -> Failure {
        let (line, column) = (self.line(at), self.column(at));
        Failure::new(format!("{}:{line}:{column}: {why}", self.path.display()))
    }

    fn before(&self, at: usize) -> &[u8] {
        self.bytes.get(..at.min(self.bytes.len())).unwrap_or_default()
    }
}

/// The known word that somebody may have meant: at most two edits away.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FAR: usize = 3;
    let close = known.into_iter().map(|known| (edits(known, word), known));
    let close = close.filter(|(edits, known)| *edits < FAR.min(known.len()));
    close.min().map(|(_, known)| known)
}

/// Levenshtein distance; words are short.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.bytes().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.bytes().enumerate() {
        let mut diagonal = at;
        let mut previous = at + 1;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = diagonal + usize::from(left != *right);
            diagonal = *cell;
            *cell = cost.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_and_in_characters() {
        let source = Source::new(Path::new("f"), "äb\ncd".as_bytes());
        assert_eq!((source.line(2), source.column(2)), (1, 2));
        assert_eq!((source.line(4), source.column(4)), (2, 1));
        assert_eq!((source.line(99), source.column(99)), (2, 3));
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        assert_eq!(edits("db/orders", "bd/orders"), 2);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(near("dotnev", ["env", "dotenv", "fd"]), Some("dotenv"));
        assert_eq!(near("zzz", ["env", "fd"]), None);
        assert_eq!(near("x", ["fd"]), None);
    }
}
