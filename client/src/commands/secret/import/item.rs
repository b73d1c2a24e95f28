//! What was found in a source, whatever its format.

use crate::commands::secret::input::Filled;

/// A secret that was found. Its values are wiped when it is dropped.
pub(super) struct Item {
    /// Where in the source, for people and for `--only` and `--exclude`:
    /// `DATABASE_URL`, `email/work`, `db.password`.
    pub(super) source: String,
    /// Its fields.
    pub(super) fields: Vec<Filled>,
    /// What should be known of it.
    pub(super) warning: Option<String>,
}

impl Item {
    pub(super) fn new(source: String, fields: Vec<Filled>) -> Self {
        Self { source, fields, warning: None }
    }

    /// Bytes of its values.
    pub(super) fn len(&self) -> usize {
        self.fields.iter().map(|field| field.value.len()).sum()
    }
}

/// What was found and is not taken.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where in the source.
    pub(super) source: String,
    /// Why; never with a value in it.
    pub(super) why: String,
    /// It is wrong, and not only left out.
    pub(super) failed: bool,
}

impl Fault {
    pub(super) fn failed(source: impl Into<String>, why: impl Into<String>) -> Self {
        Self { source: source.into(), why: why.into(), failed: true }
    }

    pub(super) fn skipped(source: impl Into<String>, why: impl Into<String>) -> Self {
        Self { source: source.into(), why: why.into(), failed: false }
    }
}

/// One thing that was found.
pub(super) type Found = Result<Item, Fault>;
