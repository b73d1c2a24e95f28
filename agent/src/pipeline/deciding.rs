//! Attestation and policy: who asks, and what is said to that.

use super::{InForce, Pipeline, Wanted, failures, records};
use crate::attestation::{Anchor, Attestation, BoundProcess, TargetView, Via};
use crate::connection::{Channel, Connection};
use crate::delivery::{Ask, BindingAsk, Explained, Failure};
use crate::issuer::Entry;
use crate::lease::LeaseError;
use crate::log::{Event, LeaseState};
use crate::mutants::{self, Check};
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Action, BindingKind, CredentialFacts, Decision, Permit, Target};
use jsi_proto::v1::Reason;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Pipeline {
    /// Attestation: who asks, or a refusal that the log has.
    pub(super) async fn attest(
        &self,
        on: &Connection,
        request: &RequestId,
        action: &str,
        credential: Option<&CredentialName>,
    ) -> Result<Arc<Attestation>, Failure> {
        let failure = match on.answered().await {
            Ok(()) => match self.attestor.attest(on.image).await {
                Ok(attestation) => return Ok(within(on, attestation)),
                Err(error) => failures::attestation(&error),
            },
            Err(refused) => failures::refusal(&refused),
        };
        Err(self.unattested(on, request, action, credential, failure))
    }

    /// The same for a request, which in most cases wants to know in the same
    /// turn which process the requester is bound as.
    pub(super) async fn attest_for(
        &self,
        on: &Connection,
        request: &RequestId,
        ask: &Ask,
    ) -> Result<(Arc<Attestation>, Option<BoundProcess>), Failure> {
        if !matches!(ask.binding, None | Some(BindingAsk::Process(Anchor::Requester))) {
            let attested = self.attest(on, request, "request", Some(&ask.credential)).await?;
            return Ok((attested, None));
        }
        let failure = match on.answered().await {
            Ok(()) => match self.attestor.attest_and_resolve(on.image).await {
                Ok((attestation, bound)) => return Ok((within(on, attestation), bound)),
                Err(error) => failures::attestation(&error),
            },
            Err(refused) => failures::refusal(&refused),
        };
        Err(self.unattested(on, request, "request", Some(&ask.credential), failure))
    }

    /// The same request, without what its target cannot be relied on for.
    pub(super) async fn with_target_seen(
        &self,
        on: &Connection,
        attestation: &Attestation,
        request: &RequestId,
        ask: Ask,
    ) -> Result<Ask, Failure> {
        let Some(target) = ask.target.clone().filter(|_| attestation.via != Via::Direct) else {
            return Ok(ask);
        };
        let view = self.attestor.target(attestation.caller_image, &target.exe, target.file).await;
        let target = match view {
            Ok(TargetView::Seen) => target,
            Ok(TargetView::Elsewhere(why)) => Target { unseen: Some(why), ..target },
            Ok(TargetView::Doubtful(why)) => target.doubted(&why),
            Err(error) => {
                let failure = failures::attestation(&error);
                let credential = Some(&ask.credential);
                return Err(self.unattested(on, request, "request", credential, failure));
            }
        };
        Ok(Ask { target: Some(target), ..ask })
    }

    /// Whoever it was is not known; the log has what is.
    pub(super) fn unattested(
        &self,
        on: &Connection,
        request: &RequestId,
        action: &str,
        credential: Option<&CredentialName>,
        failure: Failure,
    ) -> Failure {
        let failure = failure.with("request_id", request.as_str());
        self.denials.denied(
            on.peer.uid,
            Event::Denied {
                request: request.clone(),
                action: action.to_owned(),
                credential: credential.map(ToString::to_string).unwrap_or_default(),
                scope: BTreeMap::new(),
                code: jsi_proto::reason_code(failure.reason).to_owned(),
                reason: format!("pid {} uid {}: {}", on.peer.pid, on.peer.uid, failure.message),
                who: None,
            },
        );
        failure
    }

    /// Policy: a permit, or a denial that the log and `jsi explain` have.
    pub(super) fn permit(
        &self,
        force: &InForce,
        on: &Connection,
        attestation: &Arc<Attestation>,
        request: &RequestId,
        entry: &Entry,
        ask: &Ask,
    ) -> Result<Permit, Failure> {
        let wanted = Wanted {
            action: Action::Request,
            credential: Some(&ask.credential),
            scope: &ask.scope,
            delivery: ask.delivery,
            binding: ask.binding.map(|binding| match binding {
                BindingAsk::Process(_) => BindingKind::Process,
                BindingAsk::Connection => BindingKind::Connection,
                BindingAsk::None => BindingKind::None,
            }),
            target: ask.target.as_ref(),
            ttl: ask.ttl,
        };
        self.decide(force, on, attestation, request, &entry.facts, &wanted)
    }

    /// Asks policy, and remembers what it said.
    pub(super) fn decide(
        &self,
        force: &InForce,
        on: &Connection,
        attestation: &Arc<Attestation>,
        request: &RequestId,
        facts: &CredentialFacts,
        wanted: &Wanted<'_>,
    ) -> Result<Permit, Failure> {
        let now = self.clock.now();
        let admin = on.channel == Channel::Admin;
        let question = wanted.question(request, attestation, admin, now);
        let decision = force.policies.decide(&question, facts);
        let action = wanted.action.name();
        let credential = wanted.credential.map(ToString::to_string).unwrap_or_default();
        let explained = |permitted, reason: &str, steps, limits| Explained {
            request: request.clone(),
            at: now.wall,
            action: action.to_owned(),
            credential: credential.clone(),
            permitted,
            reason: reason.to_owned(),
            attestation: Arc::clone(attestation),
            steps,
            limits,
            scope: wanted.scope.clone(),
            delivery: wanted.delivery,
            binding: wanted.binding,
            target: wanted.target.cloned(),
        };
        match decision {
            Decision::Permit(permit, steps) => {
                let limits = Some(permit.limits().clone());
                self.decisions.remember(explained(true, "permitted", steps, limits));
                Ok(*permit)
            }
            Decision::Deny(denial) => {
                self.denials.denied(
                    attestation.requester.uid,
                    Event::Denied {
                        request: request.clone(),
                        action: action.to_owned(),
                        credential: credential.clone(),
                        scope: wanted.scope.clone(),
                        code: "DENIED_BY_POLICY".to_owned(),
                        reason: denial.reason.clone(),
                        who: Some(records::asker(attestation, wanted.target)),
                    },
                );
                self.decisions.remember(explained(false, &denial.reason, denial.steps, None));
                Err(failures::denied(request, action, &credential))
            }
        }
    }

    /// What may have changed while the request was served: the permit's time,
    /// policy itself, the lock, and the lease.
    pub(super) fn still_permitted(
        &self,
        force: &Arc<InForce>,
        on: &Connection,
        attestation: &Arc<Attestation>,
        permit: &Permit,
        ask: &Ask,
        lease: &LeaseId,
    ) -> Result<(), Failure> {
        let request = permit.request_id();
        if permit.expired(self.clock.now().boot) {
            let message = "the request took longer than its permit lives; ask again";
            return Err(Failure::new(Reason::LimitReached, message).with("limit", "permit"));
        }
        if self.engine.is_locked() {
            return Err(failures::lease(&LeaseError::Locked));
        }
        let now = self.in_force();
        if !Arc::ptr_eq(force, &now) {
            let Some(entry) = now.catalogue.find(&ask.credential) else {
                return Err(self.unknown_credential(&now, attestation, request, &ask.credential));
            };
            let anew = self.permit(&now, on, attestation, request, &entry, ask)?;
            if anew.limits() != permit.limits() {
                let message = "policy was changed while the request was served; ask again";
                return Err(Failure::new(Reason::DeniedByPolicy, message));
            }
        }
        match self.engine.get(lease, None) {
            Ok(view) if view.state == LeaseState::Active => Ok(()),
            Ok(_) | Err(_) => Err(failures::lease(&LeaseError::Ended)),
        }
    }
}

/// What may be thought of who asks, on this connection. Where its socket was
/// asked for by packet, more than one program held the way by which it came.
fn within(on: &Connection, attestation: Arc<Attestation>) -> Arc<Attestation> {
    if !on.bootstrapped || !mutants::on(Check::BootstrapLevelCap) {
        return attestation;
    }
    Arc::new(attestation.capped("it asks by JSI_AUTH_FD, a descriptor that programs share"))
}
