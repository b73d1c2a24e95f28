//! What `jsi doctor` looks at. Facts are gathered in one place and judged in
//! another, so that each rule is tried on recorded facts.

pub(crate) mod facts;
pub(crate) mod gather;
#[cfg(test)]
mod recorded;
mod rules;

use facts::Facts;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// To be known; nothing need be done.
    Note,
    /// It works, and is weaker or nearer to a limit than it should be.
    Warn,
    /// It does not work, or is not safe.
    Fail,
}

impl Severity {
    /// As it is printed, and as JSON has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it belongs to: `agent`, `files`, …
    pub(crate) topic: &'static str,
    /// Its stable name within the topic.
    pub(crate) name: String,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was found, with its values.
    pub(crate) text: String,
    /// What mends it; `None`: nothing has to be.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn new(
        topic: &'static str,
        name: impl Into<String>,
        severity: Severity,
        text: impl Into<String>,
    ) -> Self {
        Self { topic, name: name.into(), severity, text: text.into(), remedy: None }
    }

    fn ok(topic: &'static str, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(topic, name, Severity::Ok, text)
    }

    fn note(topic: &'static str, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(topic, name, Severity::Note, text)
    }

    fn warn(topic: &'static str, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(topic, name, Severity::Warn, text)
    }

    fn fail(topic: &'static str, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(topic, name, Severity::Fail, text)
    }

    fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Judges the facts. Pure.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = rules::agent::judge(facts);
    found.extend(rules::client::judge(facts));
    found.extend(rules::credentials::judge(facts));
    found.extend(rules::files::judge(facts));
    found.extend(rules::limits::judge(facts));
    found.extend(rules::disk::judge(facts));
    found.extend(rules::clock::judge(facts));
    found.extend(rules::dumps::judge(facts));
    found.extend(rules::kernel::judge(facts));
    found
}

/// Bytes in words, with the unit that fits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count == u64::MAX {
        return "without limit".to_owned();
    }
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut whole = count / 1024;
    let mut unit = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

/// A count in words.
fn count(number: u64) -> String {
    if number == u64::MAX { "without limit".to_owned() } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        for (size, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (8 << 20, "8 MiB"),
            (u64::MAX, "without limit"),
            (5 << 40, "5 TiB"),
            (7 << 50, "7168 TiB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }

    #[test]
    fn every_problem_has_a_remedy() {
        let mut facts = Facts::recorded();
        let all_bad = [examine(&facts), {
            facts.spoil();
            examine(&facts)
        }];
        for finding in all_bad.into_iter().flatten() {
            if finding.severity >= Severity::Warn {
                assert!(finding.remedy.is_some(), "{finding:?}");
            }
        }
    }
}
