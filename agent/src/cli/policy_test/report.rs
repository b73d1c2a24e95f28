//! What came of the cases, for people and for programs.

use super::cases::Expected;
use super::{Tried, decided_by, seen};
use crate::config::format_duration;
use crate::policy::{Limits, Outcome, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Something that is not as it is expected.
pub(super) struct Failed {
    what: &'static str,
    expected: String,
    seen: String,
}

impl Failed {
    pub(super) fn new(what: &'static str, expected: &str, seen: &str) -> Self {
        Self { what, expected: expected.to_owned(), seen: seen.to_owned() }
    }
}

/// The limits that are not as expected.
pub(super) fn limits(expected: &Expected, limits: &Limits) -> Vec<Failed> {
    let mut failed = Vec::new();
    let mut compare = |what, expected: Option<String>, seen: String| {
        if let Some(expected) = expected.filter(|expected| *expected != seen) {
            failed.push(Failed::new(what, &expected, &seen));
        }
    };
    let hold = |none| if none { "none" } else { "lease" }.to_owned();
    let uses = |uses: Option<u32>| uses.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
    compare("max_ttl", expected.max_ttl.map(format_duration), format_duration(limits.max_ttl));
    let default = format_duration(limits.default_ttl);
    compare("default_ttl", expected.default_ttl.map(format_duration), default);
    compare("max_uses", expected.max_uses.map(|it| it.to_string()), uses(limits.max_uses));
    let bind = limits.bind.map_or("any", |bind| bind.name());
    compare("bind", expected.bind.map(|bind| bind.name().to_owned()), bind.to_owned());
    compare("hold", expected.hold_none.map(hold), hold(limits.hold_none));
    let approvals = expected.approvals.clone().map(|mut names| {
        names.sort();
        names.join(", ")
    });
    compare("approval", approvals, limits.approvals.join(", "));
    failed
}

/// One line for each difference, why, and how many passed.
pub(super) fn text(all: &[Tried<'_>], verbose: bool) -> String {
    let mut text = String::new();
    let mut failed = 0;
    for tried in all {
        if tried.differences.is_empty() {
            if verbose {
                let _ = writeln!(text, "ok      {}", printable(&tried.case.name));
            }
            continue;
        }
        failed += 1;
        one(tried, &mut text);
    }
    let _ = writeln!(text, "{} passed, {failed} failed", all.len() - failed);
    text
}

fn one(tried: &Tried<'_>, text: &mut String) {
    let place = format!("{}:{}", tried.file.display(), tried.case.line);
    let _ = writeln!(text, "FAILED  {}  ({})", printable(&tried.case.name), printable(&place));
    for failed in &tried.differences {
        let Failed { what, expected, seen } = failed;
        let _ = writeln!(
            text,
            "        {what}: expected {}, saw {}",
            printable(or_nothing(expected)),
            printable(or_nothing(seen))
        );
    }
    if tried.verdict.limits.is_none() {
        let _ = writeln!(text, "        why: {}", printable(&tried.verdict.reason));
    }
    for step in &tried.verdict.steps {
        let effect = if step.permit { "permit" } else { "forbid" };
        let detail = &step.detail;
        let line = format!("{effect} {} ({}): {detail}", step.policy, step.place);
        let _ = writeln!(text, "          {}", printable(&line));
    }
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// What others wrote must not move the cursor.
fn printable(text: &str) -> String {
    super::super::printable(text)
}

/// The same as one JSON value.
pub(super) fn json(all: &[Tried<'_>]) -> String {
    let failed = all.iter().filter(|tried| !tried.differences.is_empty()).count();
    let cases: Vec<Value> = all.iter().map(case).collect();
    let value = json!({ "passed": all.len() - failed, "failed": failed, "cases": cases });
    format!("{value:#}\n")
}

fn case(tried: &Tried<'_>) -> Value {
    let verdict = &tried.verdict;
    json!({
        "name": tried.case.name,
        "file": tried.file.display().to_string(),
        "line": tried.case.line,
        "passed": tried.differences.is_empty(),
        "differences": tried.differences.iter().map(|failed| json!({
            "what": failed.what, "expected": failed.expected, "seen": failed.seen,
        })).collect::<Vec<_>>(),
        "decision": seen(verdict),
        "reason": verdict.reason,
        "by": decided_by(verdict),
        "steps": verdict.steps.iter().map(|step| json!({
            "policy": step.policy,
            "place": step.place,
            "effect": if step.permit { "permit" } else { "forbid" },
            "applies": step.outcome == Outcome::Satisfied,
            "detail": step.detail,
        })).collect::<Vec<_>>(),
    })
}

/// What was seen, as the lines of a case.
pub(super) fn recorded(verdict: &Verdict) -> String {
    let by = decided_by(verdict);
    let by: Vec<String> = by.iter().map(|name| quoted(name)).collect();
    let by = format!("by = [{}]\n", by.join(", "));
    let Some(limits) = &verdict.limits else { return format!("expect = \"deny\"\n{by}") };
    let mut shown = vec![format!("max_ttl = {}", quoted(&format_duration(limits.max_ttl)))];
    shown.extend(limits.max_uses.map(|uses| format!("max_uses = {uses}")));
    shown.extend(limits.bind.map(|bind| format!("bind = {}", quoted(bind.name()))));
    shown.extend(limits.hold_none.then(|| "hold = \"none\"".to_owned()));
    if !limits.approvals.is_empty() {
        let names: Vec<String> = limits.approvals.iter().map(|name| quoted(name)).collect();
        shown.push(format!("approval = [{}]", names.join(", ")));
    }
    format!("expect = \"permit\"\nlimits = {{ {} }}\n{by}", shown.join(", "))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
