//! Explanations: they say what the decision says, and of each condition what
//! Cedar says.

use super::*;
use cedar_policy::{EvalResult, Expression, eval_expression};
use proptest::prelude::*;
use std::str::FromStr;

/// Conditions of every shape, each with what it is of psql, uid 1000, no unit.
const CONDITIONS: [(&str, bool); 16] = [
    ("true", true),
    ("principal.uid == 1000", true),
    ("principal.uid != 1000", false),
    ("principal has exe && principal.exe == \"/usr/bin/psql\"", true),
    ("principal has exe && principal.exe like \"/opt/*\"", false),
    ("principal has unit && principal.unit == \"a.service\"", false),
    ("principal has unit && (principal.unit == \"a\" || principal.unit == \"b\")", false),
    ("(principal has unit && principal.unit == \"a\") || principal.uid == 1000", true),
    ("principal in [User::\"1000\", User::\"1001\"]", true),
    ("principal in [Unit::\"a\", Unit::\"b\"]", false),
    ("context has target && context.target has exe && context.target.exe == \"/a\"", false),
    ("context.scope.hasTag(\"role\") && context.scope.getTag(\"role\") == \"reader\"", true),
    ("context.scope.hasTag(\"none\") && context.scope.getTag(\"none\") == \"reader\"", false),
    ("[\"caller\", \"file\"].contains(context.delivery)", true),
    ("if principal.uid == 0 then true else context.assurance >= 3", false),
    ("!(principal has unit)", true),
];

fn ask() -> Ask {
    let mut ask = Ask::psql("db/orders");
    ask.scope.insert("role".into(), "reader".into());
    ask
}

#[derive(Clone, Debug)]
struct Sketch {
    permit: bool,
    whens: Vec<usize>,
    unlesses: Vec<usize>,
}

impl Sketch {
    fn text(&self) -> String {
        let mut text = if self.permit { "permit" } else { "forbid" }.to_owned();
        text.push_str("(principal, action, resource)");
        text.extend(self.whens.iter().map(|at| format!(" when {{ {} }}", CONDITIONS[*at].0)));
        text.extend(self.unlesses.iter().map(|at| format!(" unless {{ {} }}", CONDITIONS[*at].0)));
        text + ";\n"
    }

    fn holds(&self) -> bool {
        self.whens.iter().all(|at| CONDITIONS[*at].1)
            && self.unlesses.iter().all(|at| !CONDITIONS[*at].1)
    }
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let some = || prop::collection::vec(0..CONDITIONS.len(), 0..3);
    (any::<bool>(), some(), some()).prop_map(|(permit, whens, unlesses)| Sketch {
        permit,
        whens,
        unlesses,
    })
}

/// Each condition of an explanation is as Cedar has it.
fn agrees(condition: &Condition, asked: &entities::Asked) -> Result<(), TestCaseError> {
    let text = match condition.text.strip_prefix("unless {") {
        Some(body) => format!("!({})", body.trim_end_matches('}')),
        None => condition.text.clone(),
    };
    let expression = Expression::from_str(&text).unwrap();
    let value = eval_expression(&asked.request, &asked.entities, &expression);
    let holds = matches!(value, Ok(EvalResult::Bool(true)));
    prop_assert_eq!(holds, condition.outcome == Outcome::Satisfied, "{}", text);
    for side in &condition.either {
        agrees(side, asked)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn an_explanation_says_what_the_decision_and_cedar_say(
        sketches in prop::collection::vec(sketch(), 0..6),
    ) {
        let text: String = sketches.iter().map(Sketch::text).collect();
        let policies = policies(&text);
        let ask = ask();
        let holding: Vec<&Sketch> = sketches.iter().filter(|sketch| sketch.holds()).collect();
        let expected = holding.iter().any(|sketch| sketch.permit)
            && holding.iter().all(|sketch| sketch.permit);
        let actions = &policies.actions["request"];
        let asked = entities::build(&ask.question(), Action::Request, &ask.facts, actions).unwrap();
        let (permitted, steps) = match ask.of(&policies) {
            Decision::Permit(_, steps) => (true, steps),
            Decision::Deny(denial) => (false, denial.steps),
        };
        prop_assert_eq!(permitted, expected);
        let satisfied = |permit| {
            steps.iter().any(|step| step.permit == permit && step.outcome == Outcome::Satisfied)
        };
        let says = satisfied(true) && !satisfied(false);
        prop_assert_eq!(says, permitted, "{:#?}", steps);
        for step in &steps {
            let line: usize = step.place.rsplit(':').next().unwrap().parse().unwrap();
            prop_assert_eq!(step.outcome == Outcome::Satisfied, sketches[line - 1].holds());
            // Of a permit that counted nothing is taken apart.
            if step.outcome != Outcome::Satisfied {
                prop_assert!(step.conditions.iter().any(|it| it.outcome != Outcome::Satisfied));
            }
            for condition in &step.conditions {
                agrees(condition, &asked)?;
            }
        }
    }
}

fn step_of(text: &str) -> Step {
    denial(ask().of(&policies(text))).steps.remove(0)
}

#[test]
fn a_condition_that_failed_says_what_it_saw_and_what_it_wanted() {
    for (condition, text, saw, wanted) in [
        ("principal.uid == 0", "principal.uid == 0", "principal.uid is 1000", "0"),
        (
            "principal has unit && principal.unit == \"a.service\"",
            "principal.unit == \"a.service\"",
            "principal.unit is not there",
            "\"a.service\"",
        ),
        (
            "context has target && context.target has exe && context.target.exe like \"/usr/*\"",
            "context.target.exe like \"/usr/*\"",
            "context.target is not there",
            "like \"/usr/*\"",
        ),
        ("context.assurance >= 3", "context.assurance >= 3", "context.assurance is 1", ">= 3"),
        ("3 <= context.assurance", "3 <= context.assurance", "context.assurance is 1", ">= 3"),
        (
            "principal in Group::\"27\"",
            "principal in Group::\"27\"",
            "principal's Group is Group::\"1000\"",
            "in Group::\"27\"",
        ),
        (
            "[\"file\"].contains(context.delivery)",
            "[\"file\"].contains(context.delivery)",
            "context.delivery is \"caller\"",
            "one of [\"file\"]",
        ),
        ("principal has tty", "principal has tty", "principal.tty is not there", "to be there"),
    ] {
        let step = step_of(&format!(
            "permit(principal, action, resource) when {{ principal.uid == 1000 && {condition} }};"
        ));
        let failed: Vec<&Condition> =
            step.conditions.iter().filter(|it| it.outcome != Outcome::Satisfied).collect();
        let [failed] = failed.as_slice() else { panic!("{step:#?}") };
        assert_eq!(failed.text, text);
        let seen: Vec<String> =
            failed.saw.iter().map(|saw| format!("{} is {}", saw.name, saw.value)).collect();
        assert_eq!(seen, [saw], "{text}");
        assert_eq!(failed.wanted.as_deref(), Some(wanted), "{text}");
    }
}

#[test]
fn the_sides_of_an_or_are_explained_each() {
    let step = step_of(
        "permit(principal, action, resource) when { principal has unit && \
         (principal.unit == \"a\" || (principal.uid == 0 && principal.gid == 0)) };",
    );
    let [failed] = step.conditions.as_slice() else { panic!("{step:#?}") };
    let [unit, uid] = failed.either.as_slice() else { panic!("{failed:#?}") };
    assert_eq!(unit.saw[0].value, "not there");
    assert_eq!((uid.saw[0].name.as_str(), uid.saw[0].value.as_str()), ("principal.uid", "1000"));
}

#[test]
fn a_forbid_is_explained_with_the_permit_that_it_overrides() {
    let text = "@id(\"p\") permit(principal, action, resource);\n\
                @id(\"f\") forbid(principal, action, resource) unless { principal has unit };";
    let denial = denial(ask().of(&policies(text)));
    let names: Vec<&str> = denial.steps.iter().map(|step| step.policy.as_str()).collect();
    assert_eq!(names, ["f", "p"]);
    assert!(denial.steps.iter().all(|step| step.outcome == Outcome::Satisfied));
    assert_eq!(denial.steps[0].conditions[0].text, "unless { principal has unit }");
}

#[test]
fn a_fact_that_could_not_be_read_is_not_called_missing() {
    let mut ask = ask();
    ask.attestation.requester.unit = Fact::Unreadable("no such process".into());
    let text = "permit(principal in Unit::\"a\", action, resource);";
    let denial = denial(ask.of(&policies(text)));
    let saw = &denial.steps[0].conditions[0].saw[0];
    assert_eq!(saw.value, "could not be read: no such process");
}

#[test]
fn a_policy_as_long_as_it_may_be_is_explained_within_bounds_and_a_longer_one_refused() {
    let many: Vec<String> = (0..1_000).map(|n| format!("principal.uid == {n}")).collect();
    let of = |count: usize, operator: &str| {
        let all = many[..count].join(operator);
        format!("permit(principal, action, resource) when {{ {all} }};\n")
    };
    // Each comparison counts for its dot, too.
    let text = format!("{}{}", of(120, " && "), of(120, " || "));
    let denial = denial(ask().of(&policies(&text)));
    let size: usize = denial.steps.iter().map(|step| format!("{step:?}").len()).sum();
    assert!(size < 200_000, "{size}");
    assert!(faults(&of(1_000, " && ")).contains("more than 256 operators"));
}
