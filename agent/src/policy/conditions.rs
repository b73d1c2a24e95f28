//! A policy's scope and conditions taken apart at `&&` and `||`, each part as an
//! expression that Cedar evaluates by itself, with the attributes that it names
//! and what it wants of them. Done once for a policy, when it is first explained.

use super::facts::Whose;
use cedar_policy::{EntityUid, Expression, Policy, PrincipalConstraint, ResourceConstraint};
use serde_json::{Value, json};
use std::str::FromStr;

/// Parts of one policy that are explained; a longer one is explained so far.
const MAX_CLAUSES: usize = 64;
/// Alternatives of one `||`.
const MAX_ALTERNATIVES: usize = 16;
/// Values shown beside one condition.
const MAX_VALUES: usize = 4;
/// Characters of a condition's own text.
const MAX_TEXT: usize = 600;

/// One part: everything between two `&&`.
pub(super) struct Clause {
    pub(super) text: String,
    pub(super) expression: Expression,
    /// The attributes that it names.
    pub(super) values: Vec<Named>,
    /// What it wants of them, in words.
    pub(super) wanted: Option<String>,
    /// It only asks whether something is there that a later part looks at.
    pub(super) guard: bool,
    /// The parts of its `||`, where it is one.
    pub(super) either: Vec<Alternative>,
}

/// One side of a `||`.
pub(super) struct Alternative {
    pub(super) text: String,
    pub(super) all: Vec<Clause>,
}

/// Something that a condition looks at.
pub(super) struct Named {
    /// `principal.exe`
    pub(super) name: String,
    pub(super) source: Source,
    /// Whose fact it is, and which, where it is one.
    pub(super) fact: Option<(Whose, String)>,
    /// `context.target` of `context.target.exe`, which may be missing as a whole.
    pub(super) base: Option<Box<Named>>,
}

/// Where its value is found.
pub(super) enum Source {
    Expression(Expression),
    /// The entities of that kind that the requester is in.
    Groups(String),
}

/// All parts of a policy: its scope, then its conditions.
pub(super) fn clauses(policy: &Policy, json: &Value) -> Vec<Clause> {
    let mut found = scope(policy);
    for condition in json["conditions"].as_array().into_iter().flatten() {
        let body = &condition["body"];
        if condition["kind"] == "unless" {
            found.extend(unless(body));
        } else {
            found.extend(conjunction(body));
        }
    }
    found.truncate(MAX_CLAUSES);
    found
}

fn scope(policy: &Policy) -> Vec<Clause> {
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => None,
        PrincipalConstraint::In(uid) => Some((format!("principal in {uid}"), Some(uid))),
        PrincipalConstraint::Eq(uid) => Some((format!("principal == {uid}"), None)),
        PrincipalConstraint::Is(kind) => Some((format!("principal is {kind}"), None)),
        PrincipalConstraint::IsIn(kind, uid) => {
            Some((format!("principal is {kind} in {uid}"), Some(uid)))
        }
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::In(uid) => Some(format!("resource in {uid}")),
        ResourceConstraint::Eq(uid) => Some(format!("resource == {uid}")),
        ResourceConstraint::Is(kind) => Some(format!("resource is {kind}")),
        ResourceConstraint::IsIn(kind, uid) => Some(format!("resource is {kind} in {uid}")),
    };
    let principal = principal.and_then(|(text, group)| {
        Some(Clause {
            values: group.iter().map(groups).collect(),
            wanted: group.map(|uid| format!("in {uid}")),
            ..Clause::of(text)?
        })
    });
    let resource = resource.and_then(|text| {
        let named = Named {
            name: "resource".to_owned(),
            source: Source::Expression(Expression::from_str("resource").ok()?),
            fact: None,
            base: None,
        };
        Some(Clause { values: vec![named], ..Clause::of(text)? })
    });
    principal.into_iter().chain(resource).collect()
}

/// The groups of the requester that are of that one's kind.
fn groups(uid: &EntityUid) -> Named {
    of_kind(uid.type_name().to_string())
}

fn of_kind(kind: String) -> Named {
    let fact = (kind == "Unit").then(|| (Whose::Requester, "unit".to_owned()));
    let name = format!("principal's {kind}");
    Named { name, source: Source::Groups(kind), fact, base: None }
}

impl Clause {
    fn of(text: String) -> Option<Self> {
        let expression = Expression::from_str(&text).ok()?;
        let text = shortened(text);
        let (values, either) = (Vec::new(), Vec::new());
        Some(Self { text, expression, values, wanted: None, guard: false, either })
    }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// The parts of one `when`.
fn conjunction(body: &Value) -> Vec<Clause> {
    let mut parts = Vec::new();
    split(body, "&&", &mut parts);
    let mut found = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let Some(clause) = clause(part) else { continue };
        let later = &parts[at + 1..];
        let guard = guarded(part).is_some_and(|path| later.iter().any(|part| holds(part, &path)));
        found.push(Clause { guard, ..clause });
    }
    found
}

fn clause(body: &Value) -> Option<Clause> {
    if let Some((left, operator, right)) = comparison(body) {
        let text = format!("{} {operator} {}", source(left)?, source(right)?);
        let wanted = compared(left, operator, right);
        return Some(Clause { values: values(body), wanted, ..Clause::of(text)? });
    }
    let text = source(body)?;
    let mut sides = Vec::new();
    split(body, "||", &mut sides);
    if sides.len() < 2 {
        return Some(Clause { values: values(body), wanted: wanted(body), ..Clause::of(text)? });
    }
    let alternative = |side: &&Value| {
        Some(Alternative { text: shortened(source(side)?), all: conjunction(side) })
    };
    let either = sides.iter().take(MAX_ALTERNATIVES).filter_map(alternative).collect();
    Some(Clause { either, ..Clause::of(text)? })
}

/// `unless { … }`: the policy applies where the whole of it does not hold.
fn unless(body: &Value) -> Option<Clause> {
    let negated = source(&json!({ "!": { "arg": body } }))?;
    let shown = shortened(format!("unless {{ {} }}", source(body)?));
    Some(Clause { text: shown, values: values(body), ..Clause::of(negated)? })
}

fn split<'v>(body: &'v Value, operator: &str, found: &mut Vec<&'v Value>) {
    match body.get(operator) {
        Some(pair) => {
            split(&pair["left"], operator, found);
            split(&pair["right"], operator, found);
        }
        None => found.push(body),
    }
}

/// What a `has` or `hasTag` asks for, as the expression that would read it.
fn guarded(body: &Value) -> Option<Value> {
    if let Some(has) = body.get("has") {
        return Some(json!({ ".": has }));
    }
    body.get("hasTag").map(|has| json!({ "getTag": has }))
}

/// `path` stands somewhere in `body`, or is the base of what `has` asks there.
fn holds(body: &Value, path: &Value) -> bool {
    if body == path {
        return true;
    }
    match body {
        Value::Array(items) => items.iter().any(|item| holds(item, path)),
        Value::Object(object) => object.values().any(|inner| holds(inner, path)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A comparison as it was written: Cedar keeps `a >= b` as `!(a < b)`.
fn comparison(body: &Value) -> Option<(&Value, &'static str, &Value)> {
    let (inner, operators) = match body.get("!") {
        Some(negated) => (&negated["arg"], [("<", ">="), ("<=", ">"), ("==", "!=")].as_slice()),
        None => {
            (body, [("==", "=="), ("<", "<"), ("<=", "<="), (">", ">"), (">=", ">=")].as_slice())
        }
    };
    operators.iter().find_map(|(kept, written)| {
        let pair = inner.get(kept)?;
        Some((&pair["left"], *written, &pair["right"]))
    })
}

/// It is read from the request, and is no literal.
fn reads(side: &Value) -> bool {
    side.get(".").is_some() || side.get("getTag").is_some() || side.get("Var").is_some()
}

/// What a comparison wants of the side that is read.
fn compared(left: &Value, operator: &str, right: &Value) -> Option<String> {
    let swapped = !reads(left);
    let other = shortened(source(if swapped { left } else { right })?);
    let operator = match (operator, swapped) {
        ("<", true) => ">",
        ("<=", true) => ">=",
        (">", true) => "<",
        (">=", true) => "<=",
        (as_it_is, _) => as_it_is,
    };
    Some(match operator {
        "==" => other,
        "!=" => format!("anything but {other}"),
        operator => format!("{operator} {other}"),
    })
}

/// What other conditions want of the value that they look at.
fn wanted(body: &Value) -> Option<String> {
    let object = body.as_object()?;
    let (operator, arguments) = object.iter().next()?;
    let (left, right) = (&arguments["left"], &arguments["right"]);
    match operator.as_str() {
        "like" => {
            let text = source(body)?;
            Some(text[text.find(" like ")? + 1..].to_owned())
        }
        "contains" if reads(right) => Some(format!("one of {}", shortened(source(left)?))),
        "in" => Some(format!("in {}", shortened(source(right)?))),
        "has" => Some("to be there".to_owned()),
        "hasTag" => Some("to be given".to_owned()),
        _ => None,
    }
}

/// The longest attribute paths that an expression names, and the groups.
fn values(body: &Value) -> Vec<Named> {
    let mut found = Vec::new();
    accesses(body, &mut found);
    let mut named: Vec<Named> = found.iter().filter_map(attribute).collect();
    let mut kinds = Vec::new();
    group_kinds(body, &mut kinds);
    named.extend(kinds.into_iter().map(of_kind));
    named.truncate(MAX_VALUES);
    named
}

fn attribute(path: &Value) -> Option<Named> {
    let name = source(path)?;
    let fact = name
        .strip_prefix("principal.")
        .map(|attribute| (Whose::Requester, attribute.to_owned()))
        .or_else(|| {
            let attribute =
                name.strip_prefix("context.caller.").or_else(|| name.strip_prefix("context."))?;
            Some((Whose::Caller, attribute.to_owned()))
        });
    let source = Source::Expression(Expression::from_str(&name).ok()?);
    let inner = path.get(".").map(|access| &access["left"]);
    let base = inner.filter(|inner| inner.get(".").is_some()).and_then(attribute).map(Box::new);
    Some(Named { name: shortened(name), source, fact, base })
}

/// `context.target.exe`, with the whole of a `has` as what it asks for.
fn accesses(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| accesses(item, found)),
        Value::Object(object) => {
            for (key, inner) in object {
                let path = match key.as_str() {
                    "." | "getTag" => json!({ key.as_str(): inner }),
                    "has" => json!({ ".": inner }),
                    "hasTag" => json!({ "getTag": inner }),
                    _ => {
                        accesses(inner, found);
                        continue;
                    }
                };
                if !found.contains(&path) {
                    found.push(path);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The kinds of entities on the right of each `principal in`.
fn group_kinds(value: &Value, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        if let Some(items) = value.as_array() {
            items.iter().for_each(|item| group_kinds(item, found));
        }
        return;
    };
    for (key, inner) in object {
        if key == "in" && inner["left"]["Var"] == "principal" {
            entity_kinds(&inner["right"], found);
        } else {
            group_kinds(inner, found);
        }
    }
}

fn entity_kinds(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| entity_kinds(item, found)),
        Value::Object(object) => {
            for (key, inner) in object {
                match inner.as_str() {
                    Some(kind) if key == "type" => {
                        if !found.iter().any(|known| known == kind) {
                            found.push(kind.to_owned());
                        }
                    }
                    _ => entity_kinds(inner, found),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An expression's text, by way of a policy that has it as its condition.
pub(super) fn source(body: &Value) -> Option<String> {
    let everything = json!({ "op": "All" });
    let policy = json!({
        "effect": "permit", "principal": everything, "action": everything, "resource": everything,
        "conditions": [{ "kind": "when", "body": body }],
    });
    let text = Policy::from_json(None, policy).ok()?.to_cedar()?;
    let from = text.find("when {")? + "when {".len();
    let to = text.rfind('}')?;
    Some(text.get(from..to)?.trim().to_owned())
}
