//! The decision. Pure: no clock, no I/O. Default deny; whatever cannot be
//! evaluated denies; over all permits that count, the strictest limit holds.

use super::entities::{self, Asked};
use super::explain::Explainer;
use super::facts;
use super::index::Slice;
use super::load::{Rule, covers};
use super::{
    Action, BindingKind, CredentialFacts, Decision, Denial, Limits, Outcome, PERMIT_LIFE, Policies,
    Question, RequesterKey, Step,
};
use crate::attestation::Assurance;
use crate::clock::BootTime;
use crate::mutants::{Check, on};
use crate::names::{CredentialName, RequestId};
use cedar_policy::Decision as Cedar;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Proof that policy allowed one request. Only [`Policies::decide`] makes one.
///
/// It names requester, credential and scope, and dies at its expiry.
#[derive(Clone)]
pub struct Permit {
    request_id: RequestId,
    action: Action,
    credential: CredentialName,
    scope: BTreeMap<String, String>,
    limits: Limits,
    allow_unbounded: bool,
    requester: RequesterKey,
    assurance: Assurance,
    policies: Vec<String>,
    expires: BootTime,
}

impl Permit {
    /// Names the decision.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// What it permits, and nothing else.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// Which credential. Where the agent itself was the resource (see
    /// [`Permit::action`]) this says `agent` and means nothing.
    #[must_use]
    pub fn credential(&self) -> &CredentialName {
        &self.credential
    }

    /// The narrowing.
    #[must_use]
    pub fn scope(&self) -> &BTreeMap<String, String> {
        &self.scope
    }

    /// The strictest limits of all permits that counted.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Every permit that counted says `@allow_unbounded`.
    #[must_use]
    pub fn allow_unbounded(&self) -> bool {
        self.allow_unbounded
    }

    /// Whom it is for.
    #[must_use]
    pub fn requester(&self) -> &RequesterKey {
        &self.requester
    }

    /// How sure the agent was of it.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// The names of the permits that counted.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// It may no longer be used.
    #[must_use]
    pub fn expired(&self, now: BootTime) -> bool {
        now >= self.expires
    }
}

/// Why not, before it is explained.
enum Refusal {
    /// The question cannot be put.
    Question(String),
    /// No permit applies.
    NoPermit,
    /// Some other reason, with the steps that show it.
    Because(String, Vec<Step>),
}

impl Policies {
    /// Answers one question. `facts` are the asked credential's (for
    /// [`Action::Administer`]: [`CredentialFacts::agent`]).
    ///
    /// A permit's steps are the permits that counted; a denial's are all
    /// policies that could have, each with what it saw.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>, facts: &CredentialFacts) -> Decision {
        let mut refusal = match self.permit(question, question.action, facts) {
            Ok((permit, steps)) => return Decision::Permit(Box::new(permit), steps),
            Err(refusal) => refusal,
        };
        // Whoever may have it may know that it exists.
        if question.action == Action::List && matches!(refusal, Refusal::NoPermit) {
            match self.permit(question, Action::Request, facts) {
                Ok((mut permit, steps)) => {
                    permit.action = Action::List;
                    return Decision::Permit(Box::new(permit), steps);
                }
                Err(other) => refusal = other,
            }
        }
        let request_id = question.request_id.clone();
        let (reason, steps) = match refusal {
            Refusal::Question(reason) => (reason, Vec::new()),
            Refusal::Because(reason, steps) => (reason, steps),
            Refusal::NoPermit => self.explain(question, facts),
        };
        Decision::Deny(Denial { request_id, reason, steps })
    }

    /// The policies that can speak of what is asked for: how many are evaluated.
    #[must_use]
    pub fn slice_len(&self, credential: &CredentialName) -> usize {
        self.index.credential(credential.as_str()).rules.len()
    }

    fn slice(&self, facts: &CredentialFacts) -> &Slice {
        match &facts.name {
            Some(name) => self.index.credential(name.as_str()),
            None => self.index.agent(),
        }
    }

    fn ask(
        &self,
        question: &Question<'_>,
        action: Action,
        facts: &CredentialFacts,
    ) -> Result<Asked, String> {
        let actions = self.actions.get(action.name()).map_or(&[][..], Vec::as_slice);
        entities::build(question, action, facts, actions)
    }

    fn permit(
        &self,
        question: &Question<'_>,
        action: Action,
        facts: &CredentialFacts,
    ) -> Result<(Permit, Vec<Step>), Refusal> {
        if question.credential != facts.name.as_ref() {
            return Err(Refusal::Question(
                "the question and the credential's facts speak of different credentials".to_owned(),
            ));
        }
        let satisfied = self.satisfied(question, action, facts)?;
        // Nothing is bound by a list, a renewal or a release: they are not to
        // fail for the binding that a request would have had.
        let binds = matches!(question.action, Action::Request | Action::Wrap);
        let bind = if binds { demanded_binding(&satisfied)? } else { None };
        let (limits, allow_unbounded) = strictest(&satisfied, bind, facts);
        if let Some(demanded) = limits.bind
            && question.binding != Some(demanded)
        {
            if let Some(asked) = question.binding {
                let reason = format!(
                    "policy demands that the lease be bound to {}, and the request asks for {}",
                    demanded.name(),
                    asked.name()
                );
                return Err(Refusal::Because(reason, steps(&satisfied)));
            }
            // Conditions must hold for the binding that it will have.
            let as_demanded = Question { binding: Some(demanded), ..question.clone() };
            return self.permit(&as_demanded, action, facts);
        }
        let steps = steps(&satisfied);
        let credential = match &facts.name {
            Some(name) => name.clone(),
            None => CredentialName::new("agent")
                .map_err(|error| Refusal::Question(error.to_string()))?,
        };
        let permit = Permit {
            request_id: question.request_id.clone(),
            action,
            credential,
            scope: question.scope.clone(),
            limits,
            allow_unbounded,
            requester: RequesterKey::of(&question.attestation.requester),
            assurance: question.attestation.assurance,
            policies: satisfied.iter().map(|rule| rule.name.clone()).collect(),
            expires: question.now.boot.plus(PERMIT_LIFE),
        };
        Ok((permit, steps))
    }

    /// The permits that count, if nothing speaks against them.
    fn satisfied(
        &self,
        question: &Question<'_>,
        action: Action,
        facts: &CredentialFacts,
    ) -> Result<Vec<Arc<Rule>>, Refusal> {
        let slice = self.slice(facts);
        let unreadable = facts::unreadable(question);
        if !unreadable.is_empty() && on(Check::UnreadableForbid) {
            no_forbid_is_blind(slice, action, &unreadable)?;
        }
        let asked = self.ask(question, action, facts).map_err(Refusal::Question)?;
        let set = slice.set().map_err(Refusal::Question)?;
        let response = self.authorizer.is_authorized(&asked.request, set, &asked.entities);
        let rule = |id| self.by_id.get(id).cloned();
        let errors: Vec<Step> = response
            .diagnostics()
            .errors()
            .map(|error| {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                let rule = rule(error.policy_id());
                let step = match rule {
                    Some(rule) => Step::of(&rule),
                    None => Step { policy: error.policy_id().to_string(), ..Step::default() },
                };
                Step { outcome: Outcome::Error, detail: error.inner().to_string(), ..step }
            })
            .collect();
        if let Some(first) = errors.first().filter(|_| on(Check::EvaluationError)) {
            let reason = format!("policy {} cannot be evaluated: {}", first.policy, first.detail);
            return Err(Refusal::Because(reason, errors));
        }
        let mut reasons: Vec<Arc<Rule>> =
            response.diagnostics().reason().filter_map(rule).collect();
        reasons.sort_by(|a, b| a.name.cmp(&b.name));
        match (response.decision(), reasons.first()) {
            (Cedar::Allow, Some(first)) if first.permit => {
                if on(Check::UnreadablePermit) {
                    some_permit_sees(&reasons, &unreadable)?;
                }
                Ok(reasons)
            }
            (Cedar::Deny, Some(first)) => {
                let explainer = Explainer::new(&asked, &unreadable, question.attestation);
                let steps = explainer.forbidden(&reasons, &slice.rules, action);
                let reason = format!("forbidden by {} ({})", first.name, first.place);
                Err(Refusal::Because(reason, steps))
            }
            (Cedar::Allow | Cedar::Deny, _) => Err(Refusal::NoPermit),
        }
    }

    /// Why no permit applies: each policy of the slice, and which came nearest.
    fn explain(&self, question: &Question<'_>, facts: &CredentialFacts) -> (String, Vec<Step>) {
        // A list that was refused is explained as the request that it stands for.
        let action =
            if question.action == Action::List { Action::Request } else { question.action };
        match self.ask(question, action, facts) {
            Ok(asked) => {
                let unreadable = facts::unreadable(question);
                Explainer::new(&asked, &unreadable, question.attestation)
                    .no_permit(&self.slice(facts).rules, action)
            }
            Err(reason) => (reason, Vec::new()),
        }
    }
}

/// A forbid that names a fact which could not be read might have applied.
fn no_forbid_is_blind(
    slice: &Slice,
    action: Action,
    unreadable: &[(facts::Whose, &'static str, String)],
) -> Result<(), Refusal> {
    let mut steps = Vec::new();
    for rule in slice.rules.iter().filter(|rule| !rule.permit && covers(&rule.policy, action)) {
        if let Some((whose, name, why)) = facts::blocking(&rule.facts, unreadable) {
            let whose = match whose {
                facts::Whose::Requester => "requester",
                facts::Whose::Caller => "caller",
            };
            steps.push(Step {
                outcome: Outcome::Unreadable,
                detail: format!("the {whose}'s {name} could not be read: {why}"),
                ..Step::of(rule)
            });
        }
    }
    match steps.first() {
        None => Ok(()),
        Some(first) => {
            let reason = format!("forbid {} cannot be judged: {}", first.policy, first.detail);
            Err(Refusal::Because(reason, steps))
        }
    }
}

/// A permit can hold because a fact is missing (`unless { principal in Unit::… }`).
/// Where the fact is missing because it could not be read, that is no permit;
/// its limits hold all the same.
fn some_permit_sees(
    permits: &[Arc<Rule>],
    unreadable: &[(facts::Whose, &'static str, String)],
) -> Result<(), Refusal> {
    let blind = |rule: &Arc<Rule>| {
        let (_, name, why) = facts::blocking(&rule.facts, unreadable)?;
        Some(Step {
            outcome: Outcome::Unreadable,
            detail: format!("{name} could not be read: {why}"),
            ..Step::of(rule)
        })
    };
    let steps: Option<Vec<Step>> = permits.iter().map(blind).collect();
    match steps {
        None => Ok(()),
        Some(steps) => {
            let names: Vec<&str> = steps.iter().map(|step| step.policy.as_str()).collect();
            let reason = format!(
                "every permit rests on a fact that could not be read: {}",
                names.join(", ")
            );
            Err(Refusal::Because(reason, steps))
        }
    }
}

/// The binding that the permits demand, if they agree.
fn demanded_binding(rules: &[Arc<Rule>]) -> Result<Option<BindingKind>, Refusal> {
    let mut demands = rules.iter().filter_map(|rule| Some((rule.limits.bind?, rule)));
    let Some((first, by)) = demands.next() else { return Ok(None) };
    match demands.find(|(other, _)| *other != first) {
        None => Ok(Some(first)),
        Some((other, rule)) => {
            let reason = format!(
                "{} demands @bind({:?}) and {} demands @bind({:?}); no lease can have both",
                by.name,
                first.name(),
                rule.name,
                other.name()
            );
            Err(Refusal::Because(reason, steps(rules)))
        }
    }
}

/// The strictest of each limit; a built-in permit demands nothing of its own.
fn strictest(
    rules: &[Arc<Rule>],
    bind: Option<BindingKind>,
    facts: &CredentialFacts,
) -> (Limits, bool) {
    let own = || rules.iter().map(|rule| &rule.limits);
    let max_ttl =
        own().filter_map(|limits| limits.max_ttl).fold(facts.lifetimes.max_ttl, std::cmp::Ord::min);
    let mut approvals: Vec<String> = own().flat_map(|limits| limits.approvals.clone()).collect();
    approvals.sort();
    approvals.dedup();
    let limits = Limits {
        max_ttl,
        default_ttl: facts.lifetimes.default_ttl.min(max_ttl),
        max_uses: own().filter_map(|limits| limits.max_uses).min(),
        approvals,
        bind,
        hold_none: own().any(|limits| limits.hold_none),
    };
    (limits, !rules.is_empty() && own().all(|limits| limits.allow_unbounded))
}

/// The permits that counted, with the limits that each brings.
fn steps(rules: &[Arc<Rule>]) -> Vec<Step> {
    let step = |rule: &Arc<Rule>| {
        let limits = rule.limits.pairs();
        let shown: Vec<String> = limits.iter().map(annotation).collect();
        let detail = if shown.is_empty() {
            "it applies".to_owned()
        } else {
            format!("it applies, {}", shown.join(" "))
        };
        Step { outcome: Outcome::Satisfied, detail, limits, ..Step::of(rule) }
    };
    rules.iter().map(step).collect()
}

impl Step {
    /// A step of that policy, of which nothing is said yet.
    pub(super) fn of(rule: &Rule) -> Self {
        Self {
            policy: rule.name.clone(),
            place: rule.place.clone(),
            permit: rule.permit,
            ..Self::default()
        }
    }
}

fn annotation((name, value): &(String, String)) -> String {
    if value.is_empty() { format!("@{name}") } else { format!("@{name}({value:?})") }
}
