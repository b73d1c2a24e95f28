//! Requests that make no sense.

use crate::{host_with_a_secret, me, user};
use jsi_proto::v1::{Binding, RequestCredentialRequest, WhoAmIRequest, binding};
use jsi_tests::{Client, Failure, Host, PEERS, Peer, Setup, needs_root};
use tonic::Code;

/// A host agent that lets this test process ask: root, whatever it runs.
fn host() -> Host {
    let policy = "permit(principal in User::\"0\", action in Action::\"use\", \
                  resource == Credential::\"db/orders\");";
    let host = Setup::host().start(|_| vec![("root", policy.into())]);
    host.put("db/orders", &jsi_tests::random_secret());
    host
}

fn ask(host: &Host, request: RequestCredentialRequest) -> Failure {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        match client.request(request).await {
            Ok(delivered) => panic!("granted: {:?}", delivered.lease.id),
            Err(failure) => failure,
        }
    })
}

fn orders() -> RequestCredentialRequest {
    RequestCredentialRequest {
        credential: "db/orders".into(),
        ..RequestCredentialRequest::default()
    }
}

#[test]
fn an_unknown_credential_is_not_found() {
    let (host, _) = host_with_a_secret(user());
    host.shell(me(), "jsi get db/absent").run().coded(4).says("db/absent");
}

#[test]
fn a_malformed_name_is_refused_and_its_field_named() {
    needs_root!();
    let host = host();
    for name in ["", "/a", "a//b", "UPPER", "../etc", "a b", "a\u{1b}[31m", &"x".repeat(200)] {
        let failure = ask(&host, RequestCredentialRequest { credential: name.into(), ..orders() });
        assert_eq!(failure.code, Code::InvalidArgument, "{name:?}: {failure:?}");
        assert_eq!(failure.reason, "INVALID_FIELD", "{name:?}");
        assert_eq!(failure.fields, ["credential"], "{name:?}");
        assert!(!failure.message.contains('\u{1b}'), "{failure:?}");
    }
    let peer = Peer { uid: PEERS[0].uid };
    let out = host.shell(peer, "jsi get 'Not A Name'").run();
    assert_ne!(out.code, 0, "{out}");
}

#[test]
fn a_ttl_that_is_zero_negative_or_huge_is_refused() {
    needs_root!();
    let host = host();
    let cases = [(0, 0), (-1, 0), (0, -1), (i64::MAX, 0), (400 * 365 * 24 * 3600, 0), (1, -5)];
    for (seconds, nanos) in cases {
        let ttl = Some(prost_types::Duration { seconds, nanos });
        let failure = ask(&host, RequestCredentialRequest { ttl, ..orders() });
        assert_eq!(failure.reason, "INVALID_FIELD", "{seconds} s {nanos} ns: {failure:?}");
        assert_eq!(failure.fields, ["ttl"], "{seconds} s {nanos} ns");
    }
    for ttl in ["0", "0s", "-5m", "soon"] {
        let out = host.shell(PEERS[0], &format!("jsi get db/orders --ttl={ttl}")).run();
        assert_ne!(out.code, 0, "{out}");
        assert_ne!(out.code, 3, "it is malformed, not denied:\n{out}");
    }
}

#[test]
fn an_unknown_scope_key_is_refused_and_named() {
    needs_root!();
    let host = host();
    let scope = [("colour".to_owned(), "red".to_owned())].into();
    let failure = ask(&host, RequestCredentialRequest { scope, ..orders() });
    assert_eq!(failure.reason, "UNKNOWN_SCOPE", "{failure:?}");
    assert!(failure.message.contains("colour"), "{failure:?}");
}

#[test]
fn a_binding_to_anothers_process_is_refused() {
    needs_root!();
    let host = host();
    for pid in [0, 4_000_000_000, u32::try_from(i32::MAX).unwrap()] {
        let binding = Some(Binding { kind: Some(binding::Kind::Pid(pid)) });
        let failure = ask(&host, RequestCredentialRequest { binding, ..orders() });
        let good = ["BINDING_REFUSED", "INVALID_FIELD"].contains(&&*failure.reason);
        assert!(good, "{failure:?}");
    }
    let mut other = host.program(PEERS[1], "/bin/sleep").args(["30"]).talk();
    let binding = Some(Binding { kind: Some(binding::Kind::Pid(other.pid())) });
    let failure = ask(&host, RequestCredentialRequest { binding, ..orders() });
    assert_eq!(failure.reason, "BINDING_REFUSED", "{failure:?}");
    other.kill();
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_connection_lives_on() {
    needs_root!();
    let host = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        let huge = RequestCredentialRequest { note: "n".repeat(2 * 1024 * 1024), ..orders() };
        let failure = client.request(huge).await.err().expect("refused");
        let codes = [Code::ResourceExhausted, Code::OutOfRange, Code::InvalidArgument];
        assert!(codes.contains(&failure.code), "{failure:?}");
        client.agent().who_am_i(WhoAmIRequest {}).await.expect("the connection lives on");
        client.take("db/orders").await.expect("and is served");
    });
}

#[test]
fn a_note_that_is_too_long_is_refused() {
    needs_root!();
    let host = host();
    let failure = ask(&host, RequestCredentialRequest { note: "n".repeat(257), ..orders() });
    assert_eq!(failure.fields, ["note"], "{failure:?}");
}

#[test]
fn an_operators_call_is_not_served_on_the_agent_socket() {
    needs_root!();
    let host = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        let status = client.admin().status(jsi_proto::v1::StatusRequest {}).await;
        let failure = Failure::from(status.expect_err("refused"));
        let good = failure.reason == "ADMIN_ONLY" || failure.code == Code::Unimplemented;
        assert!(good, "{failure:?}");
    });
}
