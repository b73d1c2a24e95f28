//! The `jsi allow` line that would have permitted a request.

use super::seen::lasting;
use crate::output::moves;
use jsi_client::v1::{ExplainResponse, ExplainStep};

/// The line, where one would help: not where a forbid decided, nor where permits
/// held and contradicted each other.
pub(crate) fn line(found: &ExplainResponse) -> Option<String> {
    let decided = |step: &ExplainStep| step.outcome != "not satisfied";
    if found.decision != "denied" || found.credential.is_empty() || found.steps.iter().any(decided)
    {
        return None;
    }
    let requester = found.attestation.as_ref()?.requester.as_ref()?;
    let mut words = vec![found.credential.clone(), "--uid".to_owned(), requester.uid.to_string()];
    let mut add = |flag: &str, value: &str| {
        if !value.is_empty() {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
    };
    let exe = requester.exe.as_ref().map_or("", |exe| exe.path.as_str());
    let unit = if lasting(&requester.unit) { requester.unit.as_str() } else { "" };
    let target = found.target.as_ref().map_or("", |target| target.exe.as_str());
    if [exe, unit, target, &requester.container].iter().all(|text| text.is_empty()) {
        return None;
    }
    add("--exe", exe);
    add("--unit", unit);
    add("--container", &requester.container);
    add("--target", target);
    let mut scope: Vec<String> =
        found.scope.iter().map(|(key, value)| format!("{key}={value}")).collect();
    scope.sort();
    scope.iter().for_each(|narrowing| add("--scope", narrowing));
    match found.action.as_str() {
        "request" | "renew" | "release" | "list" => {}
        "wrap" => add("--action", "wrap"),
        _ => return None,
    }
    // What a terminal would obey is not shown as something to copy.
    if words.iter().any(|word| word.chars().any(moves)) {
        return None;
    }
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    Some(format!("jsi allow {}", words.join(" ")))
}

/// The forbid that decided.
pub(crate) fn forbidding(found: &ExplainResponse) -> Option<&ExplainStep> {
    let forbids = |step: &&ExplainStep| step.effect == "forbid" && step.outcome != "not satisfied";
    found.steps.iter().find(forbids).filter(|_| found.decision == "denied")
}

/// One word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_-.,:=@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsi_client::v1::{Attestation, Executable, Process, TargetClaim};

    fn denied(exe: &str) -> ExplainResponse {
        let exe = Executable { path: exe.to_owned(), ..Default::default() };
        let requester = Process { uid: 1000, exe: Some(exe), ..Default::default() };
        ExplainResponse {
            decision: "denied".to_owned(),
            credential: "db/orders".to_owned(),
            action: "request".to_owned(),
            attestation: Some(Attestation { requester: Some(requester), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn the_line_names_what_was_seen_and_quotes_it_for_a_shell() {
        let mut found = denied("/opt/it's/psql");
        found.target = Some(TargetClaim { exe: "/usr/bin/psql".into(), ..Default::default() });
        found.scope.insert("role".into(), "a b".into());
        assert_eq!(
            line(&found).unwrap(),
            "jsi allow db/orders --uid 1000 --exe '/opt/it'\\''s/psql' --target /usr/bin/psql \
             --scope 'role=a b'"
        );
        assert!(line(&denied("/opt/a\nb")).is_none());
        assert!(line(&denied("")).is_none());
    }

    #[test]
    fn where_a_forbid_decided_no_line_is_given() {
        let mut found = denied("/bin/sh");
        let step = |effect: &str| ExplainStep {
            effect: effect.to_owned(),
            outcome: "satisfied".to_owned(),
            ..Default::default()
        };
        found.steps = vec![step("forbid")];
        assert!(line(&found).is_none() && forbidding(&found).is_some());
        found.steps = vec![step("permit")];
        assert!(line(&found).is_none() && forbidding(&found).is_none());
    }
}
