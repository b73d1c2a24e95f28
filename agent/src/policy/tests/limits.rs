//! Limits: the strictest holds.

use super::*;

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
    let ask = Ask { binding: Some(BindingKind::None), ..Ask::psql("db/orders") };
    let reason = denial(ask.of(&policies)).reason;
    assert!(reason.contains("bound to connection, and the request asks for none"), "{reason}");
    let ask = Ask { binding: Some(BindingKind::Process), ..Ask::psql("db/orders") };
    let reason = denial(ask.of(&policies)).reason;
    assert!(reason.contains("the request asks for process"), "{reason}");
}

#[test]
fn a_demanded_binding_does_not_escape_a_forbid_on_bindings() {
    let policies = policies(
        r#"@bind("none") permit(principal, action, resource);
           forbid(principal, action, resource) unless { context.binding == "process" };"#,
    );
    denial(Ask::psql("db/orders").of(&policies));
}

#[test]
fn a_demanded_binding_does_not_refuse_what_binds_nothing() {
    let policies = policies(
        r#"@bind("connection") permit(principal, action in Action::"use", resource);
           @bind("none") permit(principal, action in [Action::"list", Action::"release"], resource);"#,
    );
    for action in [Action::List, Action::Renew, Action::Release] {
        permit(Ask { action, ..Ask::psql("db/orders") }.of(&policies));
    }
}
