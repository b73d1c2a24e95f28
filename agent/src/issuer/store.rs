//! The embedded store as an issuer: static secrets, and honest about it.
//!
//! Decrypting an age file costs some 130 µs, so while a lease on a secret lives
//! the next lease shares what that one holds shielded. This issuer itself holds
//! weak references only: with the last lease the cache is gone, and the store
//! keeps no plaintext between leases.

use super::{
    AtRest, Capabilities, Class, EarlyRevocation, Issued, Issuer, IssuerError, IssuerFuture, Order,
    OrphanCleanup, RevocationHandle, Sealing, SealingError,
};
use crate::memory::Secret;
use crate::names::CredentialName;
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Where stored secrets are read: the embedded store, or a fake of it. Calls may block.
pub trait SecretSource: Send + Sync + 'static {
    /// Changes whenever another secret is put under that name: a generation
    /// counter, or the file's ctime and inode. Cheap. Two of them that are equal
    /// name the same bytes.
    ///
    /// # Errors
    /// Locked or missing.
    fn version(&self, name: &CredentialName) -> Result<u128, SourceError>;
    /// Decrypts the secret.
    ///
    /// # Errors
    /// Locked, missing or damaged.
    fn read(&self, name: &CredentialName) -> Result<Secret, SourceError>;
}

/// Why a stored secret cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The identity is locked.
    #[error("the secret store is locked")]
    Locked,
    /// There is none of that name.
    #[error("no such secret is stored")]
    Missing,
    /// Cut short, tampered with, or under another identity.
    #[error("{0}")]
    Damaged(String),
    /// The identity's plugin opened nothing.
    #[error("{0}")]
    Unavailable(String),
}

impl SecretSource for Store {
    fn version(&self, name: &CredentialName) -> Result<u128, SourceError> {
        Self::version(self, name).map_err(SourceError::from)
    }
    fn read(&self, name: &CredentialName) -> Result<Secret, SourceError> {
        Self::read(self, name).map_err(SourceError::from)
    }
}

impl From<StoreError> for SourceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked => Self::Locked,
            StoreError::Missing(_) => Self::Missing,
            StoreError::Helper(why) => Self::Unavailable(why),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Issues what the embedded store holds.
pub struct StoreIssuer {
    shared: Arc<Shared>,
}

struct Shared {
    source: Arc<dyn SecretSource>,
    sealing: Arc<dyn Sealing>,
    resting: Mutex<HashMap<CredentialName, Resting>>,
}

/// What leases hold of one stored secret.
struct Resting {
    version: u128,
    secret: Weak<dyn AtRest>,
}

impl StoreIssuer {
    /// Its kind, as configuration and log name it.
    pub const KIND: &'static str = "store";

    /// An issuer over that store; what live leases share is shielded by `sealing`.
    #[must_use]
    pub fn new(source: Arc<dyn SecretSource>, sealing: Arc<dyn Sealing>) -> Self {
        Self { shared: Arc::new(Shared { source, sealing, resting: Mutex::default() }) }
    }
}

impl Issuer for StoreIssuer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: Self::KIND,
            class: Class::Static,
            revocation: EarlyRevocation::None,
            cleanup: OrphanCleanup::NotNeeded,
            renewable: true,
            min_ttl: Duration::ZERO,
            max_ttl: None,
        }
    }

    fn issue<'a>(&'a self, order: Order<'a>) -> IssuerFuture<'a, Issued> {
        Box::pin(async move {
            let name = order.permit.credential().clone();
            self.open(name).await
        })
    }

    fn reopen<'a>(&'a self, credential: &'a CredentialName) -> IssuerFuture<'a, Secret> {
        Box::pin(async move { Ok(self.open(credential.clone()).await?.secret) })
    }

    fn renew<'a>(&'a self, _: &'a RevocationHandle, ttl: Duration) -> IssuerFuture<'a, Duration> {
        // Only the lease has a lifetime; the secret has none.
        Box::pin(async move { Ok(ttl) })
    }

    fn revoke<'a>(&'a self, _: &'a RevocationHandle) -> IssuerFuture<'a, ()> {
        // A stored secret lives on at its backend: capabilities say so.
        Box::pin(async move { Ok(()) })
    }
}

impl StoreIssuer {
    async fn open(&self, name: CredentialName) -> Result<Issued, IssuerError> {
        let version = self.shared.source.version(&name).map_err(|error| explain(&name, error))?;
        let (secret, at_rest) = match self.shared.resting(&name, version) {
            // Some microseconds: less than a turn through the blocking pool.
            Some(at_rest) => (at_rest.open().map_err(exhausted)?, at_rest),
            None => {
                let shared = Arc::clone(&self.shared);
                let work = tokio::task::spawn_blocking(move || shared.decrypt(&name, version));
                work.await.map_err(|error| {
                    IssuerError::Unavailable(format!("reading was cut off: {error}"))
                })??
            }
        };
        Ok(Issued {
            secret,
            at_rest: Some(at_rest),
            handle: RevocationHandle { public: BTreeMap::new(), sealed: None },
            backend_ttl: None,
        })
    }
}

impl Shared {
    /// `version` was read before the bytes: a put in between makes the next
    /// request read anew, and never lets old bytes pass for new ones.
    fn decrypt(
        &self,
        name: &CredentialName,
        version: u128,
    ) -> Result<(Secret, Arc<dyn AtRest>), IssuerError> {
        let secret = self.source.read(name).map_err(|error| explain(name, error))?;
        let resting = self.sealing.seal_secret(&secret).map_err(exhausted)?;
        let mut held = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, entry| entry.secret.strong_count() > 0);
        held.insert(name.clone(), Resting { version, secret: Arc::downgrade(&resting) });
        Ok((secret, resting))
    }

    /// What live leases share, where it is still what is stored.
    fn resting(&self, name: &CredentialName, version: u128) -> Option<Arc<dyn AtRest>> {
        let held = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(name).filter(|entry| entry.version == version)?.secret.upgrade()
    }
}

fn explain(name: &CredentialName, error: SourceError) -> IssuerError {
    match error {
        SourceError::Locked => IssuerError::Locked,
        SourceError::Missing => IssuerError::Missing(name.clone()),
        SourceError::Damaged(why) => IssuerError::Damaged(name.clone(), why),
        SourceError::Unavailable(why) => IssuerError::Unavailable(why),
    }
}

fn exhausted(error: SealingError) -> IssuerError {
    IssuerError::Limit(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::fakes::{FakeSealing, secret};
    use super::*;
    use crate::clock::WallTime;
    use crate::memory::{Guard, Shield};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct FakeSource {
        stored: Mutex<Option<(u128, Vec<u8>)>>,
        fault: Mutex<Option<SourceError>>,
        reads: AtomicUsize,
    }

    impl SecretSource for FakeSource {
        fn version(&self, _: &CredentialName) -> Result<u128, SourceError> {
            match &*self.fault.lock().unwrap() {
                Some(SourceError::Damaged(_)) | None => {}
                Some(fault) => return Err(fault.clone()),
            }
            self.stored.lock().unwrap().as_ref().map(|s| s.0).ok_or(SourceError::Missing)
        }
        fn read(&self, _: &CredentialName) -> Result<Secret, SourceError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            if let Some(fault) = &*self.fault.lock().unwrap() {
                return Err(fault.clone());
            }
            let stored = self.stored.lock().unwrap();
            stored.as_ref().map(|s| secret(&s.1)).ok_or(SourceError::Missing)
        }
    }

    fn setup() -> (Arc<FakeSource>, FakeSealing, StoreIssuer, CredentialName) {
        let source = Arc::new(FakeSource::default());
        *source.stored.lock().unwrap() = Some((1, b"one".to_vec()));
        let sealing = FakeSealing::default();
        let issuer = StoreIssuer::new(Arc::clone(&source) as _, Arc::new(sealing.clone()));
        (source, sealing, issuer, CredentialName::new("db/orders").unwrap())
    }

    #[tokio::test]
    async fn leases_on_one_stored_secret_share_what_rests() {
        let (source, sealing, issuer, name) = setup();
        let first = issuer.open(name.clone()).await.unwrap();
        let second = issuer.open(name.clone()).await.unwrap();
        assert_eq!(source.reads.load(Ordering::SeqCst), 1);
        assert_eq!(sealing.resting.load(Ordering::SeqCst), 1);
        assert_eq!(second.secret.default_field().unwrap().value.expose(), b"one");
        drop((first, second));
    }

    #[tokio::test]
    async fn nothing_rests_once_the_last_lease_is_gone() {
        let (source, sealing, issuer, name) = setup();
        drop(issuer.open(name.clone()).await.unwrap());
        assert_eq!(sealing.resting.load(Ordering::SeqCst), 0);
        drop(issuer.open(name).await.unwrap());
        assert_eq!(source.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_replaced_secret_is_not_answered_with_the_old_one() {
        let (source, _, issuer, name) = setup();
        let old = issuer.open(name.clone()).await.unwrap();
        *source.stored.lock().unwrap() = Some((2, b"two".to_vec()));
        let new = issuer.open(name.clone()).await.unwrap();
        assert_eq!(new.secret.default_field().unwrap().value.expose(), b"two");
        drop(old);
        let reopened = issuer.reopen(&name).await.unwrap();
        assert_eq!(reopened.default_field().unwrap().value.expose(), b"two");
        assert_eq!(source.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_real_store_and_shield_agree_with_the_fakes() {
        let place = tempfile::tempdir().unwrap();
        let identity = place.path().join("identity");
        crate::store::NewIdentity::generate().write(&identity, None, None).unwrap();
        let store = Arc::new(Store::open(&place.path().join("store"), &identity).unwrap());
        let shield = Arc::new(Shield::new(&Guard::new().unwrap()).unwrap());
        let issuer = StoreIssuer::new(Arc::clone(&store) as _, Arc::new(shield));
        let name = CredentialName::new("db/orders").unwrap();
        assert!(matches!(issuer.open(name.clone()).await, Err(IssuerError::Missing(_))));
        let put = |value: &[u8]| {
            store.put(&name, "me", "test", secret(value), true, WallTime(1)).unwrap();
        };
        put(b"one");
        let first = issuer.open(name.clone()).await.unwrap();
        let second = issuer.open(name.clone()).await.unwrap();
        assert!(Arc::ptr_eq(&first.at_rest.unwrap(), &second.at_rest.clone().unwrap()));
        put(b"two");
        let third = issuer.open(name.clone()).await.unwrap();
        assert_eq!(third.secret.default_field().unwrap().value.expose(), b"two");
        store.lock();
        assert!(matches!(issuer.open(name).await, Err(IssuerError::Locked)));
    }

    #[tokio::test]
    async fn a_locked_missing_or_damaged_secret_is_not_issued() {
        let (source, _, issuer, name) = setup();
        let held = issuer.open(name.clone()).await.unwrap();
        *source.fault.lock().unwrap() = Some(SourceError::Locked);
        assert!(matches!(issuer.open(name.clone()).await, Err(IssuerError::Locked)));
        drop(held);
        *source.fault.lock().unwrap() = Some(SourceError::Missing);
        assert!(matches!(issuer.open(name.clone()).await, Err(IssuerError::Missing(_))));
        *source.fault.lock().unwrap() = Some(SourceError::Damaged("cut short".into()));
        assert!(matches!(issuer.open(name).await, Err(IssuerError::Damaged(..))));
    }
}
