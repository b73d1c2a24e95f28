//! Which credentials there are, and who issues each.

use super::{Capabilities, Class, Issuer};
use crate::config::{Config, Lifetimes};
use crate::names::{CredentialName, IssuerName};
use crate::policy::CredentialFacts;
use crate::store::{Store, StoreError, StoredInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

/// The credentials of one configuration. What configuration does not name is
/// still a credential where the store holds a secret of that name.
pub struct Catalogue {
    configured: BTreeMap<CredentialName, crate::config::CredentialConfig>,
    lifetimes: Lifetimes,
    store: Arc<Store>,
    /// What the store holds, as it was last listed: a request costs no disk.
    stored: RwLock<BTreeMap<CredentialName, StoredInfo>>,
    issuers: BTreeMap<IssuerName, Arc<dyn Issuer>>,
}

/// One credential.
pub struct Entry {
    /// What policy needs to know of it.
    pub facts: CredentialFacts,
    /// What its issuer can do.
    pub capabilities: Capabilities,
    /// The scope keys that its issuer takes for it.
    pub scope_keys: Vec<String>,
    /// Its issuer's name in configuration.
    pub issuer_name: IssuerName,
    /// Who issues it.
    pub issuer: Arc<dyn Issuer>,
}

impl Catalogue {
    /// The credentials of `config`, issued by `issuers`: those that it names, and
    /// the store.
    ///
    /// # Errors
    /// The store's directory cannot be read.
    pub fn new(
        config: &Config,
        store: Arc<Store>,
        issuers: BTreeMap<IssuerName, Arc<dyn Issuer>>,
    ) -> Result<Self, StoreError> {
        let catalogue = Self {
            configured: config.credentials.clone(),
            lifetimes: config.lifetimes,
            store,
            stored: RwLock::default(),
            issuers,
        };
        catalogue.refresh()?;
        Ok(catalogue)
    }

    /// Lists the store anew; to be called after every change of it. Reads the disk.
    ///
    /// # Errors
    /// The store's directory cannot be read.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let listed = self.store.list("")?.into_iter().map(|info| (info.name.clone(), info));
        *self.stored.write().unwrap_or_else(PoisonError::into_inner) = listed.collect();
        Ok(())
    }

    /// The stored secrets of that name or that begin with it, without values.
    #[must_use]
    pub fn stored(&self, prefix: &str) -> Vec<StoredInfo> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.values().filter(|info| info.name.as_str().starts_with(prefix)).cloned().collect()
    }

    /// The issuers by name.
    #[must_use]
    pub fn issuers(&self) -> &BTreeMap<IssuerName, Arc<dyn Issuer>> {
        &self.issuers
    }

    /// The credential of that name.
    #[must_use]
    pub fn find(&self, name: &CredentialName) -> Option<Entry> {
        let configured = self.configured.get(name);
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if configured.is_none() && stored.is_none() {
            return None;
        }
        let issuer_name =
            configured.map_or_else(IssuerName::store, |credential| credential.issuer.clone());
        let issuer = self.issuers.get(&issuer_name).cloned()?;
        let capabilities = issuer.capabilities();
        let (owner, purpose) = match (configured, stored) {
            (Some(credential), _) => (credential.owner.clone(), credential.purpose.clone()),
            (None, Some(info)) => (info.owner, info.purpose),
            (None, None) => return None,
        };
        let class = match capabilities.class {
            Class::Static => "static",
            Class::Dynamic => "dynamic",
        };
        let facts = CredentialFacts {
            name: Some(name.clone()),
            class,
            // The kind: policies speak of what an issuer is, not of how it is called here.
            issuer: capabilities.kind.to_owned(),
            owner,
            purpose,
            lifetimes: configured.map_or(self.lifetimes, |credential| credential.lifetimes),
        };
        let scope_keys = issuer.scope_keys(name);
        Some(Entry { facts, capabilities, scope_keys, issuer_name, issuer })
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> BTreeSet<CredentialName> {
        let stored = self.stored.read().unwrap_or_else(PoisonError::into_inner);
        self.configured.keys().chain(stored.keys()).cloned().collect()
    }
}
