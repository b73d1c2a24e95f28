//! What policies name: programs and credentials, for a check against the host,
//! and each policy in a line, for a list.

use super::{Fault, Policies};
use cedar_policy::{PrincipalConstraint, ResourceConstraint};
use serde_json::Value;
use std::collections::BTreeSet;

/// A program that a policy names by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The path.
    pub exe: String,
    /// The digest that must hold beside it.
    pub digest: Option<String>,
    /// The policy.
    pub place: Fault,
}

/// One policy, in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its @id, or file and line.
    pub name: String,
    /// It is a permit (else a forbid).
    pub permit: bool,
    /// `db/orders`, `db/`, `agent`, or `*`.
    pub resource: String,
    /// `User::"1000"`, or `*`.
    pub principal: String,
    /// Conditions stand behind it.
    pub conditions: bool,
    /// The limits that it brings, as annotation and value.
    pub limits: Vec<(String, String)>,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Policies {
    /// The programs that permits name: of requester, caller and target.
    #[must_use]
    pub fn programs(&self) -> Vec<Program> {
        let mut found = Vec::new();
        for (rule, place) in self.rules.iter().zip(&self.places).filter(|(rule, _)| rule.permit) {
            let mut named = Vec::new();
            equalities(&rule.json["conditions"], &mut named);
            let of = |base: &Value, attribute: &str| {
                let mut same = named.iter().filter(|(b, a, _)| *b == base && *a == attribute);
                let first = same.next().map(|(_, _, text)| (*text).to_owned());
                first.filter(|_| same.next().is_none())
            };
            for (base, _, exe) in
                named.iter().filter(|(_, name, exe)| *name == "exe" && exe.starts_with('/'))
            {
                let place = Fault { policy: Some(rule.name.clone()), ..place.clone() };
                let only = of(base, "exe").is_some();
                let digest = of(base, "digest").filter(|_| only);
                found.push(Program { exe: (*exe).to_owned(), digest, place });
            }
        }
        found
    }

    /// The credentials that policies name, whether by a permit, and where.
    #[must_use]
    pub fn credentials(&self) -> Vec<(String, bool, Fault)> {
        let mut found = Vec::new();
        for (rule, place) in self.rules.iter().zip(&self.places).filter(|(rule, _)| !rule.builtin) {
            let mut names = BTreeSet::new();
            entities(&rule.json, "Credential", &mut names);
            for name in names {
                let place = Fault { policy: Some(rule.name.clone()), ..place.clone() };
                found.push((name, rule.permit, place));
            }
        }
        found
    }

    /// Every policy but the built-in ones, in the order of files and lines.
    #[must_use]
    pub fn listed(&self) -> Vec<Listed> {
        let rules = self.rules.iter().zip(&self.places).filter(|(rule, _)| !rule.builtin);
        rules
            .map(|(rule, place)| Listed {
                name: rule.name.clone(),
                permit: rule.permit,
                resource: match rule.policy.resource_constraint() {
                    ResourceConstraint::Any => "*".to_owned(),
                    ResourceConstraint::Is(kind) => format!("any {kind}"),
                    ResourceConstraint::In(uid)
                    | ResourceConstraint::Eq(uid)
                    | ResourceConstraint::IsIn(_, uid) => {
                        let slash = uid.type_name().to_string() == "Path";
                        format!("{}{}", uid.id().unescaped(), if slash { "/" } else { "" })
                    }
                },
                principal: match rule.policy.principal_constraint() {
                    PrincipalConstraint::Any | PrincipalConstraint::Is(_) => "*".to_owned(),
                    PrincipalConstraint::In(uid)
                    | PrincipalConstraint::Eq(uid)
                    | PrincipalConstraint::IsIn(_, uid) => uid.to_string(),
                },
                conditions: rule.json["conditions"].as_array().is_some_and(|all| !all.is_empty()),
                limits: rule.limits.pairs(),
                file: place.file.clone(),
                line: place.line,
            })
            .collect()
    }
}

/// `base.attribute == "text"`, wherever it stands.
fn equalities<'v>(value: &'v Value, found: &mut Vec<(&'v Value, &'v str, &'v str)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| equalities(item, found)),
        Value::Object(object) => {
            if let Some(pair) = object.get("==") {
                for (read, literal) in [("left", "right"), ("right", "left")] {
                    let access = &pair[read]["."];
                    if let (Some(name), Some(text)) =
                        (access["attr"].as_str(), pair[literal]["Value"].as_str())
                    {
                        found.push((&access["left"], name, text));
                    }
                }
            }
            object.values().for_each(|inner| equalities(inner, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn entities(value: &Value, of: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| entities(item, of, found)),
        Value::Object(object) => {
            if let (Some(kind), Some(id)) = (object.get("type"), object.get("id"))
                && kind == of
            {
                found.extend(id.as_str().map(str::to_owned));
            }
            object.values().for_each(|inner| entities(inner, of, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
