//! What became of everything that was found.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use serde_json::{Value, json};

/// What became of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Imported,
    Replaced,
    Skipped,
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Replaced => "replaced",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// One thing, without its values.
pub(super) struct Row {
    pub(super) source: String,
    /// What it is called in the store; empty: nothing.
    pub(super) name: String,
    pub(super) fields: Vec<String>,
    pub(super) bytes: usize,
    pub(super) outcome: Outcome,
    /// Why it was skipped or failed.
    pub(super) reason: String,
}

/// All of it.
pub(super) struct Report {
    pub(super) from: String,
    pub(super) format: &'static str,
    pub(super) dry_run: bool,
    pub(super) rows: Vec<Row>,
    pub(super) warnings: Vec<String>,
    /// How the source is removed.
    pub(super) remedy: Option<String>,
    pub(super) source_deleted: bool,
}

impl Report {
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|row| row.outcome == outcome).count()
    }

    /// The rows on standard output, the rest on standard error; an error where
    /// anything failed.
    pub(super) fn print(&self, flag: OutputFlag) -> Result<(), Failure> {
        output::print(flag, || self.json(), || self.table())?;
        // What things are called there must not move the cursor.
        let plain = |text: &str| -> String {
            text.chars().map(|c| if output::moves(c) { '\u{fffd}' } else { c }).collect()
        };
        for warning in &self.warnings {
            output::note(&plain(&format!("warning: {warning}")));
        }
        let count = |outcome| self.count(outcome);
        let stored = count(Outcome::Imported) + count(Outcome::Replaced);
        let (skipped, failed) = (count(Outcome::Skipped), count(Outcome::Failed));
        let did = if self.dry_run { "would be imported" } else { "imported" };
        output::note(&format!("{stored} {did}, {skipped} skipped, {failed} failed"));
        if self.source_deleted {
            output::note(&plain(&format!(
                "{} was overwritten and removed; copies of it in backups, in snapshots, or in \
                 what the device keeps, are as they were",
                self.from
            )));
        } else if let Some(remedy) = &self.remedy {
            output::note(&plain(remedy));
        }
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{failed} of {} could not be imported", self.rows.len()))
            .advise("mend them, and run it again: what is stored already is skipped"))
    }

    fn table(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let outcome = match (self.dry_run, row.outcome) {
                    (true, Outcome::Imported) => "would be imported",
                    (true, Outcome::Replaced) => "would be replaced",
                    (_, outcome) => outcome.name(),
                };
                let result = if row.reason.is_empty() {
                    outcome.to_owned()
                } else {
                    format!("{outcome}: {}", row.reason)
                };
                let bytes =
                    if row.fields.is_empty() { String::new() } else { row.bytes.to_string() };
                vec![row.source.clone(), row.name.clone(), row.fields.join(", "), bytes, result]
            })
            .collect();
        output::table(&["SOURCE", "NAME", "FIELDS", "BYTES", "RESULT"], &rows)
    }

    fn json(&self) -> Value {
        let items: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "source": row.source,
                    "name": row.name,
                    "fields": row.fields,
                    "bytes": row.bytes,
                    "outcome": row.outcome.name(),
                    "reason": row.reason,
                })
            })
            .collect();
        json!({
            "from": self.from,
            "format": self.format,
            "dry_run": self.dry_run,
            "imported": self.count(Outcome::Imported),
            "replaced": self.count(Outcome::Replaced),
            "skipped": self.count(Outcome::Skipped),
            "failed": self.count(Outcome::Failed),
            "warnings": self.warnings,
            "source_deleted": self.source_deleted,
            "items": items,
        })
    }
}
