//! A plan as it is shown: names and references, never values.

use super::{Item, Origin, Plan, Want};
use crate::output;
use jsi_client::show_duration;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the agent says of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The requester may have it, as far as that depends on the requester.
    Permitted,
    /// It may not; or there is no such credential, which only operators are told.
    Refused,
    /// There is no such credential.
    Missing,
}

/// What the agent says, by credential; none where it could not be asked.
pub(crate) type Verdicts = BTreeMap<String, Verdict>;

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Permitted => "yes",
            Self::Refused => "no",
            Self::Missing => "no such credential",
        }
    }
}

/// A line for each variable.
pub(crate) fn table(plan: &Plan, verdicts: Option<&Verdicts>) -> String {
    let mut heading = vec!["NAME", "GIVEN AS", "CREDENTIALS", "TTL", "SCOPE", "FROM"];
    heading.extend(verdicts.map(|_| "PERMITTED"));
    let rows: Vec<Vec<String>> = plan.items().iter().map(|item| row(item, verdicts)).collect();
    output::table(&heading, &rows)
}

fn row(item: &Item, verdicts: Option<&Verdicts>) -> Vec<String> {
    let wants: Vec<&Want> = item.text.wants().collect();
    let each = |show: &dyn Fn(&Want) -> String| {
        let mut shown: Vec<String> = wants.iter().map(|want| show(want)).collect();
        shown.dedup();
        shown.retain(|text| !text.is_empty());
        shown.join(", ")
    };
    let scope = |want: &Want| {
        let pairs: Vec<_> =
            want.scope.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(" ")
    };
    let mut row = vec![
        item.name.clone(),
        item.mode.word().to_owned(),
        each(&|want| want.to_string()),
        each(&|want| want.ttl.map(show_duration).unwrap_or_default()),
        each(&scope),
        item.origin.to_string(),
    ];
    let verdict = |want: &Want| verdicts.and_then(|found| found.get(&want.reference.credential));
    row.extend(verdicts.map(|_| {
        each(&|want| verdict(want).map(|found| found.word().to_owned()).unwrap_or_default())
    }));
    row
}

/// The same for programs.
pub(crate) fn json(plan: &Plan, verdicts: Option<&Verdicts>) -> Value {
    let want = |want: &Want| {
        let verdict = verdicts.and_then(|found| found.get(&want.reference.credential));
        json!({
            "credential": want.reference.credential,
            "field": want.reference.field,
            "filters": want.filters.iter().map(|filter| filter.name()).collect::<Vec<_>>(),
            "ttl_s": want.ttl.map(|ttl| ttl.as_secs()),
            "scope": want.scope,
            "permitted": verdict.map(|found| *found == Verdict::Permitted),
            "exists": match verdict {
                Some(Verdict::Permitted) => Some(true),
                Some(Verdict::Missing) => Some(false),
                _ => None,
            },
        })
    };
    let item = |item: &Item| {
        json!({
            "name": item.name,
            "given_as": item.mode.word(),
            "references": item.text.wants().map(want).collect::<Vec<_>>(),
            "from": match &item.origin {
                Origin::Flag(flag) => json!({ "flag": flag }),
                Origin::Environment => json!({ "environment": true }),
                Origin::Template(path) => json!({ "template": path.display().to_string() }),
                Origin::File { path, line } => json!({ "file": path.display().to_string(), "line": line }),
            },
        })
    };
    Value::Array(plan.items().iter().map(item).collect())
}
