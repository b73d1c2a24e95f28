//! An issuer over a real store, a real log and a clock that is moved by hand.

mod minting;
mod rotation;
mod schedule;
mod templates;

use super::super::{Issued, Issuer, IssuerError, Order};
use super::{JwtIssuer, KeyRings, Rotation};
use crate::clock::{Clock, Moment};
use crate::config::{Algorithm, ClaimTemplate, JwtCredential, JwtIssuerConfig, Template};
use crate::log::{HolderRecord, Log};
use crate::memory::{Guard, Shield};
use crate::names::{CredentialName, IssuerName, LeaseId};
use crate::policy::testing::{Ask, policies};
use crate::policy::{Decision, Permit};
use crate::store::{NewIdentity, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
/// 2026-11-22.
const START: u64 = 1_795_359_600_250;

/// A store, a log and a clock.
struct Bench {
    place: tempfile::TempDir,
    millis: Arc<AtomicU64>,
    store: Arc<Store>,
    log: Log,
    clock: Clock,
}

impl Bench {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        NewIdentity::generate().write(&place.path().join("identity"), None, None).unwrap();
        Self::in_place(place, Arc::new(AtomicU64::new(START)))
    }

    fn in_place(place: tempfile::TempDir, millis: Arc<AtomicU64>) -> Self {
        let at = place.path();
        let store = Store::open(&at.join("store"), &at.join("identity")).unwrap();
        let shield = Arc::new(Shield::new(&Guard::new().unwrap()).unwrap());
        let store = Arc::new(store.with_shield(shield).unwrap());
        let clock = Clock::manual(Arc::clone(&millis));
        let (log, _) = Log::open(&at.join("log"), clock.clone(), None, 1 << 26).unwrap();
        Self { place, millis, store, log, clock }
    }

    /// The same after a crash: nothing but what lies on disk.
    fn again(self) -> Self {
        let Self { place, millis, store, log, clock } = self;
        drop((store, log, clock));
        Self::in_place(place, millis)
    }

    fn pass(&self, span: Duration) {
        self.millis.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn issuer(&self, config: JwtIssuerConfig, credential: JwtCredential) -> JwtIssuer {
        let rings = KeyRings::new(Arc::clone(&self.store), self.log.clone(), self.clock.clone());
        let name = IssuerName::new("internal").unwrap();
        JwtIssuer {
            ring: rings.ring(&name),
            name,
            config,
            credentials: BTreeMap::from([(svc(), credential)]),
            host: "build-7".to_owned(),
        }
    }

    /// With the defaults of both.
    fn plain(&self) -> JwtIssuer {
        self.issuer(config(), credential(&["https://api"]))
    }

    async fn mint(&self, issuer: &JwtIssuer, ask: &Ask) -> Result<Issued, IssuerError> {
        let permit = permit(ask);
        issuer.issue(order(&permit, &lease(1), ask, self.now())).await
    }

    /// The claims of a token for psql, and its header.
    async fn token(&self, issuer: &JwtIssuer) -> (Value, Value, String) {
        let issued = self.mint(issuer, &ask()).await.map_err(|e| e.to_string()).unwrap();
        read(&issued)
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("store/_jwt/internal")
    }
}

fn svc() -> CredentialName {
    CredentialName::new("svc/api").unwrap()
}

fn ask() -> Ask {
    let mut ask = Ask::psql("svc/api");
    ask.facts.issuer = "jwt".to_owned();
    ask.facts.class = "dynamic";
    ask
}

fn lease(number: u8) -> LeaseId {
    LeaseId::new(&svc(), [number; 16])
}

fn permit(ask: &Ask) -> Permit {
    match ask.of(&policies("permit(principal, action, resource);")) {
        Decision::Permit(permit, _) => *permit,
        Decision::Deny(denial) => panic!("{denial:?}"),
    }
}

fn order<'a>(permit: &'a Permit, lease: &'a LeaseId, ask: &'a Ask, now: Moment) -> Order<'a> {
    let (attestation, target) = (&ask.attestation, ask.target.as_ref());
    Order { permit, lease, attestation, target, ttl: HOUR / 4, now }
}

fn config() -> JwtIssuerConfig {
    JwtIssuerConfig {
        iss: "https://jsi.example.org".to_owned(),
        algorithm: Algorithm::EdDsa,
        rsa_bits: 2048,
        token_type: "JWT".to_owned(),
        max_ttl: HOUR,
        backdate: Duration::ZERO,
        rotate_after: None,
        publish_ahead: HOUR * 2,
        jwks_file: None,
        discovery_file: None,
        jwks_uri: "https://jsi.example.org/.well-known/jwks.json".to_owned(),
    }
}

fn credential(audiences: &[&str]) -> JwtCredential {
    let scope = BTreeSet::from(["role".to_owned()]);
    JwtCredential {
        audiences: audiences.iter().map(ToString::to_string).collect(),
        subject: Template::parse("uid:{{requester.uid}}", &scope).unwrap(),
        claims: BTreeMap::new(),
        scope,
    }
}

fn claiming(text: &str) -> JwtCredential {
    let mut credential = credential(&["https://api"]);
    let template = Template::parse(text, &credential.scope).unwrap();
    credential.claims.insert("it".to_owned(), ClaimTemplate::Text(template));
    credential
}

/// Claims and header of what was issued, and the token itself.
fn read(issued: &Issued) -> (Value, Value, String) {
    let token = issued.secret.default_field().unwrap();
    assert!(token.sensitive && token.name == "token");
    let token = std::str::from_utf8(token.value.expose()).unwrap().to_owned();
    let parts: Vec<_> = token.split('.').collect();
    let part = |at: usize| {
        let bytes = data_encoding::BASE64URL_NOPAD.decode(parts[at].as_bytes()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    (part(1), part(0), token.clone())
}

/// The kids of the key set, in order.
fn published(issuer: &JwtIssuer) -> Vec<String> {
    let set = issuer.ring.key_set().map_err(|e| e.to_string()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().into()).collect()
}

fn operator() -> HolderRecord {
    HolderRecord {
        pid: 1,
        start_time: 1,
        uid: 0,
        gid: 0,
        exe: None,
        digest: None,
        unit: None,
        invocation: None,
        container: None,
        container_runtime: None,
        pod: None,
        lsm: None,
        assurance: 1,
        assurance_with_jit: None,
        missed: Vec::new(),
        caller: None,
        target: None,
    }
}

const NOW: Rotation = Rotation { now: true, withdraw: false };
const WITHDRAW: Rotation = Rotation { now: false, withdraw: true };
