//! Leases that are: renewed, released, read, watched.

use super::{Pipeline, Wanted, failures};
use crate::approval;
use crate::attestation::{Anchor, Attestation, BoundProcess};
use crate::connection::{Channel, Connection};
use crate::delivery::{Checked, CredentialInfo, Failure, LeaseFilter, Watch};
use crate::lease::{Filter, LeaseView};
use crate::memory::random_array;
use crate::names::{LeaseId, RequestId};
use crate::policy::{Action, Decision, RequesterKey};
use jsi_proto::v1::Reason;
use std::sync::Arc;
use std::time::Duration;

/// A lease of the requester's own.
struct Own {
    attestation: Arc<Attestation>,
    request: RequestId,
    view: LeaseView,
    /// As which it is theirs.
    key: RequesterKey,
}

impl Pipeline {
    /// The credentials that the requester may list; the admin socket sees all.
    pub(super) async fn visible_credentials(
        &self,
        on: &Connection,
        prefix: &str,
    ) -> Result<Vec<CredentialInfo>, Failure> {
        let request = RequestId::new(random_array());
        let attestation = self.attest(on, &request, "list", None).await?;
        let force = self.in_force();
        let admin = on.channel == Channel::Admin;
        let mut visible = Vec::new();
        for name in force.catalogue.names() {
            if !name.as_str().starts_with(prefix) {
                continue;
            }
            let Some(entry) = force.catalogue.find(&name) else { continue };
            let wanted = Wanted::plain(Action::List, Some(&name));
            let question = wanted.question(&request, &attestation, admin, self.clock.now());
            let answer = force.policies.decide(&question, &entry.facts);
            if !admin && !matches!(answer, Decision::Permit(..)) {
                continue;
            }
            let lifetimes = entry.facts.lifetimes;
            visible.push(CredentialInfo {
                name,
                owner: entry.facts.owner,
                purpose: entry.facts.purpose,
                issuer: entry.facts.issuer,
                class: entry.capabilities.class,
                revocation: entry.capabilities.revocation,
                max_ttl: lifetimes.max_ttl,
                default_ttl: lifetimes.default_ttl,
                scope_keys: entry.scope_keys,
            });
        }
        Ok(visible)
    }

    /// More time: attested and decided anew.
    pub(super) async fn renew_lease(
        &self,
        on: &Connection,
        id: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<(LeaseView, Vec<String>), Failure> {
        let Own { attestation, request, view, key } = self.own(on, id, "renew").await?;
        let force = self.in_force();
        let Some(entry) = force.catalogue.find(&view.credential) else {
            let name = &view.credential;
            return Err(self.unknown_credential(&force, &attestation, &request, name));
        };
        let wanted = Wanted {
            scope: &view.scope,
            delivery: view.delivery,
            binding: Some(failures::binding_kind(&view.binding)),
            ttl: increment,
            ..Wanted::plain(Action::Renew, Some(&view.credential))
        };
        let permit = self.decide(&force, on, &attestation, &request, &entry.facts, &wanted)?;
        // More time is as much to be approved as the lease was.
        let approved = approval::approve(permit)
            .map_err(|no| self.refuse_renewal(&request, &attestation, &view, &no))?;
        let permit = approved.permit();
        let most = Some(permit.limits().max_ttl);
        let renewed = self.engine.renew(id, &key, increment, most).await;
        let mut renewed = renewed.map_err(|error| failures::lease(&error))?;
        self.locking.used(self.clock.now().boot);
        let warnings = std::mem::take(&mut renewed.warnings);
        Ok((renewed, warnings))
    }

    /// The end of one's own lease: permitted unless a forbid says otherwise.
    pub(super) async fn release_lease(
        &self,
        on: &Connection,
        id: &LeaseId,
    ) -> Result<LeaseView, Failure> {
        let Own { attestation, request, view, key } = self.own(on, id, "release").await?;
        let force = self.in_force();
        // A credential that is not defined any more can still be given up.
        if let Some(entry) = force.catalogue.find(&view.credential) {
            let wanted = Wanted {
                scope: &view.scope,
                ..Wanted::plain(Action::Release, Some(&view.credential))
            };
            self.decide(&force, on, &attestation, &request, &entry.facts, &wanted)?;
        }
        self.engine.release(id, &key).map_err(|error| failures::lease(&error))
    }

    /// One lease, the requester's own.
    pub(super) async fn own_lease(
        &self,
        on: &Connection,
        id: &LeaseId,
    ) -> Result<LeaseView, Failure> {
        self.own(on, id, "read").await.map(|own| own.view)
    }

    /// Who asks, and the lease if it is theirs: another's is as unknown as none.
    async fn own(&self, on: &Connection, id: &LeaseId, action: &str) -> Result<Own, Failure> {
        let request = RequestId::new(random_array());
        let attestation = self.attest(on, &request, action, None).await?;
        let key = RequesterKey::of(&attestation.requester);
        if let Ok(view) = self.engine.get(id, Some(&key)) {
            return Ok(Own { attestation, request, view, key });
        }
        if let Some(key) = self.origin(&attestation).await
            && let Ok(view) = self.engine.get(id, Some(&key))
        {
            return Ok(Own { attestation, request, view, key });
        }
        self.not_yours(id, action, &request, &attestation);
        let message = format!("this program holds no lease {id:.200}; `jsi leases` lists its own");
        Err(Failure::new(Reason::UnknownLease, message))
    }

    /// Where the requester is a forked copy, the process that it is a copy of: a
    /// subshell may do with a lease what its shell may.
    async fn origin(&self, attestation: &Attestation) -> Option<RequesterKey> {
        let key = RequesterKey::of(&attestation.requester);
        let origin = self.attestor.resolve(attestation.caller_image, Anchor::Requester).await;
        let BoundProcess { identity, .. } = origin.ok()?;
        let origin = RequesterKey { pid: identity.pid, start_time: identity.start_time, ..key };
        (origin.pid != attestation.requester.pid).then_some(origin)
    }

    /// Leases: the requester's own, or all on the admin socket.
    pub(super) async fn visible_leases(
        &self,
        on: &Connection,
        filter: &LeaseFilter,
    ) -> Result<Vec<LeaseView>, Failure> {
        let (filter, _) = self.filter(on, filter).await?;
        Ok(self.engine.list(&filter))
    }

    /// The same, and every change from then on.
    pub(super) async fn watch_leases(
        &self,
        on: &Connection,
        filter: &LeaseFilter,
    ) -> Result<Watch, Failure> {
        let (filter, attestation) = self.filter(on, filter).await?;
        let (present, changes) = self.engine.subscribe(&filter);
        let Filter { keys, prefix, .. } = filter;
        let may_see = move |view: &LeaseView| {
            view.id.as_str().starts_with(&prefix)
                && keys.as_ref().is_none_or(|keys| keys.iter().any(|key| view.is_of(key)))
        };
        let attestor = self.attestor.clone();
        let still = move || -> Checked {
            let (attestor, attestation) = (attestor.clone(), Arc::clone(&attestation));
            Box::pin(async move {
                let checked = attestor.still_there(&attestation).await;
                checked.map_err(|changed| failures::attestation(&changed))
            })
        };
        Ok(Watch { present, changes, may_see: Box::new(may_see), still: Box::new(still) })
    }

    async fn filter(
        &self,
        on: &Connection,
        filter: &LeaseFilter,
    ) -> Result<(Filter, Arc<Attestation>), Failure> {
        let (keys, attestation) = if filter.all {
            (None, self.administer(on, Action::Administer).await?)
        } else {
            let request = RequestId::new(random_array());
            let attestation = self.attest(on, &request, "read", None).await?;
            let key = RequesterKey::of(&attestation.requester);
            let origin = self.origin(&attestation).await;
            (Some(std::iter::once(key).chain(origin).collect()), attestation)
        };
        let filter = Filter { keys, prefix: filter.prefix.clone(), ended: filter.ended };
        Ok((filter, attestation))
    }
}
