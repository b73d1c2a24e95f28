//! The composition root: the way of a request, stage by stage, and the only
//! place that imports every stage.

mod decisions;
mod denials;
mod failures;
mod leases;
mod operate;
mod records;
mod refusals;
mod serving;
mod start;
mod status;
mod stop;

pub use start::{RunError, run};

use crate::approval;
use crate::attestation::{Anchor, Attestation, Attestor, BoundProcess};
use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::connection::{Channel, Connection};
use crate::delivery::{Ask, BindingAsk, Delivered, Explained, Failure};
use crate::issuer::{Catalogue, Entry, Order};
use crate::lease::{BindingKey, Bound, Engine, Grant, LeaseError, LeaseView, Terms};
use crate::log::{EndReason, Event, LeaseState, Log};
use crate::memory::{Secret, random_array};
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{
    Action, BindingKind, CredentialFacts, Decision, Delivery, Permit, Policies, Question,
    RequesterKey, Target,
};
use crate::store::Store;
use decisions::Decisions;
use denials::Denials;
use jsi_proto::v1::Reason;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What a reload replaces, all of it or nothing.
struct InForce {
    config: Config,
    policies: Policies,
    catalogue: Catalogue,
}

/// The agent, put together.
struct Pipeline {
    clock: Clock,
    attestor: Attestor,
    engine: Arc<Engine>,
    log: Log,
    store: Arc<Store>,
    in_force: RwLock<Arc<InForce>>,
    decisions: Decisions,
    denials: Arc<Denials>,
    about: status::About,
}

/// What a request asks policy, beyond who asks.
struct Wanted<'a> {
    action: Action,
    credential: Option<&'a CredentialName>,
    scope: &'a BTreeMap<String, String>,
    delivery: Delivery,
    binding: Option<BindingKind>,
    target: Option<&'a Target>,
    ttl: Option<Duration>,
}

impl<'a> Wanted<'a> {
    /// Nothing but an action on a credential.
    fn plain(action: Action, credential: Option<&'a CredentialName>) -> Self {
        Self {
            action,
            credential,
            scope: &EMPTY,
            delivery: Delivery::Caller,
            binding: None,
            target: None,
            ttl: None,
        }
    }

    fn question<'q>(
        &'q self,
        request_id: &'q RequestId,
        attestation: &'q Attestation,
        admin_socket: bool,
        now: Moment,
    ) -> Question<'q> {
        Question {
            request_id,
            attestation,
            action: self.action,
            credential: self.credential,
            scope: self.scope,
            delivery: self.delivery,
            binding: self.binding,
            target: self.target,
            admin_socket,
            ttl: self.ttl,
            now,
        }
    }
}

/// No narrowing.
static EMPTY: BTreeMap<String, String> = BTreeMap::new();

impl Pipeline {
    /// The way of a request.
    async fn serve(&self, on: &Arc<Connection>, ask: Ask) -> Result<Delivered, Failure> {
        let request = RequestId::new(random_array());
        let (attestation, requester) = self.attest_for(on, &request, &ask).await?;
        let force = self.in_force();
        let Some(entry) = force.catalogue.find(&ask.credential) else {
            return Err(self.unknown_credential(&force, &attestation, &request, &ask.credential));
        };
        let permit = self.permit(&force, on, &attestation, &request, &entry, &ask)?;
        // After policy: what its issuer takes is for those who may have it.
        known_scope(&entry, &ask.scope)
            .map_err(|no| self.refuse(&request, &attestation, "request", &ask, no))?;
        let approved = approval::approve(permit).map_err(|no| {
            self.refuse(&request, &attestation, "request", &ask, failures::approval(&no))
        })?;
        let permit = approved.permit();
        let binding = self.bind(on, &attestation, &ask, permit.limits().bind, requester).await;
        let binding =
            binding.map_err(|no| self.refuse(&request, &attestation, "request", &ask, no))?;
        let (lease, secret, reused) = match self.held(&ask, permit, &binding) {
            Some((id, key)) => {
                let (lease, secret) = self.redeliver((&id, &key), &request, &ask, &entry).await?;
                (lease, secret, true)
            }
            None => {
                let (lease, secret) =
                    self.issue(&request, &ask, permit, &entry, &attestation, binding).await?;
                (lease, secret, false)
            }
        };
        // From here on the log says that it was delivered; the last look at the
        // requester comes after it, because a sync takes long enough to exec in.
        if let Err(changed) = self.attestor.recheck(&attestation).await {
            let failure = failures::attestation(&changed);
            return Err(self.withhold(&lease.id, &request, &attestation, &ask, failure));
        }
        if let Err(refused) = on.answered().await {
            let failure = failures::refusal(&refused);
            return Err(self.withhold(&lease.id, &request, &attestation, &ask, failure));
        }
        if let Err(failure) =
            self.still_permitted(&force, on, &attestation, permit, &ask, &lease.id)
        {
            return Err(self.withhold(&lease.id, &request, &attestation, &ask, failure));
        }
        Ok(Delivered { lease, secret, request, reused })
    }

    /// What may have changed while the request was served: the permit's time,
    /// policy itself, the lock, and the lease.
    fn still_permitted(
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

    /// Attestation: who asks, or a refusal that the log has.
    async fn attest(
        &self,
        on: &Connection,
        request: &RequestId,
        action: &str,
        credential: Option<&CredentialName>,
    ) -> Result<Arc<Attestation>, Failure> {
        let failure = match on.answered().await {
            Ok(()) => match self.attestor.attest(on.image).await {
                Ok(attestation) => return Ok(attestation),
                Err(error) => failures::attestation(&error),
            },
            Err(refused) => failures::refusal(&refused),
        };
        Err(self.unattested(on, request, action, credential, failure))
    }

    /// The same for a request, which in most cases wants to know in the same
    /// turn which process the requester is bound as.
    async fn attest_for(
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
                Ok(attested) => return Ok(attested),
                Err(error) => failures::attestation(&error),
            },
            Err(refused) => failures::refusal(&refused),
        };
        Err(self.unattested(on, request, "request", Some(&ask.credential), failure))
    }

    /// Whoever it was is not known; the log has what is.
    fn unattested(
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
    fn permit(
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
    fn decide(
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
                        who: Some(records::holder(attestation)),
                    },
                );
                self.decisions.remember(explained(false, &denial.reason, denial.steps, None));
                Err(failures::denied(request, action, &credential))
            }
        }
    }

    /// What the lease will be bound to: what was asked for, else what policy
    /// demands, else the requester.
    async fn bind(
        &self,
        on: &Arc<Connection>,
        attestation: &Attestation,
        ask: &Ask,
        demanded: Option<BindingKind>,
        requester: Option<BoundProcess>,
    ) -> Result<Bound, Failure> {
        match chosen_binding(ask.binding, demanded)? {
            BindingAsk::None => Ok(Bound::None),
            BindingAsk::Connection => {
                let connection = Arc::clone(on);
                let closed = Box::pin(async move { connection.closed().await });
                Ok(Bound::Connection { id: on.id, closed })
            }
            BindingAsk::Process(anchor) => {
                let process = match requester.filter(|_| anchor == Anchor::Requester) {
                    Some(process) => process,
                    None => self
                        .attestor
                        .resolve(attestation.caller_image, anchor)
                        .await
                        .map_err(|error| failures::binding(&error))?,
                };
                Ok(Bound::Process(becoming(process, anchor, ask.target.as_ref())))
            }
        }
    }

    /// The lease that this requester holds on the same, if it may have it again:
    /// a subshell counts as the shell that forked it. That can be forged, but
    /// only by a program to which policy has just permitted the same.
    fn held(&self, ask: &Ask, permit: &Permit, binding: &Bound) -> Option<(LeaseId, RequesterKey)> {
        if ask.new_lease || permit.limits().hold_none {
            return None;
        }
        let key = match (ask.binding, binding.key()) {
            (
                None | Some(BindingAsk::Process(Anchor::Requester)),
                BindingKey::Process { pid, start_time },
            ) => RequesterKey { pid, start_time, ..permit.requester().clone() },
            _ => permit.requester().clone(),
        };
        let limits = permit.limits();
        let id = self.engine.reusable(&key, &ask.credential, &ask.scope, binding.key(), limits)?;
        Some((id, key))
    }

    /// Issuer and lease: minted, logged, then handed on.
    async fn issue(
        &self,
        request: &RequestId,
        ask: &Ask,
        permit: &Permit,
        entry: &Entry,
        attestation: &Attestation,
        binding: Bound,
    ) -> Result<(LeaseView, Secret), Failure> {
        let id = LeaseId::new(&ask.credential, random_array());
        let limits = permit.limits();
        let ttl = ask.ttl.unwrap_or(limits.default_ttl).min(limits.max_ttl);
        let order = Order { permit, lease: &id, ttl, now: self.clock.now() };
        let issued = entry.issuer.issue(order).await.map_err(|error| failures::issuer(&error))?;
        let grant = Grant {
            id,
            request: request.clone(),
            terms: Terms {
                credential: permit.credential().clone(),
                scope: permit.scope().clone(),
                limits: limits.clone(),
                requester: permit.requester().clone(),
                holder: records::holder(attestation),
                policies: permit.policies().to_vec(),
            },
            capabilities: entry.capabilities.clone(),
            ttl: ask.ttl.unwrap_or(limits.default_ttl),
            binding,
            delivery: ask.delivery,
            note: ask.note.clone(),
        };
        if let Err(failure) = known_fields(&issued.secret, &ask.fields) {
            // Nothing was granted yet; what a backend minted is taken back.
            let _ = entry.issuer.revoke(&issued.handle).await;
            return Err(failure);
        }
        let granted = self.engine.grant(grant, issued).await;
        granted.map(|done| (done.view, done.secret)).map_err(|error| failures::lease(&error))
    }

    /// The secret of a lease that lives, once more.
    async fn redeliver(
        &self,
        (id, key): (&LeaseId, &RequesterKey),
        request: &RequestId,
        ask: &Ask,
        entry: &Entry,
    ) -> Result<(LeaseView, Secret), Failure> {
        let mut done = self.engine.redeliver(id, key, request, ask.delivery).await;
        if matches!(done, Err(LeaseError::NeedsReopen)) {
            let secret = entry.issuer.reopen(&ask.credential).await;
            let secret = secret.map_err(|error| failures::issuer(&error))?;
            self.engine.attach(id, key, &secret).map_err(|error| failures::lease(&error))?;
            done = self.engine.redeliver(id, key, request, ask.delivery).await;
        }
        done.map_err(|error| failures::lease(&error))
    }

    /// Ends a lease whose secret must not go out after all, and says why.
    fn withhold(
        &self,
        lease: &LeaseId,
        request: &RequestId,
        attestation: &Attestation,
        ask: &Ask,
        failure: Failure,
    ) -> Failure {
        // It may have ended by itself meanwhile.
        let _ = self.engine.end(lease, EndReason::Revoked);
        self.refuse(request, attestation, "deliver", ask, failure)
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `jsi exec` binds to itself and becomes its target: people know it by that.
fn becoming(mut process: BoundProcess, anchor: Anchor, target: Option<&Target>) -> BoundProcess {
    if let (Anchor::Caller, Some(target)) = (anchor, target) {
        process.identity.exe = Some(target.exe.clone());
    }
    process
}

/// What was asked for where policy lets it, else what policy demands. Clients
/// name the requester where nobody said anything, so that this gives way; what
/// only a person can have meant is refused instead.
fn chosen_binding(
    asked: Option<BindingAsk>,
    demanded: Option<BindingKind>,
) -> Result<BindingAsk, Failure> {
    let policys = match demanded {
        None | Some(BindingKind::Process) => BindingAsk::Process(Anchor::Requester),
        Some(BindingKind::Connection) => BindingAsk::Connection,
        Some(BindingKind::None) => BindingAsk::None,
    };
    let Some(asked) = asked else { return Ok(policys) };
    let kind = match asked {
        BindingAsk::Process(_) => BindingKind::Process,
        BindingAsk::Connection => BindingKind::Connection,
        BindingAsk::None => BindingKind::None,
    };
    match (asked, demanded) {
        (_, None) => Ok(asked),
        (_, Some(demanded)) if demanded == kind => Ok(asked),
        (BindingAsk::Process(Anchor::Requester), Some(_)) => Ok(policys),
        (_, Some(demanded)) => Err(Failure::new(
            Reason::BindingRefused,
            format!("policy demands that the lease be bound to {}", demanded.name()),
        )
        .with("field", "binding")),
    }
}

/// Refuses a scope key that the issuer does not take.
fn known_scope(entry: &Entry, scope: &BTreeMap<String, String>) -> Result<(), Failure> {
    let known = entry.capabilities.scope_keys;
    let Some(key) = scope.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let takes = match known {
        [] => "its issuer takes none".to_owned(),
        known => format!("its issuer takes {}", known.join(", ")),
    };
    let message =
        format!("scope: {key:?} is not known to the issuer {}; {takes}", entry.facts.issuer);
    Err(Failure::new(Reason::UnknownScope, message).with("field", "scope"))
}

/// Refuses a field that the secret does not have.
fn known_fields(secret: &Secret, wanted: &[String]) -> Result<(), Failure> {
    let Some(name) = wanted.iter().find(|name| secret.field(name).is_none()) else {
        return Ok(());
    };
    let names: Vec<_> = secret.fields().iter().map(|field| field.name.as_str()).collect();
    let message = format!("there is no field {name:?}; the secret has {}", names.join(", "));
    Err(Failure::new(Reason::UnknownField, message).with("field", name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_that_policy_demands_is_not_evaded_by_naming_another() {
        let requester = BindingAsk::Process(Anchor::Requester);
        let connection = Some(BindingKind::Connection);
        assert_eq!(chosen_binding(None, None).unwrap(), requester);
        assert_eq!(chosen_binding(Some(BindingAsk::None), None).unwrap(), BindingAsk::None);
        // What `jsi get` sends where nothing was said.
        assert_eq!(chosen_binding(Some(requester), connection).unwrap(), BindingAsk::Connection);
        assert_eq!(chosen_binding(None, connection).unwrap(), BindingAsk::Connection);
        let process = Some(BindingKind::Process);
        let session = BindingAsk::Process(Anchor::Session);
        assert_eq!(chosen_binding(Some(session), process).unwrap(), session);
        for (asked, demanded) in [
            (BindingAsk::Process(Anchor::Pid(7)), connection),
            (session, Some(BindingKind::None)),
            (BindingAsk::None, process),
            (BindingAsk::Connection, process),
        ] {
            let refused = chosen_binding(Some(asked), demanded).unwrap_err();
            assert_eq!(refused.reason, Reason::BindingRefused);
        }
    }
}
