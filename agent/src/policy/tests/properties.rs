//! Properties over generated sets of policies.

use super::*;
use proptest::prelude::*;

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
