//! Policies that are wrong, and facts that are missing.

use crate::{host_with_a_secret, me, user};
use jsi_tests::permit;

/// Refused at start by that agent, and at reload by a running one.
fn refused(text: &str, part: &str) {
    let mut host = user().install();
    host.world.write_policy("wrong", text);
    let (code, said) = host.start_refused();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("wrong") && said.contains(part), "wanted {part:?}:\n{said}");

    let (host, secret) = host_with_a_secret(user());
    host.world.write_policy("wrong", text);
    let check = host
        .admin(["policy", "check", "--config", &host.world.config().display().to_string()])
        .run();
    assert_ne!(check.code, 0, "{check}");
    let reload = host.admin(["reload"]).run().without(&secret);
    assert_ne!(reload.code, 0, "{reload}");
    reload.says(part);
    host.shell(me(), "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn invalid_cedar_is_refused() {
    refused("permit(principal, action, resource) when {", "wrong");
}

#[test]
fn an_unknown_attribute_is_refused() {
    refused(
        "permit(principal, action in Action::\"use\", resource == Credential::\"db/orders\") \
         when { principal.colour == \"red\" };",
        "colour",
    );
}

#[test]
fn an_unknown_annotation_is_refused() {
    refused(
        "@max_tll(\"15m\")\npermit(principal, action in Action::\"use\", \
         resource == Credential::\"db/orders\");",
        "max_tll",
    );
}

#[test]
fn a_limit_on_a_forbid_is_refused() {
    refused(
        "@max_ttl(\"15m\")\nforbid(principal, action in Action::\"use\", \
         resource == Credential::\"db/orders\");",
        "max_ttl",
    );
}

#[test]
fn a_limit_that_is_no_time_is_refused() {
    refused(
        "@max_ttl(\"soon\")\npermit(principal, action in Action::\"use\", \
         resource == Credential::\"db/orders\");",
        "soon",
    );
}

/// An optional fact without `has` would be an error at every decision.
#[test]
fn a_fact_that_may_be_missing_is_not_used_without_has() {
    refused(
        "forbid(principal, action in Action::\"use\", resource == Credential::\"db/orders\") \
         when { principal.container == \"x\" };",
        "container",
    );
}

#[test]
fn a_missing_fact_never_escapes_a_forbid() {
    let (host, secret) = host_with_a_secret(user());
    host.world.write_policy(
        "container-only",
        "@id(\"container-only\")\n\
         forbid(principal, action in Action::\"use\", resource == Credential::\"db/orders\") \
         unless { principal has container && principal.container == \"build-7\" };",
    );
    host.admin(["reload"]).run().succeeded();
    let denied = host.shell(me(), "jsi get db/orders").run().coded(3).without(&secret);
    assert!(denied.stderr.contains("jsi explain"), "{denied}");
    let record = host.await_record("denied", "container-only");
    assert_eq!(record["code"], "DENIED_BY_POLICY", "{record}");
}

#[test]
fn a_missing_fact_never_satisfies_a_permit() {
    let (host, secret) = host_with_a_secret(user());
    let shell = host.world.bin("shell");
    let demanding = permit(me().uid, "db/orders", &shell)
        .replace("principal has exe &&", "principal has unit && principal has exe &&");
    host.world.write_policy("orders", &demanding);
    host.admin(["reload"]).run().succeeded();
    // Test machines run the shell in no unit, or in one: say which.
    let whoami = host.shell(me(), "jsi whoami -o json").run().succeeded();
    let unit = whoami.json()["attestation"]["requester"]["unit"].as_str().unwrap_or("").to_owned();
    let out = host.shell(me(), "jsi get db/orders").run();
    if unit.is_empty() {
        out.coded(3).without(&secret);
    } else {
        out.succeeded();
    }
}
