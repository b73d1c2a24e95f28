//! An explanation in words, for a terminal, a pipe and a screen reader: nothing
//! is said by colour alone.

use crate::commands::allow::remedy;
use crate::output::{moves, paint, pairs};
use crate::view;
use jsi_client::v1::{ExplainCondition, ExplainLimit, ExplainResponse, ExplainStep};
use std::io::stdout;

/// The whole of it.
pub(super) fn text(found: &ExplainResponse, verbose: bool) -> String {
    let mut text = head(found);
    for step in &found.steps {
        text.push('\n');
        text.push_str(&self::step(step, verbose));
    }
    if let Some(line) = remedy::line(found) {
        text.push_str(&format!("\nto permit exactly this:\n  {}\n", printable(&line)));
    } else if let Some(forbid) = remedy::forbidding(found) {
        let place = format!("{} ({})", forbid.policy, forbid.place);
        text.push_str(&format!("\nno permit overrides a forbid: see {}\n", printable(&place)));
    }
    if let Some(attestation) = found.attestation.as_ref().filter(|_| verbose) {
        text.push('\n');
        text.push_str(&view::attestation_text(attestation));
    }
    text
}

fn head(found: &ExplainResponse) -> String {
    let who = found.attestation.as_ref().and_then(|seen| seen.requester.as_ref());
    let who = who.map_or_else(String::new, |who| {
        let exe = who.exe.as_ref().map_or("", |exe| exe.path.as_str());
        let exe = if exe.is_empty() { "a program without a path" } else { exe };
        let unit = if who.unit.is_empty() { String::new() } else { format!(", {}", who.unit) };
        format!("{exe}, uid {}{unit}, assurance {}", who.uid, who.assurance)
    });
    let scope: Vec<String> =
        found.scope.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let decision = match (found.request_id.as_str(), found.decision.as_str()) {
        ("", "permitted") => "would be permitted",
        ("", _) => "would be denied",
        (_, as_it_was) => as_it_was,
    };
    let colour = if found.decision == "permitted" { "1;32" } else { "1;31" };
    let mut text = format!("{}\n", paint(&stdout(), colour, decision));
    text.push_str(&pairs(&[
        ("request", found.request_id.clone()),
        ("at", view::at(found.at.as_ref())),
        ("action", found.action.clone()),
        ("credential", found.credential.clone()),
        ("scope", scope.join(" ")),
        ("requester", who),
        ("target", found.target.as_ref().map(|target| target.exe.clone()).unwrap_or_default()),
        ("delivery", view::delivery_word(found.delivery)),
        ("binding", found.binding.clone()),
        ("decision", found.decision.clone()),
        ("reason", found.reason.clone()),
    ]));
    for limit in &found.limit_sources {
        text.push_str(&format!("limit       {}\n", printable(&source(limit))));
    }
    text
}

fn source(limit: &ExplainLimit) -> String {
    let from = match limit.from.as_slice() {
        [] => "the credential".to_owned(),
        policies => policies.join(", "),
    };
    format!("{} {}, from {from}", limit.name, limit.value)
}

fn step(step: &ExplainStep, verbose: bool) -> String {
    let applies = match step.outcome.as_str() {
        "satisfied" => "applies",
        "error" => "cannot be evaluated",
        "unreadable fact" => "cannot be judged",
        _ if step.nearest => "does not apply, and is the nearest",
        _ => "does not apply",
    };
    let title = match step.place.as_str() {
        "" => step.policy.clone(),
        place if place == step.policy => format!("{} {place}", step.effect),
        place => format!("{} {} ({place})", step.effect, step.policy),
    };
    let mut text = format!("{}: {applies}\n", paint(&stdout(), "1", &printable(&title)));
    let shown: Vec<&ExplainCondition> = step
        .conditions
        .iter()
        .filter(|one| verbose || step.outcome == "satisfied" || one.outcome != "satisfied")
        .collect();
    if step.conditions.is_empty() {
        text.push_str(&format!("  {}\n", printable(&step.detail)));
    }
    for condition in shown {
        text.push_str(&self::condition(condition, 2));
    }
    for limit in step.limits.iter().filter(|_| step.effect == "permit") {
        let shown = match limit.value.as_str() {
            "" => format!("@{}", limit.name),
            value => format!("@{}({value:?})", limit.name),
        };
        text.push_str(&format!("  limit  {}\n", printable(&shown)));
    }
    text
}

fn condition(condition: &ExplainCondition, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let holds = condition.outcome == "satisfied";
    let mark = match condition.outcome.as_str() {
        "satisfied" => paint(&stdout(), "32", "holds"),
        "error" => paint(&stdout(), "31", "error"),
        _ => paint(&stdout(), "31", "fails"),
    };
    let mut text = format!("{margin}{mark}  {}\n", printable(&condition.text));
    let mut line = |what: &str, value: &str| {
        text.push_str(&format!("{margin}       {what} {}\n", printable(value)));
    };
    if !condition.note.is_empty() {
        line("why   ", &condition.note);
    }
    if !holds {
        for saw in &condition.saw {
            line("saw   ", &format!("{} is {}", saw.name, saw.value));
        }
        if !condition.wanted.is_empty() {
            line("wanted", &condition.wanted);
        }
        for side in &condition.either {
            text.push_str(&self::condition(side, indent + 4));
        }
    }
    text
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}
