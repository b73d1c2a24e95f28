//! Issuer and lease: a secret that is minted, or one that is held already.

use super::{Pipeline, failures, records};
use crate::attestation::{Anchor, Attestation};
use crate::delivery::{Ask, BindingAsk, Failure};
use crate::issuer::{Class, Entry, IssuerError, Order};
use crate::lease::{BindingKey, Bound, Grant, LeaseError, LeaseView, Terms};
use crate::log::EndReason;
use crate::memory::{Secret, random_array};
use crate::names::{LeaseId, RequestId};
use crate::policy::{Permit, RequesterKey};
use jsi_proto::v1::Reason;
use std::time::Duration;

/// How often a stored secret is opened again for one request, because another
/// was put in its place meanwhile.
const REOPENINGS: usize = 8;

impl Pipeline {
    /// The lease that this requester holds on the same, if it may have it again:
    /// a subshell counts as the shell that forked it. That can be forged, but
    /// only by a program to which policy has just permitted the same.
    pub(super) fn held(
        &self,
        ask: &Ask,
        permit: &Permit,
        entry: &Entry,
        attestation: &Attestation,
        binding: &Bound,
    ) -> Option<(LeaseId, RequesterKey)> {
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
        let same = entry.capabilities.class == Class::Static
            || self.still_fits(&id, ask, permit, entry, attestation);
        same.then_some((id, key))
    }

    /// Whether what was minted for that lease is what would be minted now. What
    /// cannot be lengthened is shared during the first half of its life only, so
    /// that nobody is handed a credential that is about to expire.
    fn still_fits(
        &self,
        lease: &LeaseId,
        ask: &Ask,
        permit: &Permit,
        entry: &Entry,
        attestation: &Attestation,
    ) -> bool {
        let Some((view, handle)) = self.engine.minted(lease) else { return false };
        let (ttl, now) = (view.ttl, self.clock.now());
        let order = Order { permit, lease, attestation, target: ask.target.as_ref(), ttl, now };
        let fresh = entry.capabilities.renewable || view.remaining * 2 >= view.ttl;
        fresh && entry.issuer.fits(&order, &handle)
    }

    /// Issuer and lease: minted, logged, then handed on.
    pub(super) async fn issue(
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
        let ttl = granted_ttl(ask, permit, entry)?;
        let rotations = self.engine.rotations();
        let (target, now) = (ask.target.as_ref(), self.clock.now());
        let order = Order { permit, lease: &id, attestation, target, ttl, now };
        let issued = entry.issuer.issue(order).await.map_err(|error| {
            let failure = failures::issuer(&error);
            match error {
                // These are about who asks for what: the log has them.
                IssuerError::Scope(..) | IssuerError::Fact(_) => {
                    self.refuse(request, attestation, "request", ask, failure)
                }
                _ => failure,
            }
        })?;
        let grant = Grant {
            id,
            request: request.clone(),
            terms: Terms {
                credential: permit.credential().clone(),
                scope: permit.scope().clone(),
                limits: limits.clone(),
                requester: permit.requester().clone(),
                holder: records::asker(attestation, ask.target.as_ref()),
                policies: permit.policies().to_vec(),
            },
            capabilities: entry.capabilities.clone(),
            issuer: entry.issuer_name.clone(),
            ttl: ask.ttl.unwrap_or(limits.default_ttl),
            binding,
            delivery: ask.delivery,
            note: ask.note.clone(),
            rotations,
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
    pub(super) async fn redeliver(
        &self,
        (id, key): (&LeaseId, &RequesterKey),
        request: &RequestId,
        ask: &Ask,
        entry: &Entry,
    ) -> Result<(LeaseView, Secret), Failure> {
        let mut done = self.engine.redeliver(id, key, request, ask.delivery).await;
        for _ in 0..REOPENINGS {
            if !matches!(done, Err(LeaseError::NeedsReopen)) {
                break;
            }
            let rotations = self.engine.rotations();
            let secret = entry.issuer.reopen(&ask.credential).await;
            let secret = secret.map_err(|error| failures::issuer(&error))?;
            done = match self.engine.attach(id, key, &secret, rotations) {
                Ok(()) => self.engine.redeliver(id, key, request, ask.delivery).await,
                Err(error) => Err(error),
            };
        }
        let (lease, secret) = done.map_err(|error| failures::lease(&error))?;
        known_fields(&secret, &ask.fields)?;
        Ok((lease, secret))
    }

    /// Ends a lease whose secret must not go out after all, and says why.
    pub(super) fn withhold(
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
}

/// How long it is issued for: what was asked for, within all that limits it.
fn granted_ttl(ask: &Ask, permit: &Permit, entry: &Entry) -> Result<Duration, Failure> {
    let limits = permit.limits();
    let most = entry.capabilities.max_ttl.unwrap_or(Duration::MAX).min(limits.max_ttl);
    let ttl = ask.ttl.unwrap_or(limits.default_ttl).min(most);
    let least = entry.capabilities.min_ttl;
    if ttl < least {
        let wrong = format!("its issuer grants no less than {} s", least.as_secs_f64());
        return Err(Failure::field("ttl", wrong));
    }
    Ok(ttl)
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
