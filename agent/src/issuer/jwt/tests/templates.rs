//! Facts in claims: data always, absent never.

use super::*;
use crate::attestation::{Fact, Via};
use crate::policy::Target;

async fn claim(text: &str, change: impl FnOnce(&mut Ask)) -> Result<Value, String> {
    let bench = Bench::new();
    let issuer = bench.issuer(config(), claiming(text));
    let mut ask = ask();
    change(&mut ask);
    let issued = bench.mint(&issuer, &ask).await;
    issued.map(|issued| read(&issued).0["it"].clone()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_placeholder_is_filled_with_its_fact() {
    let all = |ask: &mut Ask| {
        ask.scope.insert("role".into(), "reader".into());
        ask.attestation.requester.unit = Fact::Known("api.service".into());
        ask.attestation.requester.container = Fact::Known("c0ffee".into());
        ask.attestation.via = Via::GenuineClient;
        ask.target = Some(Target::measured("/usr/bin/api", &"ab".repeat(32)));
    };
    for (text, value) in [
        ("{{requester.uid}}", Value::from(1000)),
        ("{{requester.gid}}", 1000.into()),
        ("{{assurance}}", 1.into()),
        ("{{requester.exe}}", "/usr/bin/psql".into()),
        ("{{requester.digest}}", "07".repeat(32).into()),
        ("{{requester.unit}}", "api.service".into()),
        ("{{requester.container}}", "c0ffee".into()),
        ("{{target.exe}}", "/usr/bin/api".into()),
        ("{{target.digest}}", "ab".repeat(32).into()),
        ("{{scope.role}}", "reader".into()),
        ("{{credential}}", "svc/api".into()),
        ("{{lease}}", lease(1).as_str().into()),
        ("{{host}}", "build-7".into()),
        ("level {{ assurance }}", "level 1".into()),
        ("{{requester.uid}}{{requester.gid}}", "10001000".into()),
    ] {
        assert_eq!(claim(text, all).await, Ok(value), "{text}");
    }
}

#[tokio::test]
async fn a_fact_that_is_absent_or_unreadable_refuses_the_request() {
    type Change = fn(&mut Ask);
    let cases: [(&str, Change, &str); 9] = [
        ("{{requester.unit}}", |_| (), "runs in no systemd unit"),
        ("in {{requester.container}}", |_| (), "runs in no container"),
        (
            "{{requester.unit}}",
            |ask| ask.attestation.requester.unit = Fact::Unreadable("not root's".into()),
            "could not be read: not root's",
        ),
        ("{{requester.exe}}", |ask| ask.attestation.requester.exe = Fact::Absent, "no file"),
        (
            "{{requester.exe}}",
            |ask| {
                let Fact::Known(exe) = &mut ask.attestation.requester.exe else { panic!() };
                exe.path = None;
            },
            "another file",
        ),
        (
            "{{requester.unit}}",
            |ask| ask.attestation.requester.unit = Fact::Known(String::new()),
            "it is empty",
        ),
        ("{{scope.role}}", |_| (), "--scope role="),
        ("{{target.exe}}", |_| (), "jsi exec"),
        (
            "{{target.exe}}",
            |ask| ask.target = Some(Target::measured("/bin/x", "")),
            "only the word of a jsi",
        ),
    ];
    for (text, change, says) in cases {
        let error = claim(text, change).await.expect_err(text);
        assert!(error.contains("the claim it needs {{") && error.contains(says), "{text}: {error}");
    }
}

#[tokio::test]
async fn what_a_requester_chose_is_data_and_never_a_template() {
    let with = |value: &'static str| {
        move |ask: &mut Ask| {
            ask.scope.insert("role".into(), value.into());
        }
    };
    for value in [
        "{{requester.uid}}",
        "{{credential}}",
        "}}{{",
        "\",\"admin\":true,\"x\":\"",
        "\\\" \\u0000",
        "ärger ☂ \u{202e}",
        "'; --",
    ] {
        assert_eq!(claim("{{scope.role}}", with(value)).await, Ok(value.into()));
        let beside = claim("a {{scope.role}} {{credential}}", with(value)).await;
        assert_eq!(beside, Ok(format!("a {value} svc/api").into()));
    }
    for value in ["a\nb", "a\0b", "\u{9b}31m", "\r"] {
        let error = claim("{{scope.role}}", with(value)).await.expect_err(value);
        assert!(error.contains("control characters"), "{error}");
    }
}

#[tokio::test]
async fn a_path_that_looks_like_claims_is_one_text() {
    let path = "/tmp/\",\"sub\":\"root\",\"a\":\"{{requester.uid}}";
    let value = claim("{{requester.exe}}", |ask| {
        let Fact::Known(exe) = &mut ask.attestation.requester.exe else { panic!() };
        exe.path = Some(path.into());
    });
    assert_eq!(value.await, Ok(path.into()));
}

#[tokio::test]
async fn lists_objects_and_fixed_values_keep_their_shape() {
    let bench = Bench::new();
    let mut credential = claiming("x");
    let text = |text: &str| ClaimTemplate::Text(Template::parse(text, &BTreeSet::new()).unwrap());
    let object = BTreeMap::from([
        ("uid".to_owned(), text("{{requester.uid}}")),
        ("ok".to_owned(), ClaimTemplate::Fixed(true.into())),
        ("list".to_owned(), ClaimTemplate::List(vec![text("{{host}}"), text("plain")])),
    ]);
    credential.claims.insert("it".to_owned(), ClaimTemplate::Object(object));
    let issuer = bench.issuer(config(), credential);
    let (claims, ..) = bench.token(&issuer).await;
    let wanted = serde_json::json!({ "uid": 1000, "ok": true, "list": ["build-7", "plain"] });
    assert_eq!(claims["it"], wanted);
}
