//! Refusals that the log has.

use super::{InForce, Pipeline, Wanted, failures, records};
use crate::approval::ApprovalError;
use crate::attestation::Attestation;
use crate::delivery::{Ask, Failure};
use crate::lease::LeaseView;
use crate::log::Event;
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Action, Decision};
use jsi_proto::reason_code;
use jsi_proto::v1::Reason;

impl Pipeline {
    /// Records a refusal of a request that policy had permitted.
    pub(super) fn refuse(
        &self,
        request: &RequestId,
        attestation: &Attestation,
        action: &str,
        ask: &Ask,
        failure: Failure,
    ) -> Failure {
        self.denials.denied(
            attestation.requester.uid,
            Event::Denied {
                request: request.clone(),
                action: action.to_owned(),
                credential: ask.credential.to_string(),
                scope: ask.scope.clone(),
                code: reason_code(failure.reason).to_owned(),
                reason: failure.message.clone(),
                who: Some(records::asker(attestation, ask.target.as_ref())),
            },
        );
        failure.with("request_id", request.as_str())
    }

    /// Records that a renewal which policy had permitted was not approved.
    pub(super) fn refuse_renewal(
        &self,
        request: &RequestId,
        attestation: &Attestation,
        view: &LeaseView,
        no: &ApprovalError,
    ) -> Failure {
        let failure = failures::approval(no);
        self.denials.denied(
            attestation.requester.uid,
            Event::Denied {
                request: request.clone(),
                action: "renew".to_owned(),
                credential: view.credential.to_string(),
                scope: view.scope.clone(),
                code: reason_code(failure.reason).to_owned(),
                reason: failure.message.clone(),
                who: Some(records::holder(attestation)),
            },
        );
        failure.with("request_id", request.as_str())
    }

    /// There is no such credential: near ones are named, of those that the
    /// requester may list.
    pub(super) fn unknown_credential(
        &self,
        force: &InForce,
        attestation: &Attestation,
        request: &RequestId,
        name: &CredentialName,
    ) -> Failure {
        let near = near(force, attestation, request, name, self.clock.now());
        let hint = match near {
            Some(near) => format!("; did you mean {near}?"),
            None => "; `jsi secret ls` and the configuration name those that are".to_owned(),
        };
        let failure = Failure::new(
            Reason::UnknownCredential,
            format!("no credential {name} is defined{hint}"),
        );
        self.denials.denied(
            attestation.requester.uid,
            Event::Denied {
                request: request.clone(),
                action: "request".to_owned(),
                credential: name.to_string(),
                scope: std::collections::BTreeMap::new(),
                code: reason_code(failure.reason).to_owned(),
                reason: "no such credential".to_owned(),
                who: Some(records::holder(attestation)),
            },
        );
        failure.with("request_id", request.as_str())
    }

    /// Somebody named a lease that is not theirs: an ID is a name, not a right.
    pub(super) fn not_yours(
        &self,
        id: &LeaseId,
        action: &str,
        request: &RequestId,
        attestation: &Attestation,
    ) {
        let credential: String = id.as_str().chars().take(200).collect();
        self.denials.denied(
            attestation.requester.uid,
            Event::Denied {
                request: request.clone(),
                action: action.to_owned(),
                credential,
                scope: std::collections::BTreeMap::new(),
                code: reason_code(Reason::UnknownLease).to_owned(),
                reason: "the requester holds no lease of that ID".to_owned(),
                who: Some(records::holder(attestation)),
            },
        );
    }
}

/// Edits between two names at which one is not meant for the other.
const FAR: usize = 3;

fn near(
    force: &InForce,
    attestation: &Attestation,
    request: &RequestId,
    name: &CredentialName,
    now: crate::clock::Moment,
) -> Option<CredentialName> {
    let mut close: Vec<_> = force
        .catalogue
        .names()
        .into_iter()
        .map(|known| (edits(known.as_str(), name.as_str()), known))
        .filter(|(edits, _)| *edits < FAR)
        .collect();
    close.sort();
    close.into_iter().map(|(_, known)| known).take(4).find(|known| {
        let Some(entry) = force.catalogue.find(known) else { return false };
        let wanted = Wanted::plain(Action::List, Some(known));
        let question = wanted.question(request, attestation, false, now);
        let answer = force.policies.decide(&question, &entry.facts);
        matches!(answer, Decision::Permit(..))
    })
}

/// Levenshtein distance; names are short.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, right) in b.iter().enumerate() {
            let cost = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = cost.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("db/orders", "db/orders"), 0);
        assert_eq!(edits("db/orders", "db/order"), 1);
        assert_eq!(edits("db/orders", "bd/orders"), 2);
        assert_eq!(edits("", "abc"), 3);
    }
}
