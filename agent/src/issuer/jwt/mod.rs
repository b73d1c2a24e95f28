//! Tokens that the agent signs itself (RFC 7519): minted for each lease, without
//! a server. Nothing can take one back before it expires, and capabilities say
//! so; a rotation that withdraws a key voids all that it signed.

mod claims;
mod jose;
mod key;
mod keyring;
mod keys_file;
mod publish;
mod schedule;
#[cfg(test)]
mod tests;

pub use keyring::Rotation;

use super::{
    Capabilities, Class, EarlyRevocation, Issued, Issuer, IssuerError, IssuerFuture, Order,
    OrphanCleanup, RevocationHandle,
};
use crate::clock::{Clock, WallTime};
use crate::config::{
    Algorithm, Config, CredentialSettings, IssuerConfig, JwtCredential, JwtIssuerConfig,
};
use crate::log::{HolderRecord, Log};
use crate::memory::{Field, Secret, SecretBuf};
use crate::names::{CredentialName, IssuerName};
use crate::store::Store;
use claims::Facts;
use jose::Unsigned;
use keyring::KeyRing;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The scope key that chooses the audience.
const AUDIENCE: &str = "audience";
/// Longest token: many servers take no longer header lines.
const MAX_TOKEN: usize = 8 * 1024;

/// The keys of every issuer of tokens; they outlive reloads.
pub struct KeyRings {
    store: Arc<Store>,
    log: Log,
    clock: Clock,
    rings: Mutex<BTreeMap<IssuerName, Arc<KeyRing>>>,
}

impl KeyRings {
    /// None yet.
    #[must_use]
    pub fn new(store: Arc<Store>, log: Log, clock: Clock) -> Self {
        Self { store, log, clock, rings: Mutex::default() }
    }

    fn ring(&self, name: &IssuerName) -> Arc<KeyRing> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let (store, log) = (Arc::clone(&self.store), self.log.clone());
            Arc::new(KeyRing::open(name.clone(), store, log, self.clock.clone()))
        };
        Arc::clone(rings.entry(name.clone()).or_insert_with(open))
    }
}

/// One issuer of tokens, as one configuration has it.
pub struct JwtIssuer {
    name: IssuerName,
    config: JwtIssuerConfig,
    credentials: BTreeMap<CredentialName, JwtCredential>,
    ring: Arc<KeyRing>,
    host: String,
}

/// An issuer's published keys.
pub struct KeySet {
    /// The issuer's name in configuration.
    pub name: IssuerName,
    /// The `iss` of its tokens.
    pub iss: String,
    /// The key set, as JSON.
    pub jwks: String,
    /// The discovery document, as JSON.
    pub discovery: String,
    /// The keys, in the order in which they sign.
    pub keys: Vec<PublishedKey>,
}

/// A published key.
pub struct PublishedKey {
    /// Its thumbprint.
    pub kid: String,
    /// How it signs.
    pub algorithm: String,
    /// `waiting` (to be published), `next`, `signing` or `old`.
    pub state: &'static str,
    /// When it was made.
    pub created: WallTime,
    /// When it begins, or began, to sign.
    pub signs_from: Option<WallTime>,
    /// When it stops, or stopped, signing.
    pub signs_until: Option<WallTime>,
    /// Until when it is published.
    pub published_until: Option<WallTime>,
}

impl JwtIssuer {
    /// The issuers of tokens of a configuration. Blocks.
    #[must_use]
    pub fn all(config: &Config, rings: &KeyRings) -> BTreeMap<IssuerName, Arc<Self>> {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let host = host.unwrap_or_default();
        let of = |(name, issuer): (&IssuerName, &IssuerConfig)| {
            let IssuerConfig::Jwt(settings) = issuer;
            let own =
                config.credentials.iter().filter(|(_, credential)| credential.issuer == *name);
            let credentials = own.filter_map(|(name, credential)| match &credential.settings {
                CredentialSettings::Jwt(settings) => Some((name.clone(), settings.clone())),
                CredentialSettings::Store => None,
            });
            let issuer = Self {
                name: name.clone(),
                config: settings.clone(),
                credentials: credentials.collect(),
                ring: rings.ring(name),
                host: host.clone(),
            };
            (name.clone(), Arc::new(issuer))
        };
        config.issuers.iter().map(of).collect()
    }

    /// Does what is due: keys are made, published, retired, and files written.
    /// To be called at start, after an unlock, after a reload and each minute.
    ///
    /// # Errors
    /// What could not be done; it is tried again the next time, and
    /// [`JwtIssuer::fault`] says it until then.
    pub async fn maintain(&self) -> Result<(), IssuerError> {
        self.ring.maintain(&self.config).await
    }

    /// Brings the next key into use.
    ///
    /// # Errors
    /// Locked, or what could not be written; what signed before signs on then.
    pub async fn rotate(&self, how: Rotation, by: HolderRecord) -> Result<(), IssuerError> {
        self.ring.rotate(&self.config, how, by).await
    }

    /// What an operator should know of its keys.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.ring.fault()
    }

    /// What everybody may know of its keys; also while the store is locked.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn key_set(&self, now: WallTime) -> Result<KeySet, IssuerError> {
        let schedule = self.ring.schedule()?;
        let signer = schedule.signer(now).map(|key| key.kid.as_str());
        let keys = schedule.keys().iter().map(|key| PublishedKey {
            kid: key.kid.clone(),
            algorithm: key.alg.clone(),
            state: match key.signs_from {
                None => "waiting",
                Some(_) if signer == Some(&key.kid) => "signing",
                Some(from) if from > now => "next",
                Some(_) => "old",
            },
            created: key.created,
            signs_from: key.signs_from,
            signs_until: schedule.signs_until(&key.kid),
            published_until: schedule.published_until(&key.kid),
        });
        Ok(KeySet {
            name: self.name.clone(),
            iss: self.config.iss.clone(),
            jwks: format!("{:#}", self.ring.key_set()?),
            discovery: format!("{:#}", self.ring.discovery(&self.config)?),
            keys: keys.collect(),
        })
    }

    fn settings(&self, name: &CredentialName) -> Result<&JwtCredential, IssuerError> {
        self.credentials.get(name).ok_or_else(|| {
            IssuerError::Refused(format!("{name} is no credential of the issuer {}", self.name))
        })
    }

    /// Everything but times and the token's own ID.
    fn claims(&self, order: &Order<'_>) -> Result<(String, Map<String, Value>), IssuerError> {
        let settings = self.settings(order.permit.credential())?;
        let asked = order.permit.scope().get(AUDIENCE).map(String::as_str);
        let audience = audience(&settings.audiences, asked)?.to_owned();
        let mut claims = claims::claims(settings, &Facts { order, host: &self.host })?;
        claims.insert("iss".to_owned(), json!(self.config.iss));
        claims.insert("aud".to_owned(), json!(audience));
        Ok((audience, claims))
    }

    async fn mint(&self, order: Order<'_>) -> Result<Issued, IssuerError> {
        let (audience, mut claims) = self.claims(&order)?;
        let mark = mark(&claims);
        let now = order.now.wall;
        if self.ring.schedule()?.signer(now).is_none() {
            // The first request of a new issuer may come before its first key.
            self.ring.maintain(&self.config).await?;
        }
        let schedule = self.ring.schedule()?;
        let key = schedule.signer(now).ok_or_else(|| {
            IssuerError::Unavailable(format!("the issuer {} has no key yet", self.name))
        })?;
        let algorithm = key.algorithm().ok_or_else(|| {
            let why = format!("the key {} is of an unknown algorithm", key.kid);
            IssuerError::Keys(self.name.to_string(), why)
        })?;
        // A key that was published for shorter tokens signs no longer ones.
        let ttl = order.ttl.min(key.longest_ttl());
        let issued_at = now.0 / 1_000;
        let expires_at = issued_at + ttl.as_secs();
        let not_before = issued_at.saturating_sub(self.config.backdate.as_secs());
        claims.insert("iat".to_owned(), json!(issued_at));
        claims.insert("nbf".to_owned(), json!(not_before));
        claims.insert("exp".to_owned(), json!(expires_at));
        claims.insert("jti".to_owned(), json!(order.lease.as_str()));
        let unsigned = Unsigned::new(algorithm, &key.kid, &self.config.token_type, &claims);
        if unsigned.message().len() > MAX_TOKEN {
            let len = unsigned.message().len();
            let why = format!(
                "the token would have {len} bytes, more than {MAX_TOKEN}; name fewer claims"
            );
            return Err(IssuerError::Limit(why));
        }
        let pem = self.ring.private(key).await?;
        let token = sign(pem, algorithm, unsigned).await?;
        let expires = WallTime(expires_at * 1_000);
        Ok(Issued {
            secret: secret(token, &audience, expires)?,
            at_rest: None,
            handle: RevocationHandle {
                public: BTreeMap::from([
                    ("kid".to_owned(), key.kid.clone()),
                    ("audience".to_owned(), audience),
                    ("claims".to_owned(), mark),
                ]),
                sealed: None,
            },
            backend_ttl: (ttl < order.ttl).then_some(ttl),
        })
    }
}

impl Issuer for JwtIssuer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "jwt",
            class: Class::Dynamic,
            revocation: EarlyRevocation::None,
            cleanup: OrphanCleanup::NotNeeded,
            renewable: false,
            min_ttl: Duration::from_secs(1),
            max_ttl: Some(self.config.max_ttl),
        }
    }

    fn scope_keys(&self, credential: &CredentialName) -> Vec<String> {
        let own = self.credentials.get(credential).map(|settings| settings.scope.iter().cloned());
        std::iter::once(AUDIENCE.to_owned()).chain(own.into_iter().flatten()).collect()
    }

    fn issue<'a>(&'a self, order: Order<'a>) -> IssuerFuture<'a, Issued> {
        Box::pin(self.mint(order))
    }

    /// The same claims, by a key that is still published.
    fn fits(&self, order: &Order<'_>, held: &BTreeMap<String, String>) -> bool {
        let published =
            |kid: &String| self.ring.schedule().is_ok_and(|schedule| schedule.find(kid).is_some());
        let same = |was: &String| self.claims(order).is_ok_and(|(_, claims)| mark(&claims) == *was);
        held.get("kid").is_some_and(published) && held.get("claims").is_some_and(same)
    }

    fn reopen<'a>(&'a self, _: &'a CredentialName) -> IssuerFuture<'a, Secret> {
        Box::pin(async {
            Err(IssuerError::Refused("a token is delivered once; ask for a new lease".to_owned()))
        })
    }

    fn renew<'a>(&'a self, _: &'a RevocationHandle, _: Duration) -> IssuerFuture<'a, Duration> {
        Box::pin(async {
            Err(IssuerError::Refused(
                "a token has its expiry in it; ask for a new lease".to_owned(),
            ))
        })
    }

    fn revoke<'a>(&'a self, _: &'a RevocationHandle) -> IssuerFuture<'a, ()> {
        // It stays valid until it expires: capabilities say so.
        Box::pin(async { Ok(()) })
    }
}

/// The audience of a token: one of those that the credential allows.
fn audience<'a>(allowed: &'a [String], asked: Option<&str>) -> Result<&'a str, IssuerError> {
    let list = || allowed.join(", ");
    match (asked, allowed) {
        (Some(asked), _) => {
            allowed.iter().find(|one| *one == asked).map(String::as_str).ok_or_else(|| {
                IssuerError::Scope(
                    AUDIENCE,
                    format!("{asked:?} is not allowed; ask for one of {}", list()),
                )
            })
        }
        (None, [one]) => Ok(one),
        (None, _) => Err(IssuerError::Scope(
            AUDIENCE,
            format!("there are several; say --scope audience=… with one of {}", list()),
        )),
    }
}

/// Tells claims from others, without saying them.
fn mark(claims: &Map<String, Value>) -> String {
    let text = serde_json::to_vec(claims).unwrap_or_default();
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    data_encoding::HEXLOWER.encode(&digest.as_ref()[..16])
}

async fn sign(
    pem: SecretBuf,
    algorithm: Algorithm,
    unsigned: Unsigned,
) -> Result<SecretBuf, IssuerError> {
    let work = move || {
        let signature = key::sign(&pem, algorithm, unsigned.message());
        signature.map(|signature| unsigned.signed(&zeroize::Zeroizing::new(signature)))
    };
    let signed = match algorithm {
        // Some ten microseconds: less than a turn through the blocking pool.
        Algorithm::EdDsa | Algorithm::Es256 => work(),
        Algorithm::Rs256 => tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| IssuerError::Unavailable(format!("signing was cut off: {error}")))?,
    };
    signed.map_err(IssuerError::Unavailable)
}

fn secret(token: SecretBuf, audience: &str, expires: WallTime) -> Result<Secret, IssuerError> {
    let open = |name: &str, value: &str| Field {
        name: name.to_owned(),
        sensitive: false,
        is_default: false,
        value: SecretBuf::from_slice(value.as_bytes()),
    };
    let token = Field { name: "token".to_owned(), sensitive: true, is_default: true, value: token };
    let fields = vec![token, open("expires_at", &expires.rfc3339()), open("audience", audience)];
    Secret::new(fields).map_err(|error| IssuerError::Limit(error.to_string()))
}
