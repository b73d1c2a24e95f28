use super::testing::{Ask, credential, direct, policies, process};
use super::*;
use crate::attestation::{Assurance, Fact};
use crate::clock::{BootTime, WallTime};
use cedar_policy::{Entities, Request, Schema};
use proptest::prelude::*;

const EXAMPLE: &str = r#"
    @id("orders-psql") @max_ttl("15m")
    permit (principal, action, resource == Credential::"db/orders")
    when { context has target && context.target has exe
           && context.target.exe == "/usr/bin/psql" && context.target.assurance >= 3 };
"#;

fn permit(decision: Decision) -> (Permit, Vec<Step>) {
    match decision {
        Decision::Permit(permit, steps) => (*permit, steps),
        Decision::Deny(denial) => panic!("denied: {} {:#?}", denial.reason, denial.steps),
    }
}

fn denial(decision: Decision) -> Denial {
    match decision {
        Decision::Permit(permit, _) => panic!("permitted by {:?}", permit.policies()),
        Decision::Deny(denial) => denial,
    }
}

fn faults(text: &str) -> String {
    match Policies::from_texts(&[("test.cedar", text)]) {
        Err(error @ LoadError::Invalid(_)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("this was taken: {text}"),
    }
}

fn target(exe: &str) -> Option<Target> {
    Some(Target { exe: exe.to_owned(), digest: "00".repeat(32) })
}

fn psql_behind_jsi(level: Assurance) -> Ask {
    let mut ask = Ask { target: target("/usr/bin/psql"), ..Ask::psql("db/orders") };
    ask.attestation.caller.assurance = level;
    ask
}

// What policy permits.

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
    assert!(none.reason.contains("context has target is false"), "{}", none.reason);
    assert_eq!(none.steps.len(), 2);
    assert!(none.steps.iter().all(|step| step.outcome == Outcome::NotSatisfied));
    let unit = none.steps.iter().find(|step| step.policy == "other").unwrap();
    assert!(unit.detail.contains("principal in Unit::\"a.service\" is false"), "{unit:?}");
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

// What policy does not permit.

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

// Limits.

#[test]
fn the_strictest_of_each_limit_holds_and_defaults_fill_what_is_absent() {
    let policies = policies(
        r#"@max_ttl("8h") @max_uses("3") permit(principal, action, resource);
           @max_ttl("30m") @hold("none") @allow_unbounded permit(principal, action, resource);
           @approval("b,a") permit(principal, action, resource);
           @approval("a") @bind("process") permit(principal, action, resource);"#,
    );
    let (permit, steps) = permit(Ask::psql("db/orders").of(&policies));
    assert_eq!(
        *permit.limits(),
        Limits {
            max_ttl: Duration::from_secs(1_800),
            default_ttl: Duration::from_secs(1_800),
            max_uses: Some(3),
            approvals: vec!["a".into(), "b".into()],
            bind: Some(BindingKind::Process),
            hold_none: true,
        }
    );
    assert!(!permit.allow_unbounded());
    assert_eq!(steps.len(), 4);
}

#[test]
fn policy_does_not_lengthen_what_the_credential_allows() {
    let (permit, _) =
        permit(Ask::psql("db/orders").of(&policies(
            r#"@max_ttl("30d") @allow_unbounded permit(principal, action, resource);"#,
        )));
    assert_eq!(permit.limits().max_ttl, Duration::from_secs(86_400));
    assert_eq!(permit.limits().default_ttl, Duration::from_secs(3_600));
    assert!(permit.allow_unbounded());
}

#[test]
fn permits_that_demand_different_bindings_permit_nothing() {
    let policies = policies(
        r#"@id("a") @bind("process") permit(principal, action, resource);
           @id("b") @bind("connection") permit(principal, action, resource);"#,
    );
    let reason = denial(Ask::psql("db/orders").of(&policies)).reason;
    assert!(reason.contains("a demands @bind(\"process\") and b demands"), "{reason}");
}

#[test]
fn a_demanded_binding_holds_unless_another_was_asked_for() {
    let policies = policies(r#"@bind("connection") permit(principal, action, resource);"#);
    let (permit, _) = permit(Ask::psql("db/orders").of(&policies));
    assert_eq!(permit.limits().bind, Some(BindingKind::Connection));
    let ask = Ask { binding: BindingKind::None, ..Ask::psql("db/orders") };
    let reason = denial(ask.of(&policies)).reason;
    assert!(reason.contains("bound to connection, and the request asks for none"), "{reason}");
}

#[test]
fn a_demanded_binding_does_not_escape_a_forbid_on_bindings() {
    let policies = policies(
        r#"@bind("none") permit(principal, action, resource);
           forbid(principal, action, resource) unless { context.binding == "process" };"#,
    );
    denial(Ask::psql("db/orders").of(&policies));
}

// Loading.

#[test]
fn invalid_cedar_is_refused_with_its_line_and_a_caret() {
    let error =
        faults("// a comment\npermit(principal, action, resource) when { principal.uid = 1 };\n");
    assert!(error.starts_with("test.cedar:2:44: "), "{error}");
    assert!(error.contains("\n  2 | permit(principal"), "{error}");
    let caret = error.lines().last().unwrap();
    assert_eq!(caret.find('^'), Some("  2 | ".len() + 43), "{error}");
}

#[test]
fn a_policy_that_names_what_the_schema_does_not_know_is_refused() {
    for (text, says) in [
        ("permit(principal, action, resource) when { principal.exec == \"a\" };", "exec"),
        ("permit(principal, action, resource) when { context.colour == 1 };", "colour"),
        // Without `has`, an optional fact may not be used.
        ("permit(principal, action, resource) when { principal.exe == \"a\" };", "exe"),
        ("permit(principal, action == Action::\"read\", resource);", "read"),
        ("permit(principal in Role::\"a\", action, resource);", "Role"),
        ("permit(principal, action, resource == Credentials::\"a\");", "Credentials"),
        ("permit(principal, action, resource) when { principal.uid == \"1000\" };", "String"),
        ("permit(principal == ?principal, action, resource);", "template"),
    ] {
        let error = faults(text);
        assert!(error.starts_with("test.cedar:1:"), "{text}: {error}");
        assert!(error.contains(says) && error.contains('^'), "{text}: {error}");
    }
}

#[test]
fn unknown_annotations_and_limits_on_a_forbid_are_refused() {
    let error = faults("\n@max_tll(\"15m\")\npermit(principal, action, resource);");
    assert!(
        error.starts_with("test.cedar:2:1: unknown annotation @max_tll; did you mean @max_ttl?"),
        "{error}"
    );
    assert!(error.contains("^^^^^^^^"), "{error}");
    let error = faults("@id(\"a\") @max_ttl(\"15m\") forbid(principal, action, resource);");
    assert!(error.contains("limits a permit"), "{error}");
    assert!(faults("@max_uses(\"0\") permit(principal, action, resource);").contains("above zero"));
}

#[test]
fn two_policies_do_not_share_an_id() {
    let text = "@id(\"a\") permit(principal, action, resource);";
    let error = Policies::from_texts(&[("a.cedar", text), ("b.cedar", text)]).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("b.cedar:1:1") && error.contains("the policy at a.cedar:1"), "{error}");
    assert!(
        faults("@id(\"jsi/holders-release\") permit(principal, action, resource);")
            .contains("taken")
    );
}

#[test]
fn every_fault_of_every_file_is_named_at_once() {
    let error = Policies::from_texts(&[
        ("a.cedar", "permit("),
        ("b.cedar", "permit(principal, action, resource);"),
        (
            "c.cedar",
            "@x(\"\") permit(principal, action, resource); @y(\"\") permit(principal, action, resource);",
        ),
    ]);
    let Err(LoadError::Invalid(faults)) = error else { panic!("it was taken") };
    let files: Vec<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    assert_eq!(files, ["a.cedar", "c.cedar", "c.cedar"]);
}

#[test]
fn policies_without_an_id_are_named_by_their_place() {
    let same = "permit(principal, action, resource);";
    let text = format!("{same}\n{same} {same}\n");
    let (permit, _) = permit(Ask::psql("db/orders").of(&policies(&text)));
    assert_eq!(permit.policies(), ["test.cedar:1", "test.cedar:2", "test.cedar:2"]);
}

#[test]
fn a_policy_that_others_may_write_is_refused_and_not_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cedar");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&file, "permit(principal, action, resource);").unwrap();
    mode(&file, 0o644);
    assert_eq!(Policies::load(dir.path()).unwrap().len(), 1);
    mode(&file, 0o666);
    let error = Policies::load(dir.path()).err().unwrap().to_string();
    assert!(error.contains("a.cedar has mode 0666") && error.contains("chmod go-w"), "{error}");
    mode(&file, 0o644);
    mode(dir.path(), 0o777);
    assert!(matches!(Policies::load(dir.path()), Err(LoadError::Trust(_))));
    mode(dir.path(), 0o700);
}

#[test]
fn a_directory_that_does_not_exist_denies_and_warns() {
    let dir = tempfile::tempdir().unwrap();
    let none = Policies::load(&dir.path().join("none")).unwrap();
    assert!(none.is_empty() && none.warnings()[0].contains("does not exist"));
    denial(Ask::psql("db/orders").of(&none));
    assert!(Policies::load(dir.path()).unwrap().warnings()[0].contains("holds no policy"));
}

#[test]
fn what_is_valid_and_doubtful_is_warned_about_and_nothing_else_is() {
    let psql = r#"principal has exe && principal.exe == "/usr/bin/psql""#;
    for (scope, condition, says) in [
        ("principal", "true".to_owned(), Some("nothing of the requester")),
        ("principal == Requester::\"a\"", "true".to_owned(), Some("never applies")),
        ("principal", psql.to_owned(), Some("whoever can start this program")),
        ("principal in User::\"1000\"", psql.to_owned(), Some("whoever can start this program")),
        ("principal in User::\"1000\"", "true".to_owned(), None),
        ("principal in Unit::\"a.service\"", psql.to_owned(), None),
        ("principal", format!("{psql} && principal in Unit::\"a.service\""), None),
        ("principal", format!("{psql} && context has tty && context.tty == \"tty1\""), None),
        (
            "principal",
            "principal has exe && principal.exe == \"/usr/bin/python3.12\"".to_owned(),
            Some("python3.12 runs whatever"),
        ),
        (
            "principal",
            "context has target && context.target has exe && context.target.exe == \"/bin/bash\""
                .to_owned(),
            Some("bash runs whatever"),
        ),
    ] {
        let text = format!("permit({scope}, action, resource) when {{ {condition} }};");
        let policies = policies(&text);
        match says {
            Some(says) => assert!(
                policies.warnings().iter().any(|warning| warning.contains(says)),
                "{text}: {:?}",
                policies.warnings()
            ),
            None => assert_eq!(policies.warnings(), [""; 0], "{text}"),
        }
    }
    let named =
        policies(r#"@approval("a") permit(principal, action, resource == Credential::"db/a");"#);
    assert_eq!(named.static_warnings(|name| (name == "db/a").then_some("static")).count(), 1);
    assert_eq!(named.static_warnings(|_| None).count(), 0);
}

// Cost.

#[test]
fn three_thousand_unrelated_policies_do_not_change_the_slice() {
    let mut text = EXAMPLE.to_owned();
    text.push_str(
        r#"forbid(principal, action, resource in Path::"db") when { context.advisory };"#,
    );
    let alone = policies(&text);
    for n in 0..1_500 {
        text.push_str(&format!(
            "permit(principal, action, resource == Credential::\"x/{n}\");\n\
             forbid(principal, action, resource in Path::\"y/{n}\");\n"
        ));
    }
    let among = policies(&text);
    assert_eq!(among.len(), 3_002);
    let name = CredentialName::new("db/orders").unwrap();
    assert_eq!(among.slice_len(&name), alone.slice_len(&name));
    // The two, and the three built-in ones.
    assert_eq!(among.slice_len(&name), 5);
    assert_eq!(among.slice_len(&CredentialName::new("y/7/a").unwrap()), 4);
    permit(psql_behind_jsi(Assurance::Isolated).of(&among));
}

// What Cedar is given fits the schema that is published.

#[test]
fn requests_and_entities_are_as_the_schema_says() {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
    let policies = policies("permit(principal, action, resource);");
    let mut full = process(1000, "/usr/bin/psql");
    for fact in [&mut full.tty, &mut full.unit, &mut full.container, &mut full.cgroup] {
        *fact = Fact::Known("x".into());
    }
    if let Fact::Known(exe) = &mut full.exe {
        exe.verity = Some("sha256:00".into());
    }
    for action in Action::ALL {
        let mut ask = Ask {
            action,
            target: target("/usr/bin/psql"),
            attestation: direct(full.clone()),
            ..Ask::psql("db/eu/orders")
        };
        ask.scope.insert("role".into(), "reader".into());
        if action == Action::Administer {
            ask.facts = CredentialFacts::agent();
        }
        let actions = &policies.actions[action.name()];
        let asked = entities::build(&ask.question(), action, &ask.facts, actions).unwrap();
        Request::new(
            asked.request.principal().unwrap().clone(),
            asked.request.action().unwrap().clone(),
            asked.request.resource().unwrap().clone(),
            asked.request.context().unwrap().clone(),
            Some(&schema),
        )
        .unwrap();
        Entities::from_entities(asked.entities.iter().cloned(), Some(&schema)).unwrap();
    }
}

#[test]
fn hours_and_weekdays_are_those_of_the_moment_in_utc() {
    for (millis, hour, weekday) in [
        (0, 0, 4),
        (1_795_359_600_000, 15, 7),
        (1_795_391_999_000, 23, 7),
        (1_795_392_000_000, 0, 1),
    ] {
        let mut ask = Ask::psql("db/orders");
        ask.now = Moment { boot: BootTime(0), wall: WallTime(millis) };
        permit(ask.of(&policies(&format!(
            "permit(principal, action, resource) when {{ context.time.hour == {hour} && context.time.weekday == {weekday} }};"
        ))));
    }
}

// Properties.

#[derive(Clone, Debug)]
struct Sketch {
    permit: bool,
    resource: &'static str,
    condition: &'static str,
    ttl_minutes: Option<u64>,
    uses: Option<u32>,
}

impl Sketch {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.permit {
            text.extend(self.ttl_minutes.map(|ttl| format!("@max_ttl(\"{ttl}m\") ")));
            text.extend(self.uses.map(|uses| format!("@max_uses(\"{uses}\") ")));
        }
        let effect = if self.permit { "permit" } else { "forbid" };
        let (resource, condition) = (self.resource, self.condition);
        text.push_str(&format!(
            "{effect}(principal, action, {resource}) when {{ {condition} }};\n"
        ));
        text
    }

    /// What it says of psql, uid 1000, asking for db/orders: (resource, condition).
    fn holds(&self) -> bool {
        !self.resource.contains("other") && !self.condition.contains("/other")
    }
}

fn sketch() -> impl Strategy<Value = Sketch> {
    (
        any::<bool>(),
        prop::sample::select(vec![
            "resource",
            "resource == Credential::\"db/orders\"",
            "resource in Path::\"db\"",
            "resource == Credential::\"db/other\"",
            "resource in Path::\"other\"",
        ]),
        prop::sample::select(vec![
            "true",
            "principal has exe && principal.exe == \"/usr/bin/psql\"",
            "principal has exe && principal.exe == \"/other\"",
        ]),
        prop::option::of(1..3_000_u64),
        prop::option::of(1..9_u32),
    )
        .prop_map(|(permit, resource, condition, ttl_minutes, uses)| Sketch {
            permit,
            resource,
            condition,
            ttl_minutes,
            uses,
        })
}

fn decide(sketches: &[Sketch]) -> Decision {
    let text: String = sketches.iter().map(Sketch::text).collect();
    Ask::psql("db/orders").of(&policies(&text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_permitted_without_a_permit_that_holds_and_no_limit_is_looser_than_its(
        sketches in prop::collection::vec(sketch(), 0..8),
    ) {
        let holding: Vec<&Sketch> = sketches.iter().filter(|s| s.holds()).collect();
        let expected = holding.iter().any(|s| s.permit) && holding.iter().all(|s| s.permit);
        match decide(&sketches) {
            Decision::Permit(permit, _) => {
                prop_assert!(expected);
                let limits = permit.limits();
                prop_assert!(limits.default_ttl <= limits.max_ttl);
                for sketch in holding {
                    if let Some(minutes) = sketch.ttl_minutes {
                        prop_assert!(limits.max_ttl <= Duration::from_secs(minutes * 60));
                    }
                    if let Some(uses) = sketch.uses {
                        prop_assert!(limits.max_uses.is_some_and(|limit| limit <= uses));
                    }
                }
            }
            Decision::Deny(_) => prop_assert!(!expected),
        }
    }

    #[test]
    fn adding_a_forbid_never_turns_a_denial_into_a_permit(
        sketches in prop::collection::vec(sketch(), 0..8),
        added in sketch(),
    ) {
        let denied = matches!(decide(&sketches), Decision::Deny(_));
        let mut more = sketches.clone();
        more.push(Sketch { permit: false, ..added });
        if denied {
            prop_assert!(matches!(decide(&more), Decision::Deny(_)));
        }
    }
}
