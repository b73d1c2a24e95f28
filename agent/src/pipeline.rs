//! The composition root: the way of a request, stage by stage, and the only
//! place that imports every stage.

mod archives;
mod binding;
mod deciding;
mod decisions;
mod denials;
mod failures;
mod granting;
mod issuers;
mod leases;
mod locking;
mod operate;
mod records;
mod refusals;
mod secrets;
mod serving;
mod start;
mod status;
mod stop;
mod supposing;

pub use start::{RunError, run};

use crate::approval;
use crate::attestation::{Attestation, Attestor};
use crate::clock::{Clock, Moment};
use crate::config::Config;
use crate::connection::Connection;
use crate::delivery::{Ask, Delivered, Failure};
use crate::issuer::{Catalogue, Entry, JwtIssuer};
use crate::lease::Engine;
use crate::log::Log;
use crate::memory::random_array;
use crate::names::{CredentialName, IssuerName, RequestId};
use crate::policy::{Action, BindingKind, Delivery, Policies, Question, Target};
use crate::store::Store;
use decisions::Decisions;
use denials::Denials;
use jsi_proto::v1::Reason;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What a reload replaces, all of it or nothing.
struct InForce {
    config: Config,
    policies: Policies,
    catalogue: Catalogue,
    /// The issuers of tokens among those of the catalogue.
    jwt: BTreeMap<IssuerName, Arc<JwtIssuer>>,
}

/// The agent, put together.
struct Pipeline {
    clock: Clock,
    attestor: Attestor,
    engine: Arc<Engine>,
    log: Log,
    store: Arc<Store>,
    issuers: Arc<issuers::Issuers>,
    in_force: RwLock<Arc<InForce>>,
    decisions: Decisions,
    denials: Arc<Denials>,
    about: status::About,
    locking: locking::Locking,
    /// One backup, restore or export at a time.
    bulk: Arc<Semaphore>,
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
        let ask = self.with_target_seen(on, &attestation, &request, ask).await?;
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
        let (lease, secret, reused) = match self.held(&ask, permit, &entry, &attestation, &binding)
        {
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
        self.locking.used(self.clock.now().boot);
        Ok(Delivered { lease, secret, request, reused })
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Refuses a scope key that the issuer does not take.
fn known_scope(entry: &Entry, scope: &BTreeMap<String, String>) -> Result<(), Failure> {
    let known = &entry.scope_keys;
    let Some(key) = scope.keys().find(|key| !known.contains(key)) else {
        return Ok(());
    };
    let takes = match known.as_slice() {
        [] => "its issuer takes none".to_owned(),
        known => format!("its issuer takes {}", known.join(", ")),
    };
    let message =
        format!("scope: {key:?} is not known to the issuer {}; {takes}", entry.facts.issuer);
    Err(Failure::new(Reason::UnknownScope, message).with("field", "scope"))
}
