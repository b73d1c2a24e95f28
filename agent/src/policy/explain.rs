//! Why: each policy's scope and conditions evaluated one by one, by Cedar itself,
//! with the values that they saw and what they wanted. For denials, and for
//! operators: requesters are told none of it.

use super::conditions::{Alternative, Clause, Named, Source};
use super::entities::Asked;
use super::facts::Whose;
use super::load::{Rule, covers};
use super::{Action, Condition, Outcome, Saw, Step};
use crate::attestation::{Attestation, ProcessFacts};
use cedar_policy::{EvalResult, Expression, eval_expression};
use std::cell::Cell;
use std::sync::Arc;

/// Policies explained for one denial: a hundred would not be read, and a denial
/// must not cost what it likes.
const MAX_STEPS: usize = 32;
/// Expressions evaluated for one denial, some microseconds each.
const MAX_EVALUATIONS: usize = 500;
/// Characters of a value that are shown.
const MAX_VALUE: usize = 300;
/// Groups that are shown.
const MAX_GROUPS: usize = 8;

/// Explains policies for one request.
pub(super) struct Explainer<'a> {
    asked: &'a Asked,
    /// Facts that could not be read: whose, which, why.
    unreadable: &'a [(Whose, &'static str, String)],
    attestation: &'a Attestation,
    left: Cell<usize>,
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
    pub(super) fn new(
        asked: &'a Asked,
        unreadable: &'a [(Whose, &'static str, String)],
        attestation: &'a Attestation,
    ) -> Self {
        Self { asked, unreadable, attestation, left: Cell::new(MAX_EVALUATIONS) }
    }

    /// The reason and the steps where no permit applies.
    pub(super) fn no_permit(&self, rules: &[Arc<Rule>], action: Action) -> (String, Vec<Step>) {
        let own = |rule: &&Arc<Rule>| !rule.builtin && covers(&rule.policy, action);
        let candidates = rules.iter().filter(own).count();
        let mut trials: Vec<Trial> =
            rules.iter().filter(own).take(MAX_STEPS).map(|rule| self.trial(rule)).collect();
        let nearest = trials
            .iter_mut()
            .filter(|trial| trial.step.permit)
            .min_by_key(|trial| (trial.failed, usize::MAX - trial.held));
        let reason = match nearest {
            None => "no permit speaks of this credential and action".to_owned(),
            Some(trial) => {
                trial.step.nearest = true;
                let first = trial.first.as_deref().unwrap_or("it should have applied");
                format!("no permit applies; the nearest is {}: {first}", trial.step.policy)
            }
        };
        // The nearest first; the others as they stand.
        trials.sort_by_key(|trial| !trial.step.nearest);
        let mut steps: Vec<Step> = trials.into_iter().map(|trial| trial.step).collect();
        if candidates > MAX_STEPS {
            steps.push(Step {
                policy: format!("{} more", candidates - MAX_STEPS),
                permit: true,
                detail: format!("only the first {MAX_STEPS} policies are explained"),
                ..Step::default()
            });
        }
        (reason, steps)
    }

    /// The forbids that hold, and behind them the permits that would have.
    pub(super) fn forbidden(
        &self,
        forbids: &[Arc<Rule>],
        rules: &[Arc<Rule>],
        action: Action,
    ) -> Vec<Step> {
        let mut steps: Vec<Step> =
            forbids.iter().take(MAX_STEPS).map(|rule| self.trial(rule).step).collect();
        let permits = rules
            .iter()
            .filter(|rule| rule.permit && !rule.builtin && covers(&rule.policy, action))
            .take(MAX_STEPS)
            .map(|rule| self.trial(rule).step);
        steps.extend(permits.filter(|step| step.outcome == Outcome::Satisfied));
        steps
    }

    fn trial(&self, rule: &Rule) -> Trial {
        let conditions = self.conjunction(rule.clauses(), false);
        let failing = |condition: &&Condition| condition.outcome != Outcome::Satisfied;
        let failed = conditions.iter().filter(failing).count();
        let words: Vec<String> = conditions.iter().filter(failing).map(words).collect();
        let error = conditions.iter().any(|condition| condition.outcome == Outcome::Error);
        let step = Step {
            outcome: match (failed, error) {
                (0, _) => Outcome::Satisfied,
                (_, true) => Outcome::Error,
                (_, false) => Outcome::NotSatisfied,
            },
            detail: if words.is_empty() { "it applies".to_owned() } else { words.join("; ") },
            limits: if failed == 0 { rule.limits.pairs() } else { Vec::new() },
            ..Step::of(rule)
        };
        let held = conditions.len() - failed;
        let first = words.into_iter().next();
        Trial { step: Step { conditions, ..step }, failed, held, first }
    }

    /// Parts that must all hold. A `has` that only guards a later part is told
    /// as that part: "`principal.exe` is not there". `absent`: a guard further out
    /// has failed already.
    fn conjunction(&self, clauses: &[Clause], absent: bool) -> Vec<Condition> {
        let mut all: Vec<Condition> = Vec::new();
        let mut missing: Option<&Clause> = None;
        let mut failed = false;
        for clause in clauses {
            if self.left.get() == 0 {
                let text = "and more".to_owned();
                let note = "there is too much to explain".to_owned();
                all.push(Condition { note, outcome: Outcome::Error, ..Condition::of(text) });
                break;
            }
            let result = self.evaluate(&clause.expression);
            let outcome = match result {
                Ok(EvalResult::Bool(true)) => Outcome::Satisfied,
                Ok(_) => Outcome::NotSatisfied,
                Err(_) if absent || missing.is_some() => Outcome::NotSatisfied,
                // Behind a condition that failed, Cedar itself would not have looked.
                Err(_) if failed => continue,
                Err(why) => {
                    let text = clause.text.clone();
                    all.push(Condition {
                        note: why,
                        outcome: Outcome::Error,
                        ..Condition::of(text)
                    });
                    failed = true;
                    continue;
                }
            };
            if clause.guard {
                if outcome != Outcome::Satisfied {
                    missing = missing.or(Some(clause));
                }
                continue;
            }
            failed |= outcome != Outcome::Satisfied;
            all.push(self.condition(clause, outcome, absent || missing.is_some()));
        }
        if let Some(guard) = missing.filter(|_| !failed) {
            all.push(self.condition(guard, Outcome::NotSatisfied, absent));
        }
        all
    }

    fn condition(&self, clause: &Clause, outcome: Outcome, absent: bool) -> Condition {
        let saw: Vec<Saw> = clause.values.iter().map(|named| self.saw(named)).collect();
        let short = saw.iter().filter(|_| outcome == Outcome::NotSatisfied);
        let note = short.filter_map(|saw| shortfall(self.attestation, &saw.name)).next();
        Condition {
            outcome,
            saw,
            note: note.unwrap_or_default(),
            wanted: clause.wanted.clone(),
            either: clause.either.iter().map(|side| self.alternative(side, absent)).collect(),
            ..Condition::of(clause.text.clone())
        }
    }

    /// One side of a `||`: as much of it as failed.
    fn alternative(&self, side: &Alternative, absent: bool) -> Condition {
        let all = self.conjunction(&side.all, absent);
        let failing = all.into_iter().find(|condition| condition.outcome != Outcome::Satisfied);
        let text = side.text.clone();
        match failing {
            None => Condition { outcome: Outcome::Satisfied, ..Condition::of(text) },
            Some(part) => Condition { text, either: Vec::new(), ..part },
        }
    }

    fn evaluate(&self, expression: &Expression) -> Result<EvalResult, String> {
        let left = self.left.get();
        if left == 0 {
            return Err("too much to explain".to_owned());
        }
        self.left.set(left - 1);
        eval_expression(&self.asked.request, &self.asked.entities, expression)
            .map_err(|error| error.to_string())
    }

    fn saw(&self, named: &Named) -> Saw {
        let unreadable = named.fact.as_ref().and_then(|(whose, name)| {
            self.unreadable.iter().find(|(of, which, _)| of == whose && which == name)
        });
        let value = match (&named.source, unreadable) {
            (_, Some((_, _, why))) => format!("could not be read: {why}"),
            (Source::Groups(kind), None) => self.groups(kind),
            (Source::Expression(expression), None) => match self.evaluate(expression) {
                Ok(value) => value.to_string(),
                Err(_) => return self.missing(named),
            },
        };
        Saw { name: named.name.clone(), value: shortened(value) }
    }

    /// The outermost part of an attribute's path that is not there.
    fn missing(&self, named: &Named) -> Saw {
        match &named.base {
            Some(base) if matches!(&base.source, Source::Expression(it) if self.evaluate(it).is_err()) => {
                self.missing(base)
            }
            _ => Saw { name: named.name.clone(), value: "not there".to_owned() },
        }
    }

    fn groups(&self, kind: &str) -> String {
        let Some(requester) = self.asked.request.principal() else { return "none".to_owned() };
        let above = self.asked.entities.ancestors(requester).into_iter().flatten();
        let mut of_kind: Vec<String> = above
            .filter(|uid| uid.type_name().to_string() == kind)
            .map(ToString::to_string)
            .collect();
        of_kind.sort();
        let more = of_kind.len().saturating_sub(MAX_GROUPS);
        of_kind.truncate(MAX_GROUPS);
        if more > 0 {
            of_kind.push(format!("{more} more"));
        }
        if of_kind.is_empty() { "none".to_owned() } else { of_kind.join(", ") }
    }
}

fn shortened(value: String) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        None => value,
        Some((at, _)) => format!("{}…", &value[..at]),
    }
}

/// A condition that does not hold, in one line.
fn words(condition: &Condition) -> String {
    let Condition { text, note, .. } = condition;
    if condition.outcome == Outcome::Error {
        return format!("{text} cannot be evaluated: {note}");
    }
    let saw = |condition: &Condition| {
        let shown: Vec<String> =
            condition.saw.iter().map(|saw| format!("{} is {}", saw.name, saw.value)).collect();
        shown.join(", ")
    };
    let mut values: Vec<String> =
        condition.either.iter().chain([condition]).map(saw).filter(|saw| !saw.is_empty()).collect();
    values.dedup();
    let why = if note.is_empty() { String::new() } else { format!("; {note}") };
    if values.is_empty() {
        format!("{text} is false{why}")
    } else {
        format!("{text} is false: {}{why}", values.join(", "))
    }
}

/// Why a level that a policy asks for was not reached: the reasons for the
/// lowest that was missed.
fn shortfall(attestation: &Attestation, name: &str) -> Option<String> {
    let (whose, attribute) = name.rsplit_once('.')?;
    let level: fn(&ProcessFacts) -> u8 = match attribute {
        "assurance" => |facts| facts.assurance.level(),
        "assurance_with_jit" => |facts| facts.assurance_with_jit.level(),
        _ => return None,
    };
    let (caller, requester) = (&attestation.caller, &attestation.requester);
    let (who, facts) = match whose {
        "principal" => ("the requester", requester),
        "context.caller" | "context.target" => ("the caller", caller),
        "context" if level(caller) < level(requester) => ("the caller", caller),
        "context" => ("the requester", requester),
        _ => return None,
    };
    let missed = level(facts) + 1;
    let reasons: Vec<&str> = facts
        .shortfalls
        .iter()
        .filter(|shortfall| shortfall.level.level() == missed)
        .map(|shortfall| shortfall.reason.as_str())
        .collect();
    let reasons = (!reasons.is_empty()).then(|| reasons.join("; "))?;
    Some(shortened(format!("{who} does not reach {missed}: {reasons}")))
}
