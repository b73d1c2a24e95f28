//! What policy permits and what it does not.

use super::*;

#[test]
fn the_example_of_the_design_is_permitted_and_limited() {
    let ask = psql_behind_jsi(Assurance::Isolated);
    let (permit, steps) = permit(ask.of(&policies(EXAMPLE)));
    assert_eq!(permit.policies(), ["orders-psql"]);
    assert_eq!(permit.credential().as_str(), "db/orders");
    assert_eq!(permit.limits().max_ttl, Duration::from_secs(900));
    assert_eq!(permit.limits().default_ttl, Duration::from_secs(900));
    assert_eq!(permit.requester(), &RequesterKey::of(&ask.attestation.requester));
    assert_eq!(steps.len(), 1);
    assert!(steps[0].detail.contains("@max_ttl(\"15m\")"), "{steps:?}");
    assert!(!permit.expired(ask.now.boot));
    assert!(permit.expired(ask.now.boot.plus(PERMIT_LIFE)));
}

#[test]
fn a_denial_names_the_nearest_permit_and_the_value_that_its_condition_saw() {
    let other = r#"@id("other") permit(principal in Unit::"a.service", action, resource) when { principal.uid == 0 };"#;
    let policies = Policies::from_texts(&[("a.cedar", EXAMPLE), ("b.cedar", other)]).unwrap();

    let low = denial(psql_behind_jsi(Assurance::Executable).of(&policies));
    assert!(low.reason.contains("nearest is orders-psql"), "{}", low.reason);
    assert!(low.reason.contains("context.target.assurance is 1"), "{}", low.reason);

    let wrong = Ask { target: target("/usr/bin/bash"), ..psql_behind_jsi(Assurance::Isolated) };
    let wrong = denial(wrong.of(&policies));
    assert!(wrong.reason.contains(r#"context.target.exe is "/usr/bin/bash""#), "{}", wrong.reason);

    let none = denial(Ask::psql("db/orders").of(&policies));
    assert!(none.reason.contains("context.target is not there"), "{}", none.reason);
    assert_eq!(none.steps.len(), 2);
    assert!(none.steps.iter().all(|step| step.outcome == Outcome::NotSatisfied));
    let unit = none.steps.iter().find(|step| step.policy == "other").unwrap();
    assert!(unit.detail.contains("principal in Unit::\"a.service\" is false"), "{unit:?}");
}

#[test]
fn a_target_counts_by_the_word_of_a_client_and_not_of_whoever_asks_directly() {
    let on_target_only = policies(
        r#"permit(principal, action, resource)
           when { context has target && context.target has exe
                  && context.target.exe == "/usr/bin/psql" };"#,
    );
    for via in [Via::GenuineClient, Via::EnrolledClient] {
        let mut ask = psql_behind_jsi(Assurance::Isolated);
        ask.attestation.via = via;
        permit(ask.of(&on_target_only));
    }
    let mut ask = psql_behind_jsi(Assurance::Isolated);
    ask.attestation.via = Via::Direct;
    let denied = denial(ask.of(&on_target_only));
    assert!(denied.reason.contains("context.target is not there"), "{}", denied.reason);
}

#[test]
fn who_asks_is_found_by_user_group_unit_program_and_digest() {
    let mut ask = Ask::psql("db/orders");
    ask.attestation.requester.groups = vec![27, 1000];
    ask.attestation.requester.unit = Fact::Known("backup.service".into());
    let digest = "07".repeat(32);
    for (scope, condition) in [
        ("principal in User::\"1000\"", "true".to_owned()),
        ("principal in Group::\"27\"", "true".to_owned()),
        ("principal in Unit::\"backup.service\"", "true".to_owned()),
        ("principal", "principal has unit && principal.unit == \"backup.service\"".to_owned()),
        ("principal", "principal has exe && principal.exe == \"/usr/bin/psql\"".to_owned()),
        ("principal", format!("principal has digest && principal.digest == \"{digest}\"")),
        ("principal", "context.caller has exe && context.caller.exe like \"/usr/*\"".to_owned()),
        ("principal", "context.time.hour == 15 && context.time.weekday == 7".to_owned()),
        (
            "principal",
            "context.delivery != \"environment\" && context.via == \"direct\"".to_owned(),
        ),
    ] {
        let text = format!("permit({scope}, action, resource) when {{ {condition} }};");
        permit(ask.of(&policies(&text)));
    }
    for (scope, condition) in [
        ("principal in User::\"1001\"", "true"),
        ("principal in Group::\"28\"", "true"),
        ("principal in Unit::\"backup\"", "true"),
        ("principal", "principal has tty"),
        ("principal", "context.time.hour < 15"),
        ("principal", "context.assurance >= 2"),
    ] {
        let text = format!("permit({scope}, action, resource) when {{ {condition} }};");
        denial(ask.of(&policies(&text)));
    }
}

#[test]
fn scope_is_read_as_tags() {
    let policies = policies(
        r#"permit(principal, action, resource) when {
             context.scope.hasTag("role") && context.scope.getTag("role") == "reader" };"#,
    );
    let mut ask = Ask::psql("db/orders");
    denial(ask.of(&policies));
    ask.scope.insert("role".into(), "writer".into());
    let reason = denial(ask.of(&policies)).reason;
    assert!(reason.contains("\"writer\""), "{reason}");
    ask.scope.insert("role".into(), "reader".into());
    permit(ask.of(&policies));
}

#[test]
fn paths_hold_what_lies_below_them_and_nothing_beside() {
    let policies = policies(r#"permit(principal, action, resource in Path::"db/eu");"#);
    permit(Ask::psql("db/eu/orders").of(&policies));
    permit(Ask::psql("db/eu/a/b").of(&policies));
    for name in ["db/orders", "db/europe/orders", "db/eu", "eu/orders"] {
        denial(Ask::psql(name).of(&policies));
    }
}

#[test]
fn use_covers_what_a_holder_does_and_list_is_permitted_where_request_is() {
    let all = policies(r#"permit(principal, action in Action::"use", resource);"#);
    let one = policies(r#"permit(principal, action == Action::"request", resource);"#);
    for (action, by_use, by_request) in [
        (Action::Request, true, true),
        (Action::Renew, true, false),
        (Action::Release, true, true), // built in
        (Action::List, true, true),
        (Action::Wrap, false, false),
        (Action::Approve, false, false),
        (Action::Revoke, false, false),
    ] {
        let ask = Ask { action, ..Ask::psql("db/orders") };
        for (policies, expected) in [(&all, by_use), (&one, by_request)] {
            match ask.of(policies) {
                Decision::Permit(permit, _) => {
                    assert!(expected, "{action:?}");
                    assert_eq!(permit.action(), action);
                }
                Decision::Deny(denial) => assert!(!expected, "{action:?}: {}", denial.reason),
            }
        }
    }
}

#[test]
fn a_listing_is_not_permitted_past_a_forbid() {
    let policies = policies(
        r#"permit(principal, action == Action::"request", resource);
           @id("hidden") forbid(principal, action == Action::"list", resource);"#,
    );
    let ask = Ask { action: Action::List, ..Ask::psql("db/orders") };
    assert!(denial(ask.of(&policies)).reason.contains("hidden"));
}

#[test]
fn operators_administer_on_the_admin_socket_and_nobody_does_elsewhere() {
    let open = policies(
        "permit(principal, action == Action::\"administer\", resource); permit(principal, action, resource);",
    );
    let agent = |admin_socket| Ask {
        facts: CredentialFacts::agent(),
        action: Action::Administer,
        admin_socket,
        ..Ask::psql("db/orders")
    };
    let revoke =
        |admin_socket| Ask { action: Action::Revoke, admin_socket, ..Ask::psql("db/orders") };
    let none = Policies::from_texts(&[]).unwrap();
    permit(agent(true).of(&none));
    permit(revoke(true).of(&none));
    denial(agent(false).of(&none));
    // Not even by a permit that leaves the action open.
    denial(agent(false).of(&open));
    denial(revoke(false).of(&open));
    let closed = policies(
        r#"forbid(principal, action in [Action::"administer", Action::"revoke"], resource) unless { principal in Group::"27" };"#,
    );
    denial(agent(true).of(&closed));
    denial(revoke(true).of(&closed));
}

#[test]
fn nothing_is_permitted_by_default() {
    let none = Policies::from_texts(&[]).unwrap();
    assert!(none.is_empty());
    let denial = denial(Ask::psql("db/orders").of(&none));
    assert_eq!(denial.reason, "no permit speaks of this credential and action");
}

#[test]
fn a_forbid_is_not_overridden_by_a_permit() {
    let policies = policies(
        r#"permit(principal, action, resource);
           @id("no-env") forbid(principal, action, resource) when { context.delivery == "environment" };"#,
    );
    permit(Ask::psql("db/orders").of(&policies));
    let ask = Ask { delivery: Delivery::Environment, ..Ask::psql("db/orders") };
    let denial = denial(ask.of(&policies));
    assert_eq!(denial.reason, "forbidden by no-env (test.cedar:2)");
    assert_eq!(denial.steps[0].outcome, Outcome::Satisfied);
}

#[test]
fn a_fact_that_could_not_be_read_never_escapes_a_forbid_that_names_it() {
    let unreadable = || Fact::Unreadable("permission denied".to_owned());
    let blind = |set: fn(&mut crate::attestation::ProcessFacts, Fact<String>)| {
        let mut ask = Ask::psql("db/orders");
        set(&mut ask.attestation.requester, unreadable());
        ask
    };
    for (forbid, ask) in [
        (r#"forbid(principal in Unit::"a.service", action, resource);"#, blind(|p, f| p.unit = f)),
        (
            r#"forbid(principal, action, resource) when { principal in Unit::"a.service" };"#,
            blind(|p, f| p.unit = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has unit && principal.unit == "a" };"#,
            blind(|p, f| p.unit = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has container };"#,
            blind(|p, f| p.container = f),
        ),
        (
            r#"forbid(principal, action, resource in Path::"db") when { principal has tty };"#,
            blind(|p, f| p.tty = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has pod && principal.pod like "2f*" };"#,
            blind(|p, f| p.around.pod = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has invocation };"#,
            blind(|p, f| p.around.invocation = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has container_runtime };"#,
            blind(|p, f| p.around.container_runtime = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has lsm && principal.lsm like "unconfined*" };"#,
            blind(|p, f| p.around.lsm = f),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has seccomp && principal.seccomp == "strict" };"#,
            blind(|p, _| p.around.seccomp = Fact::Unreadable("permission denied".into())),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has no_new_privs && principal.no_new_privs };"#,
            blind(|p, _| p.around.no_new_privs = Fact::Unreadable("permission denied".into())),
        ),
        (
            r#"forbid(principal, action, resource) when { principal has namespaces && !principal.namespaces.host_mnt };"#,
            blind(|p, _| p.around.namespaces = Fact::Unreadable("permission denied".into())),
        ),
    ] {
        let text = format!("permit(principal, action, resource); {forbid}");
        let policies = policies(&text);
        let denial = denial(ask.of(&policies));
        assert_eq!(denial.steps[0].outcome, Outcome::Unreadable, "{forbid}");
        assert!(denial.reason.contains("permission denied"), "{}", denial.reason);
        // What is known not to be there does not deny.
        permit(Ask::psql("db/orders").of(&policies));
    }
}

#[test]
fn an_unreadable_fact_that_no_forbid_of_the_resource_names_does_not_deny() {
    let mut ask = Ask::psql("db/orders");
    ask.attestation.requester.container = Fact::Unreadable("no".into());
    permit(ask.of(&policies(
        r#"permit(principal, action, resource);
           forbid(principal, action, resource) when { principal has unit };
           forbid(principal, action == Action::"renew", resource) when { principal has container };
           forbid(principal, action, resource == Credential::"db/other") when { principal has container };"#,
    )));
}

#[test]
fn a_fact_that_could_not_be_read_does_not_satisfy_a_permit() {
    let mut ask = Ask::psql("db/orders");
    ask.attestation.requester.exe = Fact::Unreadable("gone".into());
    denial(ask.of(&policies(
        r#"permit(principal, action, resource) when { principal has exe && principal.exe == "/usr/bin/psql" };"#,
    )));
}

#[test]
fn a_program_without_a_path_of_ours_does_not_escape_a_forbid_by_path() {
    let mut ask = Ask::psql("db/orders");
    if let Fact::Known(exe) = &mut ask.attestation.requester.exe {
        exe.path = None;
    }
    denial(ask.of(&policies(
        r#"permit(principal, action, resource);
           forbid(principal, action, resource) when { principal has exe && principal.exe == "/opt/x" };"#,
    )));
}

#[test]
fn a_missing_fact_is_blocked_where_the_forbid_says_unless() {
    let policies = policies(
        r#"permit(principal, action, resource);
           forbid(principal, action, resource) unless { principal has container && principal.container == "a" };"#,
    );
    denial(Ask::psql("db/orders").of(&policies));
    let mut ask = Ask::psql("db/orders");
    ask.attestation.requester.container = Fact::Known("a".into());
    permit(ask.of(&policies));
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_even_beside_a_permit_that_applies() {
    for policy in [
        // Overflow: the one evaluation error that strict validation leaves.
        "permit(principal, action, resource) when { context.time.epoch * 9223372036854775807 > 0 };",
        "forbid(principal, action, resource) when { context.time.epoch * 9223372036854775807 > 0 };",
    ] {
        let text = format!("permit(principal, action, resource); {policy}");
        let denial = denial(Ask::psql("db/orders").of(&policies(&text)));
        assert_eq!(denial.steps[0].outcome, Outcome::Error);
        assert!(denial.reason.contains("cannot be evaluated"), "{}", denial.reason);
    }
}

#[test]
fn facts_of_another_credential_do_not_decide() {
    let policies = policies("permit(principal, action, resource);");
    let ask = Ask::psql("db/orders");
    denial(policies.decide(&ask.question(), &credential("db/other")));
}

#[test]
fn a_permit_does_not_hold_because_a_fact_could_not_be_read() {
    let text = r#"@id("a") @max_uses("1") permit(principal, action, resource) unless { principal in Unit::"x.service" };"#;
    let mut ask = Ask::psql("db/orders");
    permit(ask.of(&policies(text)));
    ask.attestation.requester.unit = Fact::Unreadable("no".into());
    let refused = denial(ask.of(&policies(text)));
    assert_eq!(refused.steps[0].outcome, Outcome::Unreadable);
    // Another permit lets it pass, and the first one's limits hold all the same.
    let both = format!("{text} permit(principal in User::\"1000\", action, resource);");
    let (permit, _) = permit(ask.of(&policies(&both)));
    assert_eq!(permit.limits().max_uses, Some(1));
}
