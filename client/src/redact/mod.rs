//! Values taken out of a stream of output, in every form in which programs
//! commonly print them.

mod automaton;
mod forms;
mod stream;

pub(crate) use automaton::Automaton;
pub(crate) use stream::Redactor;

use std::rc::Rc;
use zeroize::Zeroizing;

/// Shorter values are not looked for, in bytes: they stand everywhere.
pub(crate) const SHORTEST: usize = 4;
/// Of longer values only the beginning is looked for, in bytes: what is looked
/// for costs some hundred times its length in memory.
pub(crate) const LONGEST: usize = 16 * 1024;

/// What is to be taken out. Wiped when dropped; the streams that use it share it.
pub(crate) struct Secrets {
    entries: Vec<(String, Zeroizing<Vec<u8>>)>,
}

/// Why a value is not, or not wholly, looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// It is shorter than [`SHORTEST`].
    Short,
    /// It is longer than [`LONGEST`].
    Long,
}

impl Secrets {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a value; `label` stands in its place. Says where it is not wholly
    /// looked for.
    pub(crate) fn add(&mut self, label: &str, value: Zeroizing<Vec<u8>>) -> Option<Gap> {
        let gap = match value.len() {
            0..SHORTEST => return Some(Gap::Short),
            length if length > LONGEST => Some(Gap::Long),
            _ => None,
        };
        let known = self.entries.iter().any(|(other, old)| other == label && **old == *value);
        if !known {
            self.entries.push((label.to_owned(), value));
        }
        gap
    }

    /// What the streams look by.
    pub(crate) fn compile(&self) -> Rc<Automaton> {
        let mut patterns = Vec::new();
        let mut labels = Vec::new();
        for (label, value) in &self.entries {
            let value = value.get(..value.len().min(LONGEST)).unwrap_or_default();
            patterns.extend(forms::of(value).into_iter().map(|form| (labels.len(), form)));
            labels.push(format!("[redacted {label}]"));
        }
        Rc::new(Automaton::new(&patterns, labels))
    }
}
