//! Tokens: what stands in them, and when there is none.

use super::*;
use crate::issuer::EarlyRevocation;

#[tokio::test]
async fn a_token_says_who_asked_and_ends_no_later_than_its_lease() {
    let bench = Bench::new();
    let issuer = bench.plain();
    let (claims, header, _) = bench.token(&issuer).await;
    let seconds = START / 1_000;
    assert_eq!(claims["iss"], "https://jsi.example.org");
    assert_eq!(claims["sub"], "uid:1000");
    assert_eq!(claims["aud"], "https://api");
    assert_eq!(claims["jti"], lease(1).as_str());
    assert_eq!((&claims["iat"], &claims["nbf"]), (&seconds.into(), &seconds.into()));
    assert_eq!(claims["exp"], seconds + 900);
    assert!((seconds + 900) * 1_000 <= START + 900_000, "never later than the lease");
    assert_eq!(header["typ"], "JWT");
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(header["kid"], published(&issuer)[0].as_str());
}

#[tokio::test]
async fn what_it_can_do_is_said_honestly() {
    let bench = Bench::new();
    let issuer = bench.plain();
    let capabilities = issuer.capabilities();
    assert_eq!(capabilities.revocation, EarlyRevocation::None);
    assert!(!capabilities.renewable);
    assert_eq!(capabilities.max_ttl, Some(HOUR));
    assert_eq!(issuer.scope_keys(&svc()), ["audience", "role"]);
    assert!(issuer.reopen(&svc()).await.is_err());
}

#[tokio::test]
async fn type_and_backdate_are_as_configured() {
    let bench = Bench::new();
    let config = JwtIssuerConfig {
        token_type: "at+jwt".to_owned(),
        backdate: Duration::from_secs(30),
        ..config()
    };
    let issuer = bench.issuer(config, credential(&["a"]));
    let (claims, header, _) = bench.token(&issuer).await;
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(claims["iat"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 30);
}

#[tokio::test]
async fn the_audience_is_one_that_is_allowed() {
    let bench = Bench::new();
    let issuer = bench.issuer(config(), credential(&["a", "b"]));
    let audience = |asked: Option<&str>| {
        let mut ask = ask();
        ask.scope.extend(asked.map(|asked| ("audience".to_owned(), asked.to_owned())));
        ask
    };
    for (asked, says) in [(None, "a, b"), (Some("c"), "a, b"), (Some(""), "a, b"), (Some("A"), "")]
    {
        match bench.mint(&issuer, &audience(asked)).await {
            Err(IssuerError::Scope("audience", why)) => assert!(why.contains(says), "{why}"),
            _ => panic!("{asked:?} must be refused"),
        }
    }
    let issued =
        bench.mint(&issuer, &audience(Some("b"))).await.map_err(|e| e.to_string()).unwrap();
    assert_eq!(read(&issued).0["aud"], "b");
    let field = issued.secret.field("audience").unwrap();
    assert!(!field.sensitive && field.value.expose() == b"b");
}

#[tokio::test]
async fn a_token_that_is_too_long_is_not_made() {
    let bench = Bench::new();
    let mut credential = claiming("{{scope.role}}");
    let long = ClaimTemplate::Text(Template::parse(&"x".repeat(500), &BTreeSet::new()).unwrap());
    credential.claims.extend((0..16).map(|n| (format!("c{n}"), long.clone())));
    let issuer = bench.issuer(config(), credential);
    let mut ask = ask();
    ask.scope.insert("role".to_owned(), "r".to_owned());
    assert!(matches!(bench.mint(&issuer, &ask).await, Err(IssuerError::Limit(_))));
}

#[tokio::test]
async fn a_locked_store_mints_nothing_and_still_shows_its_keys() {
    let bench = Bench::new();
    let issuer = bench.plain();
    bench.token(&issuer).await;
    let before = published(&issuer);
    bench.store.lock();
    assert!(matches!(bench.mint(&issuer, &ask()).await, Err(IssuerError::Locked)));
    assert!(matches!(issuer.rotate(NOW, operator()).await, Err(IssuerError::Locked)));
    assert_eq!(published(&issuer), before);
    bench.store.unlock(&crate::memory::SecretBuf::from_slice(b"")).unwrap();
    bench.token(&issuer).await;
}

#[tokio::test]
async fn an_issuer_that_starts_locked_makes_its_first_key_once_it_is_open() {
    let bench = Bench::new();
    bench.store.lock();
    let issuer = bench.plain();
    assert!(matches!(issuer.maintain().await, Err(IssuerError::Locked)));
    assert!(matches!(bench.mint(&issuer, &ask()).await, Err(IssuerError::Locked)));
    assert!(published(&issuer).is_empty());
    assert!(issuer.fault().is_none(), "jsi status says that it is locked");
    bench.store.unlock(&crate::memory::SecretBuf::from_slice(b"")).unwrap();
    bench.token(&issuer).await;
}

#[tokio::test]
async fn what_was_minted_fits_until_a_claim_or_the_key_is_another() {
    let bench = Bench::new();
    let issuer = bench.issuer(config(), claiming("{{assurance}} of {{lease}}"));
    let issued = bench.mint(&issuer, &ask()).await.map_err(|e| e.to_string()).unwrap();
    let held = issued.handle.public;
    let fits = |ask: &Ask, number| {
        let permit = permit(ask);
        issuer.fits(&order(&permit, &lease(number), ask, bench.now()), &held)
    };
    assert!(fits(&ask(), 1));
    assert!(!fits(&ask(), 2), "it names another lease");
    let mut lower = ask();
    lower.attestation.assurance = crate::attestation::Assurance::Uid;
    assert!(!fits(&lower, 1));
    issuer.rotate(NOW, operator()).await.map_err(|e| e.to_string()).unwrap();
    assert!(fits(&ask(), 1), "the old key is still published");
    issuer.rotate(WITHDRAW, operator()).await.map_err(|e| e.to_string()).unwrap();
    assert!(!fits(&ask(), 1), "nobody would believe it");
}

/// Each damage, and what is said of it.
#[tokio::test]
async fn damaged_keys_sign_nothing_and_the_message_says_what_to_do() {
    type Harm = fn(&std::path::Path, &str);
    let cases: [(Harm, &str); 6] = [
        (|dir, kid| std::fs::remove_file(dir.join(format!("{kid}.age"))).unwrap(), "it is missing"),
        (|dir, kid| std::fs::write(dir.join(format!("{kid}.age")), b"").unwrap(), "does not open"),
        (|dir, _| std::fs::remove_file(dir.join("keys.json")).unwrap(), "keys.json is missing"),
        (|dir, _| std::fs::write(dir.join("keys.json"), b"{}").unwrap(), "malformed"),
        (
            |dir, _| {
                let path = dir.join("keys.json");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text.replace("\"x\": \"", "\"x\": \"A")).unwrap();
            },
            "was altered",
        ),
        (
            |dir, _| {
                let path = dir.join("keys.json");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text.replace("\"internal\"", "\"other\"")).unwrap();
            },
            "moved or copied here",
        ),
    ];
    for (harm, says) in cases {
        let bench = Bench::new();
        let issuer = bench.plain();
        bench.token(&issuer).await;
        let kid = published(&issuer).remove(0);
        drop(issuer);
        harm(&bench.dir(), &kid);
        let bench = bench.again();
        let issuer = bench.plain();
        let error = bench.mint(&issuer, &ask()).await.err().expect(says);
        assert!(matches!(error, IssuerError::Keys(..)), "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
    }
}

/// Whoever knows the store's public key can seal any file for it.
#[tokio::test]
async fn a_private_part_that_was_replaced_by_another_key_signs_nothing() {
    let bench = Bench::new();
    let issuer = bench.plain();
    bench.token(&issuer).await;
    let kid = published(&issuer).remove(0);
    let other = super::super::key::generate(Algorithm::EdDsa, 0).unwrap();
    let dir = bench.store.private_dir("jwt", &issuer.name).unwrap();
    bench.store.seal_private(&dir, &kid, &other.pem).unwrap();
    for _ in 0..2 {
        let error = bench.mint(&issuer, &ask()).await.err().unwrap().to_string();
        assert!(error.contains("not the private part"), "{error}");
    }
    // The way out that the message names.
    bench.pass(Duration::from_secs(1));
    issuer.rotate(NOW, operator()).await.map_err(|e| e.to_string()).unwrap();
    let (_, header, _) = bench.token(&issuer).await;
    assert_ne!(header["kid"], kid.as_str());
}
