//! What operators ask: secrets, revocation, explanation, lock, reload, status.

use super::{InForce, Pipeline, Wanted, failures, records};
use crate::attestation::Attestation;
use crate::connection::{Channel, Connection};
use crate::delivery::{Explained, Failure, NewSecret, Reloaded};
use crate::lease::{LeaseView, Selector};
use crate::log::Event;
use crate::memory::random_array;
use crate::mutants::{Check, on as checked};
use crate::names::{CredentialName, RequestId};
use crate::policy::{Action, CredentialFacts};
use crate::store::{StoreError, StoredInfo};
use jsi_proto::v1::Reason;
use std::sync::{Arc, PoisonError};

impl Pipeline {
    /// Who asks, if they may administer: on the admin socket, and not forbidden.
    pub(super) async fn administer(
        &self,
        on: &Connection,
        action: Action,
    ) -> Result<Arc<Attestation>, Failure> {
        if checked(Check::AdminChannel) && on.channel != Channel::Admin {
            return Err(Failure::new(
                Reason::AdminOnly,
                "this call belongs to the admin socket (JSI_ADMIN_SOCK; beside the agent socket)",
            ));
        }
        let request = RequestId::new(random_array());
        let attestation = self.attest(on, &request, action.name(), None).await?;
        let force = self.in_force();
        let wanted = Wanted::plain(action, None);
        let facts = CredentialFacts::agent();
        self.decide(&force, on, &attestation, &request, &facts, &wanted)?;
        Ok(attestation)
    }

    pub(super) async fn store_secret(
        &self,
        on: &Connection,
        new: NewSecret,
    ) -> Result<(StoredInfo, bool), Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let NewSecret { name, owner, purpose, replace, secret } = new;
        self.locking.used(self.clock.now().boot);
        let now = self.clock.now().wall;
        let (to, by) = (name.clone(), owner.clone());
        let replaced = self
            .with_store(move |store| store.put(&to, &by, &purpose, secret, replace, now))
            .await?;
        if replaced {
            self.engine.rotated(&name);
        }
        let stored = self.refresh_and_find(&name).await?;
        self.record(Event::SecretPut {
            name: name.to_string(),
            owner,
            replaced,
            by: records::holder(&who),
        })
        .await?;
        Ok((stored, replaced))
    }

    pub(super) async fn drop_secret(
        &self,
        on: &Connection,
        name: &CredentialName,
    ) -> Result<usize, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let gone = name.clone();
        self.with_store(move |store| store.remove(&gone)).await?;
        self.refresh().await?;
        let leases = Selector { credential: Some(name.clone()), ..Selector::default() };
        let ended = self.engine.revoke(&leases).len();
        let by = records::holder(&who);
        self.record(Event::SecretRemoved { name: name.to_string(), by }).await?;
        Ok(ended)
    }

    pub(super) async fn stored_secrets(
        &self,
        on: &Connection,
        prefix: &str,
    ) -> Result<Vec<StoredInfo>, Failure> {
        self.administer(on, Action::Administer).await?;
        self.refresh().await?;
        Ok(self.in_force().catalogue.stored(prefix))
    }

    pub(super) async fn revoke_leases(
        &self,
        on: &Connection,
        which: &Selector,
        note: &str,
    ) -> Result<Vec<LeaseView>, Failure> {
        let who = self.administer(on, Action::Revoke).await?;
        let ended = self.engine.revoke(which);
        let detail = format!("{} leases by {}: {note}", ended.len(), selector_text(which));
        self.record_admin("revoke", detail, Some(&who)).await?;
        Ok(ended)
    }

    pub(super) async fn explain_request(
        &self,
        on: &Connection,
        request: &RequestId,
    ) -> Result<Explained, Failure> {
        self.administer(on, Action::Administer).await?;
        self.decisions.find(request).ok_or_else(|| {
            Failure::new(
                Reason::InvalidField,
                format!("no decision {request:.40} is remembered; `jsi audit show` reads the log"),
            )
            .with("field", "request_id")
        })
    }

    pub(super) async fn reload_agent(&self, on: &Connection) -> Result<Reloaded, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        self.reload_in_force(Some(&who)).await
    }

    /// Reads configuration and policy again; what is invalid replaces nothing.
    pub(super) async fn reload_in_force(
        &self,
        by: Option<&Attestation>,
    ) -> Result<Reloaded, Failure> {
        let invalid = |why: String| {
            Failure::new(Reason::InvalidConfiguration, format!("{why}; nothing changed"))
        };
        let settings = self.about.settings.clone();
        let store = Arc::clone(&self.store);
        let issuers = Arc::clone(&self.issuers);
        let loaded = tokio::task::spawn_blocking(move || {
            let config = settings.load().map_err(|error| failures::whole(&error))?;
            InForce::load(config, store, &issuers).map_err(|error| failures::whole(&error))
        })
        .await;
        let next = match loaded {
            Ok(Ok(next)) => next,
            Ok(Err(why)) => {
                self.record_admin("reload refused", why.clone(), by).await?;
                return Err(invalid(why));
            }
            Err(broken) => return Err(Failure::new(Reason::Internal, broken.to_string())),
        };
        let mut warnings = next.policies.warnings().to_vec();
        let old = self.in_force();
        warnings.extend(self.about.needs_restart(&old.config, &next.config));
        self.attestor.reload().await.map_err(invalid)?;
        let reloaded = Reloaded {
            policies: next.policies.len(),
            credentials: next.catalogue.names().len(),
            warnings,
        };
        self.issuers.adopt(next.catalogue.issuers());
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.maintain_issuers().await;
        self.locking.changed();
        let detail = format!("{} policies", reloaded.policies);
        self.record_admin("reload", detail, by).await?;
        Ok(reloaded)
    }

    pub(super) async fn record_admin(
        &self,
        act: &str,
        detail: String,
        by: Option<&Attestation>,
    ) -> Result<(), Failure> {
        let by = by.map(records::holder);
        self.record(Event::Admin { act: act.to_owned(), detail, by }).await
    }

    pub(super) async fn record(&self, event: Event) -> Result<(), Failure> {
        self.log.append(event).await.map_err(|error| failures::log(&error))
    }

    pub(super) async fn refresh(&self) -> Result<(), Failure> {
        let force = self.in_force();
        blocking(move || force.catalogue.refresh()).await
    }

    async fn refresh_and_find(&self, name: &CredentialName) -> Result<StoredInfo, Failure> {
        self.refresh().await?;
        let found = self.in_force().catalogue.stored(name.as_str());
        found
            .into_iter()
            .find(|info| info.name == *name)
            .ok_or_else(|| Failure::new(Reason::Internal, "the secret was not stored"))
    }

    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&crate::store::Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failures::store(&error)),
        Err(broken) => Err(Failure::new(Reason::Internal, broken.to_string())),
    }
}

fn selector_text(which: &Selector) -> String {
    let mut parts = Vec::new();
    if !which.prefix.is_empty() {
        parts.push(format!("prefix {}", which.prefix));
    }
    parts.extend(which.digest.iter().map(|digest| format!("digest {digest}")));
    parts.extend(which.uid.iter().map(|uid| format!("uid {uid}")));
    parts.extend(which.unit.iter().map(|unit| format!("unit {unit}")));
    parts.extend(which.container.iter().map(|container| format!("container {container}")));
    if which.all {
        parts.push("all".to_owned());
    }
    parts.join(", ")
}
