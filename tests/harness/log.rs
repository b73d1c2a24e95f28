//! Reading what the agent has logged.

use crate::Host;
use serde_json::Value;

impl Host {
    /// Every record of the log, oldest first. A last line that is still being
    /// written is left out.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        for path in self.world.segments() {
            for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
                let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
                if let Some(record) = line.get("rec") {
                    records.push(record.clone());
                }
            }
        }
        records
    }

    /// Waits for a record of that kind whose text holds `part`, and gives it.
    pub fn await_record(&self, kind: &str, part: &str) -> Value {
        crate::until(
            &format!("a {kind} record with {part:?} in the log"),
            std::time::Duration::from_secs(10),
            || find(&self.records(), kind, part),
        )
    }
}

/// Waits for what may still be on its way into the log.
pub(crate) fn within_log<T>(what: &str, probe: impl Fn() -> Option<T>) -> Option<T> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(5) {
        if let Some(found) = probe() {
            return Some(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("not within 5 s: {what}");
    None
}

/// The last record of that kind whose text holds `part`.
#[must_use]
pub fn find(records: &[Value], kind: &str, part: &str) -> Option<Value> {
    let fits = |r: &&Value| r["kind"] == kind && r.to_string().contains(part);
    records.iter().rev().find(fits).cloned()
}

/// The kinds of the records, in order.
#[must_use]
pub fn kinds(records: &[Value]) -> Vec<String> {
    records.iter().map(|r| r["kind"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Every lease ID below `credential` that stands in a text, once each.
#[must_use]
pub fn lease_ids(text: &str, credential: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let prefix = format!("{credential}/");
    for (at, _) in text.match_indices(&prefix) {
        let tail = &text[at + prefix.len()..];
        let end = tail.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tail.len());
        let id = format!("{prefix}{}", &tail[..end]);
        if end == 26 && !found.contains(&id) {
            found.push(id);
        }
    }
    found
}
