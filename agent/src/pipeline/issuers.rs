//! The issuers of a configuration, and those of earlier ones as long as leases
//! may need them.

use super::{InForce, Pipeline, failures, records};
use crate::config::Config;
use crate::connection::Connection;
use crate::delivery::Failure;
use crate::issuer::{Issuer, JwtIssuer, KeyRings, KeySet, Rotation};
use crate::names::IssuerName;
use crate::policy::Action;
use jsi_proto::v1::Reason;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How often it is looked for keys that are due.
const UPKEEP: Duration = Duration::from_secs(60);

/// What issuers are made of, and all that were in force in this run: a lease may
/// outlive the configuration that it was granted under.
pub(super) struct Issuers {
    store: Arc<dyn Issuer>,
    rings: KeyRings,
    known: RwLock<BTreeMap<String, Arc<dyn Issuer>>>,
    /// Something may be due before its time.
    pub(super) due: Notify,
}

/// The issuers of one configuration.
pub(super) struct Configured {
    pub(super) all: BTreeMap<IssuerName, Arc<dyn Issuer>>,
    pub(super) jwt: BTreeMap<IssuerName, Arc<JwtIssuer>>,
}

impl Issuers {
    pub(super) fn new(store: Arc<dyn Issuer>, rings: KeyRings) -> Self {
        Self { store, rings, known: RwLock::default(), due: Notify::new() }
    }

    /// The issuers that a configuration names, and the store. Reads the disk.
    pub(super) fn of(&self, config: &Config) -> Configured {
        let jwt = JwtIssuer::all(config, &self.rings);
        let mut all: BTreeMap<IssuerName, Arc<dyn Issuer>> =
            jwt.iter().map(|(name, issuer)| (name.clone(), Arc::clone(issuer) as _)).collect();
        all.insert(IssuerName::store(), Arc::clone(&self.store));
        Configured { all, jwt }
    }

    /// These are in force from now on. Those of the same name replace earlier ones.
    pub(super) fn adopt(&self, configured: &BTreeMap<IssuerName, Arc<dyn Issuer>>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(configured.iter().map(|(name, issuer)| (name.to_string(), issuer.clone())));
    }

    /// The issuer of that name, for renewal and revocation.
    pub(super) fn find(&self, name: &str) -> Option<Arc<dyn Issuer>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl InForce {
    fn jwt(&self, name: &str) -> Result<&Arc<JwtIssuer>, Failure> {
        let found = self.jwt.iter().find(|(known, _)| known.as_str() == name);
        found.map(|(_, issuer)| issuer).ok_or_else(|| {
            let known: Vec<_> = self.jwt.keys().map(IssuerName::as_str).collect();
            let known = match known.as_slice() {
                [] => "none is configured".to_owned(),
                known => format!("known: {}", known.join(", ")),
            };
            let message = format!("there is no issuer {name:?} of kind jwt; {known}");
            Failure::new(Reason::UnknownIssuer, message).with("field", "issuer")
        })
    }
}

impl Pipeline {
    /// Public keys are for everybody: nothing is asked of who asks.
    pub(super) fn published_keys(&self, name: Option<&str>) -> Result<Vec<KeySet>, Failure> {
        let force = self.in_force();
        let now = self.clock.now().wall;
        let asked: Vec<_> = match name {
            None => force.jwt.values().collect(),
            Some(name) => vec![force.jwt(name)?],
        };
        let sets = asked.into_iter().map(|issuer| issuer.key_set(now));
        sets.collect::<Result<_, _>>().map_err(|error| failures::issuer(&error))
    }

    /// Brings the next signing key of an issuer into use.
    pub(super) async fn rotate_signing_key(
        &self,
        on: &Connection,
        name: &str,
        how: Rotation,
    ) -> Result<KeySet, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let force = self.in_force();
        let issuer = force.jwt(name)?;
        let done = issuer.rotate(how, records::holder(&who)).await;
        done.map_err(|error| failures::issuer(&error))?;
        issuer.key_set(self.clock.now().wall).map_err(|error| failures::issuer(&error))
    }

    /// Does what is due at every issuer; what failed is said by `jsi status` and
    /// tried again.
    pub(super) async fn maintain_issuers(&self) {
        for issuer in self.in_force().jwt.values() {
            // Its keyring keeps why.
            let _ = issuer.maintain().await;
        }
    }

    /// The same each minute, and when it is told to.
    pub(super) async fn keep_issuers(self: Arc<Self>) {
        loop {
            // A suspended host does it late: keys are published ahead of their use.
            let _ = tokio::time::timeout(UPKEEP, self.issuers.due.notified()).await;
            self.maintain_issuers().await;
        }
    }
}
