//! Why not: each policy's scope and conditions, split at `&&` and evaluated one
//! by one by Cedar itself, with the values that they saw. Only for denials.

use super::entities::Asked;
use super::load::{Rule, covers};
use super::{Action, Outcome, Step};
use cedar_policy::{
    EvalResult, Expression, Policy, PrincipalConstraint, ResourceConstraint, eval_expression,
};
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Arc;

/// Policies explained for one denial: a hundred would not be read, and a denial
/// must not cost what it likes.
const MAX_STEPS: usize = 32;
/// Values shown beside a condition that failed.
const MAX_VALUES: usize = 4;

/// Explains policies for one request.
pub(super) struct Explainer<'a> {
    asked: &'a Asked,
}

/// How far a policy came.
struct Trial {
    step: Step,
    /// Conditions that failed, and those that held.
    failed: usize,
    held: usize,
    /// The first that failed, in words.
    first: Option<String>,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(asked: &'a Asked) -> Self {
        Self { asked }
    }

    /// The reason and the steps where no permit applies.
    pub(super) fn no_permit(&self, rules: &[Arc<Rule>], action: Action) -> (String, Vec<Step>) {
        let own = |rule: &&Arc<Rule>| !rule.builtin && covers(&rule.policy, action);
        let candidates = rules.iter().filter(own).count();
        let trials: Vec<Trial> =
            rules.iter().filter(own).take(MAX_STEPS).map(|rule| self.trial(rule)).collect();
        let nearest = trials
            .iter()
            .filter(|trial| trial.step.permit)
            .min_by_key(|trial| (trial.failed, usize::MAX - trial.held));
        let reason = match nearest {
            None => "no permit speaks of this credential and action".to_owned(),
            Some(trial) => format!(
                "no permit applies; the nearest is {}: {}",
                trial.step.policy,
                trial.first.as_deref().unwrap_or("it should have applied")
            ),
        };
        let mut steps: Vec<Step> = trials.into_iter().map(|trial| trial.step).collect();
        if candidates > MAX_STEPS {
            steps.push(Step {
                policy: format!("{} more", candidates - MAX_STEPS),
                permit: true,
                outcome: Outcome::NotSatisfied,
                detail: format!("only the first {MAX_STEPS} policies are explained"),
            });
        }
        (reason, steps)
    }

    /// What came of one policy.
    pub(super) fn step(&self, rule: &Rule) -> Step {
        self.trial(rule).step
    }

    fn trial(&self, rule: &Rule) -> Trial {
        let (mut failed, mut held, mut error) = (0, 0, false);
        let mut words = Vec::new();
        for (text, body) in conditions(rule) {
            match self.evaluate(&text) {
                Ok(EvalResult::Bool(true)) => held += 1,
                Ok(_) => {
                    failed += 1;
                    words.push(format!("{text} is false{}", self.values(&body)));
                }
                // Behind a condition that failed, Cedar itself would not have looked.
                Err(_) if failed > 0 => {}
                Err(why) => {
                    failed += 1;
                    error = true;
                    words.push(format!("{text} cannot be evaluated: {why}"));
                }
            }
        }
        let outcome = match (failed, error) {
            (0, _) => Outcome::Satisfied,
            (_, true) => Outcome::Error,
            (_, false) => Outcome::NotSatisfied,
        };
        let first = words.first().cloned();
        let detail = if words.is_empty() { "it applies".to_owned() } else { words.join("; ") };
        let step = Step { policy: rule.name.clone(), permit: rule.permit, outcome, detail };
        Trial { step, failed, held, first }
    }

    fn evaluate(&self, text: &str) -> Result<EvalResult, String> {
        let expression = Expression::from_str(text).map_err(|error| error.to_string())?;
        eval_expression(&self.asked.request, &self.asked.entities, &expression)
            .map_err(|error| error.to_string())
    }

    /// What the attributes that a condition names were.
    fn values(&self, body: &Value) -> String {
        let mut paths = Vec::new();
        accesses(body, &mut paths);
        let shown: Vec<String> = paths
            .into_iter()
            .take(MAX_VALUES)
            .filter_map(|path| {
                let text = source(&path)?;
                Some(match self.evaluate(&text) {
                    Ok(value) => format!("{text} is {value}"),
                    Err(_) => format!("{text} is not there"),
                })
            })
            .collect();
        if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
    }
}

/// A policy's scope and its conditions at top level, each as text and as JSON.
fn conditions(rule: &Rule) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> =
        scope(&rule.policy).into_iter().map(|text| (text, Value::Null)).collect();
    for condition in rule.json["conditions"].as_array().into_iter().flatten() {
        if condition["kind"] == "unless" {
            let body = json!({ "!": { "arg": condition["body"] } });
            found.extend(source(&body).map(|text| (text, condition["body"].clone())));
        } else {
            let mut parts = Vec::new();
            conjuncts(&condition["body"], &mut parts);
            found.extend(parts.into_iter().filter_map(|part| Some((source(part)?, part.clone()))));
        }
    }
    found
}

fn scope(policy: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    match policy.principal_constraint() {
        PrincipalConstraint::Any => {}
        PrincipalConstraint::In(uid) => found.push(format!("principal in {uid}")),
        PrincipalConstraint::Eq(uid) => found.push(format!("principal == {uid}")),
        PrincipalConstraint::Is(kind) => found.push(format!("principal is {kind}")),
        PrincipalConstraint::IsIn(kind, uid) => {
            found.push(format!("principal is {kind} in {uid}"));
        }
    }
    match policy.resource_constraint() {
        ResourceConstraint::Any => {}
        ResourceConstraint::In(uid) => found.push(format!("resource in {uid}")),
        ResourceConstraint::Eq(uid) => found.push(format!("resource == {uid}")),
        ResourceConstraint::Is(kind) => found.push(format!("resource is {kind}")),
        ResourceConstraint::IsIn(kind, uid) => found.push(format!("resource is {kind} in {uid}")),
    }
    found
}

fn conjuncts<'v>(body: &'v Value, found: &mut Vec<&'v Value>) {
    match body.get("&&") {
        Some(and) => {
            conjuncts(&and["left"], found);
            conjuncts(&and["right"], found);
        }
        None => found.push(body),
    }
}

/// The longest attribute paths in an expression: `context.target.exe`.
fn accesses(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| accesses(item, found)),
        Value::Object(object) => {
            for (key, inner) in object {
                if key == "." || key == "getTag" {
                    let path = json!({ key.as_str(): inner });
                    if !found.contains(&path) {
                        found.push(path);
                    }
                } else {
                    accesses(inner, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An expression's text, by way of a policy that has it as its condition.
fn source(body: &Value) -> Option<String> {
    let everything = json!({ "op": "All" });
    let policy = json!({
        "effect": "permit", "principal": everything, "action": everything, "resource": everything,
        "conditions": [{ "kind": "when", "body": body }],
    });
    let text = Policy::from_json(None, policy).ok()?.to_cedar()?;
    let from = text.find("when {")? + "when {".len();
    let to = text.rfind('}')?;
    Some(text.get(from..to)?.trim().to_owned())
}
