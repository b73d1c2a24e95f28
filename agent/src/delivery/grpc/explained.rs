//! Decisions become messages.

use super::convert::{attestation, delivery, timestamp};
use crate::delivery::Explained;
use crate::policy::{Condition, Limits, Outcome, Saw, Step, Target};
use jsi_proto::v1;

/// The message that says how a request was decided.
#[must_use]
pub fn explained(given: Explained) -> v1::ExplainResponse {
    let limit_sources = match &given.limits {
        None => Vec::new(),
        Some(limits) => limits.pairs().into_iter().map(|pair| limit(pair, &given.steps)).collect(),
    };
    v1::ExplainResponse {
        request_id: given.request.to_string(),
        at: Some(timestamp(given.at)),
        action: given.action,
        credential: given.credential,
        decision: if given.permitted { "permitted" } else { "denied" }.to_owned(),
        reason: given.reason,
        attestation: Some(attestation(&given.attestation)),
        steps: given.steps.into_iter().map(step).collect(),
        limits: given.limits.as_ref().map(limits).unwrap_or_default(),
        limit_sources,
        scope: given.scope.into_iter().collect(),
        delivery: delivery(given.delivery),
        binding: given.binding.map(|binding| binding.name().to_owned()).unwrap_or_default(),
        target: given.target.map(target),
    }
}

fn target(target: Target) -> v1::TargetClaim {
    let (device, inode) = target.file.unwrap_or_default();
    v1::TargetClaim {
        exe: target.exe,
        digest: target.digest,
        sealed: target.unsealed.is_none(),
        script_digest: target.script_digest,
        interpreter: target.interpreter,
        interpreter_digest: target.interpreter_digest,
        device,
        inode,
    }
}

fn step(step: Step) -> v1::ExplainStep {
    let own = |(name, value)| v1::ExplainLimit { name, value, from: Vec::new() };
    v1::ExplainStep {
        policy: step.policy,
        effect: if step.permit { "permit" } else { "forbid" }.to_owned(),
        outcome: outcome(step.outcome),
        detail: step.detail,
        place: step.place,
        nearest: step.nearest,
        conditions: step.conditions.into_iter().map(condition).collect(),
        limits: step.limits.into_iter().map(own).collect(),
    }
}

fn condition(condition: Condition) -> v1::ExplainCondition {
    let fact = |Saw { name, value }| v1::ExplainFact { name, value };
    v1::ExplainCondition {
        text: condition.text,
        outcome: outcome(condition.outcome),
        saw: condition.saw.into_iter().map(fact).collect(),
        wanted: condition.wanted.unwrap_or_default(),
        either: condition.either.into_iter().map(self::condition).collect(),
        note: condition.note,
    }
}

fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Satisfied => "satisfied",
        Outcome::NotSatisfied => "not satisfied",
        Outcome::Error => "error",
        Outcome::Unreadable => "unreadable fact",
    }
    .to_owned()
}

/// A limit with the policies that say it; the strictest is said by some, or is
/// the credential's own.
fn limit((name, value): (&'static str, String), steps: &[Step]) -> v1::ExplainLimit {
    // The default is the longest where a policy's longest is shorter than it.
    let annotation = if name == "default_ttl" { "max_ttl" } else { name };
    let says = |step: &&Step| step.limits.iter().any(|(own, of)| own == annotation && *of == value);
    let from = steps.iter().filter(says).map(|step| step.policy.clone()).collect();
    v1::ExplainLimit { name: name.to_owned(), value, from }
}

fn limits(limits: &Limits) -> Vec<String> {
    let mut all = vec![
        format!("max_ttl {} s", limits.max_ttl.as_secs()),
        format!("default_ttl {} s", limits.default_ttl.as_secs()),
    ];
    all.extend(limits.max_uses.map(|uses| format!("max_uses {uses}")));
    all.extend(limits.bind.map(|bind| format!("bind {bind:?}").to_lowercase()));
    all.extend(limits.hold_none.then(|| "hold none".to_owned()));
    all.extend(limits.approvals.iter().map(|who| format!("approval {who}")));
    all
}
