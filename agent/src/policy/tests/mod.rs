mod allowed;
mod decision;
mod explained;
mod limits;
mod loading;
mod properties;

use super::testing::{Ask, credential, direct, policies, process};
use super::*;
use crate::attestation::{Assurance, Fact, Namespaces, Seccomp, Via};
use crate::clock::{BootTime, WallTime};
use cedar_policy::{Entities, Request, Schema};

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
    Some(Target::measured(exe, &"00".repeat(32)))
}

fn psql_behind_jsi(level: Assurance) -> Ask {
    let mut ask = Ask { target: target("/usr/bin/psql"), ..Ask::psql("db/orders") };
    ask.attestation.caller.assurance = level;
    ask.attestation.via = Via::GenuineClient;
    ask
}

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
    let around = &mut full.around;
    for fact in
        [&mut around.invocation, &mut around.container_runtime, &mut around.pod, &mut around.lsm]
    {
        *fact = Fact::Known("x".into());
    }
    around.seccomp = Fact::Known(Seccomp::Filter);
    around.no_new_privs = Fact::Known(true);
    around.namespaces = Fact::Known(Namespaces { mnt: 4_026_531_841, ..Namespaces::default() });
    if let Fact::Known(exe) = &mut full.exe {
        exe.verity = Some("sha256:00".into());
        exe.ima = Some("signature".into());
    }
    for action in Action::ALL {
        let mut ask = Ask {
            action,
            target: target("/usr/bin/psql"),
            attestation: direct(full.clone()),
            ..Ask::psql("db/eu/orders")
        };
        ask.attestation.via = Via::GenuineClient;
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
