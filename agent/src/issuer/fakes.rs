//! Fakes of this stage's interfaces, for its own tests and for later stages'.

use super::*;
use crate::memory::Field;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A secret of one field.
pub(crate) fn secret(value: &[u8]) -> Secret {
    let value = SecretBuf::from_slice(value);
    let field = Field { name: "password".into(), sensitive: true, is_default: true, value };
    Secret::new(vec![field]).unwrap()
}

/// Seals nothing, but counts what rests.
#[derive(Clone, Default)]
pub(crate) struct FakeSealing {
    pub(crate) resting: Arc<AtomicUsize>,
    pub(crate) exhausted: Arc<AtomicBool>,
}

struct FakeAtRest {
    name: String,
    bytes: SecretBuf,
    resting: Arc<AtomicUsize>,
}

impl Sealing for FakeSealing {
    fn seal_secret(&self, secret: &Secret) -> Result<Arc<dyn AtRest>, SealingError> {
        if self.exhausted.load(Ordering::SeqCst) {
            return Err(SealingError::Limit("guarded memory is exhausted".into()));
        }
        self.resting.fetch_add(1, Ordering::SeqCst);
        let field = secret.default_field().unwrap();
        Ok(Arc::new(FakeAtRest {
            name: field.name.clone(),
            bytes: SecretBuf::from_slice(field.value.expose()),
            resting: Arc::clone(&self.resting),
        }))
    }
}

impl AtRest for FakeAtRest {
    fn open(&self) -> Result<Secret, SealingError> {
        let value = SecretBuf::from_slice(self.bytes.expose());
        let field = Field { name: self.name.clone(), sensitive: true, is_default: true, value };
        Ok(Secret::new(vec![field]).unwrap())
    }
}

impl Drop for FakeAtRest {
    fn drop(&mut self) {
        self.resting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A handle: its public part, and the secret one.
pub(crate) type Revoked = (BTreeMap<String, String>, Option<Vec<u8>>);

/// Answers revocations as it is told to, and remembers them.
pub(crate) struct FakeIssuer {
    pub(crate) capabilities: Capabilities,
    /// What the next revocations say; empty: success.
    pub(crate) answers: Mutex<Vec<IssuerError>>,
    /// Handles that were revoked, with their sealed part.
    pub(crate) revoked: Mutex<Vec<Revoked>>,
    /// What a renewal grants at most.
    pub(crate) renew_most: Duration,
}

impl FakeIssuer {
    pub(crate) fn dynamic() -> Self {
        Self {
            capabilities: Capabilities {
                kind: "fake",
                class: Class::Dynamic,
                revocation: EarlyRevocation::Exact,
                cleanup: OrphanCleanup::Named,
                renewable: true,
                min_ttl: Duration::ZERO,
                max_ttl: None,
            },
            answers: Mutex::default(),
            revoked: Mutex::default(),
            renew_most: Duration::MAX,
        }
    }
}

impl Issuer for FakeIssuer {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }
    fn issue<'a>(&'a self, _: Order<'a>) -> IssuerFuture<'a, Issued> {
        Box::pin(async { Err(IssuerError::Refused("not here".into())) })
    }
    fn reopen<'a>(&'a self, _: &'a CredentialName) -> IssuerFuture<'a, Secret> {
        Box::pin(async { Err(IssuerError::Refused("minted once".into())) })
    }
    fn renew<'a>(&'a self, _: &'a RevocationHandle, ttl: Duration) -> IssuerFuture<'a, Duration> {
        Box::pin(async move { Ok(ttl.min(self.renew_most)) })
    }
    fn revoke<'a>(&'a self, handle: &'a RevocationHandle) -> IssuerFuture<'a, ()> {
        Box::pin(async move {
            let sealed = handle.sealed.as_ref().map(|bytes| bytes.expose().to_vec());
            self.revoked.lock().unwrap().push((handle.public.clone(), sealed));
            self.answers.lock().unwrap().pop().map_or(Ok(()), Err)
        })
    }
}
