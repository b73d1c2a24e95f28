//! What is valid Cedar and yet cannot be meant: conditions that nothing can
//! satisfy, permits that a forbid always overrides, limits that contradict.

use super::load::Rule;
use crate::attestation::Via;
use crate::config::near_miss;
use crate::names::CredentialName;
use crate::policy::{BindingKind, Delivery};
use cedar_policy::{ActionConstraint, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Forbids without conditions of their own that are compared with every permit.
const MAX_BROAD: usize = 256;

/// Something doubtful about a policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lint {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// A part of the policy's text to point at.
    pub(super) at: Option<String>,
}

impl Lint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, at: None }
    }

    fn at(mut self, text: &str) -> Self {
        self.at = Some(text.to_owned());
        self
    }

    fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

/// What is doubtful about one policy by itself.
pub(super) fn of(rule: &Rule) -> Vec<Lint> {
    let mut found = Vec::new();
    comparisons(&rule.json["conditions"], &mut found);
    entities(&rule.json, &mut found);
    if rule.permit {
        found.extend(contradiction(rule));
        if rule.limits.hold_none && rule.limits.max_uses.is_some_and(|uses| uses > 1) {
            let message = "@hold(\"none\") wipes it after one delivery, so @max_uses means nothing";
            found.push(Lint::new(message).at("@max_uses"));
        }
        if !rule.limits.approvals.is_empty() {
            let message = "no approver can be asked by this version: what this permits is refused";
            found.push(Lint::new(message).at("@approval"));
        }
    }
    found
}

/// `==` with a text that the attribute never has.
fn comparisons(value: &Value, found: &mut Vec<Lint>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| comparisons(item, found)),
        Value::Object(object) => {
            if let Some(pair) = object.get("==")
                && let Some((name, literal)) = equality(pair)
            {
                found.extend(never(&name, literal));
            }
            if let Some(pair) = object.get("contains")
                && let Some(name) = path(&pair["right"])
            {
                let members = pair["left"]["Set"].as_array().into_iter().flatten();
                found.extend(members.filter_map(|item| never(&name, item.get("Value")?)));
            }
            object.values().for_each(|inner| comparisons(inner, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An attribute and the literal that it is compared with.
fn equality(pair: &Value) -> Option<(String, &Value)> {
    let (left, right) = (&pair["left"], &pair["right"]);
    match (path(left), right.get("Value"), path(right), left.get("Value")) {
        (Some(name), Some(literal), ..) | (.., Some(name), Some(literal)) => Some((name, literal)),
        _ => None,
    }
}

/// `principal.exe`, `context.target.digest`.
fn path(value: &Value) -> Option<String> {
    if let Some(var) = value["Var"].as_str() {
        return Some(var.to_owned());
    }
    let access = value.get(".")?;
    Some(format!("{}.{}", path(&access["left"])?, access["attr"].as_str()?))
}

fn never(name: &str, literal: &Value) -> Option<Lint> {
    let attribute = name.rsplit('.').next().unwrap_or(name);
    if let Some(number) = literal.as_i64() {
        let most = match attribute {
            "hour" => 0..=23,
            "minute" => 0..=59,
            "weekday" => 1..=7,
            "assurance" | "assurance_with_jit" => 0..=4,
            _ => return None,
        };
        let wrong = format!("{name} is {} to {}, never {number}", most.start(), most.end());
        return (!most.contains(&number)).then(|| Lint::new(wrong));
    }
    let text = literal.as_str()?;
    let quoted = format!("{text:?}");
    let words: Vec<&str> = match name {
        "context.delivery" => Delivery::ALL.map(Delivery::name).to_vec(),
        "context.binding" => BindingKind::ALL.map(BindingKind::name).to_vec(),
        "context.via" => {
            [Via::Direct, Via::GenuineClient, Via::EnrolledClient].map(Via::name).to_vec()
        }
        "resource.class" => vec!["static", "dynamic"],
        _ => return malformed(name, attribute, text).map(|lint| lint.at(&quoted)),
    };
    if words.contains(&text) {
        return None;
    }
    let near = near_miss(text, words.iter().copied())
        .or_else(|| words.iter().copied().find(|word| word.starts_with(text)));
    let help = near.map(|near| format!("did you mean {near:?}?"));
    let help = help.unwrap_or_else(|| format!("it is one of {}", words.join(", ")));
    Some(Lint::new(format!("{name} is never {text:?}")).help(Some(help)).at(&quoted))
}

/// A path, a digest, a unit or a terminal that is not written as the agent has it.
fn malformed(name: &str, attribute: &str, text: &str) -> Option<Lint> {
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let (wrong, help) = match attribute {
        "exe" if !text.starts_with('/') => ("is an absolute path", None),
        "exe" if text.contains("/../") || text.contains("//") || text.contains("/./") => {
            ("is the path that the kernel names, without . and ..", None)
        }
        "digest" if !is_hex(text) || text.bytes().any(|b| b.is_ascii_uppercase()) => {
            let plain = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
            ("has 64 hex digits, in lower case", is_hex(&plain).then_some(plain))
        }
        "unit" if !text.contains('.') => {
            ("has its kind at the end", Some(format!("{text}.service")))
        }
        "tty" if text.starts_with("/dev/") => {
            ("stands without /dev/", text.strip_prefix("/dev/").map(str::to_owned))
        }
        _ => return None,
    };
    let help = help.map(|help| format!("did you mean {help:?}?"));
    Some(Lint::new(format!("{name} {wrong}: it is never {text:?}")).help(help))
}

/// Entities that no request has, in scope or conditions.
fn entities(value: &Value, found: &mut Vec<Lint>) {
    let Some(object) = value.as_object() else {
        if let Some(items) = value.as_array() {
            items.iter().for_each(|item| entities(item, found));
        }
        return;
    };
    if let (Some(kind), Some(id)) = (object.get("type"), object.get("id"))
        && let (Some(kind), Some(id)) = (kind.as_str(), id.as_str())
    {
        found.extend(nobody(kind, id).map(|lint| lint.at(&format!("{kind}::{id:?}"))));
        return;
    }
    object.values().for_each(|inner| entities(inner, found));
}

fn nobody(kind: &str, id: &str) -> Option<Lint> {
    let shown = format!("{kind}::{id:?}");
    let decimal = id.parse::<u32>().is_ok_and(|number| number.to_string() == id);
    let (why, help) = match kind {
        "User" if !decimal => ("a User is a uid in decimal", Some(format!("see: id -u {id}"))),
        "Group" if !decimal => {
            ("a Group is a gid in decimal", Some(format!("see: getent group {id}")))
        }
        "Unit" if !id.contains('.') => (
            "a unit has its kind at the end",
            Some(format!("did you mean Unit::{:?}?", format!("{id}.service"))),
        ),
        "Credential" if CredentialName::new(id).is_err() => {
            let prefix = id.strip_suffix('/').filter(|path| CredentialName::new(path).is_ok());
            let help = prefix.map(|path| format!("did you mean `resource in Path::{path:?}`?"));
            ("no credential can have that name", help)
        }
        "Path" if CredentialName::new(id).is_err() => {
            let plain = id.trim_matches('/');
            let help = CredentialName::new(plain).is_ok();
            (
                "a Path has no slash at its ends",
                help.then(|| format!("did you mean Path::{plain:?}?")),
            )
        }
        "Agent" if id != "jsi" => ("there is only Agent::\"jsi\"", None),
        _ => return None,
    };
    Some(Lint::new(format!("{shown} is nobody's: {why}")).help(help))
}

/// Two things that one attribute cannot be at once.
fn contradiction(rule: &Rule) -> Option<Lint> {
    let mut wanted: BTreeMap<String, &Value> = BTreeMap::new();
    for part in conjuncts(rule) {
        let Some((name, literal)) = part.get("==").and_then(equality) else { continue };
        if let Some(other) = wanted.insert(name.clone(), literal)
            && other != literal
        {
            let message = format!("it never applies: {name} cannot be both {other} and {literal}");
            return Some(Lint::new(message));
        }
    }
    let user = match rule.policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        PrincipalConstraint::Any | PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) => None,
    };
    let user = user.filter(|uid| uid.type_name().to_string() == "User")?;
    let uid = wanted.get("principal.uid")?;
    let wanted = uid.to_string();
    (wanted != user.id().unescaped())
        .then(|| Lint::new(format!("it never applies: {user} does not have the uid {uid}")))
}

/// What must hold, part by part, of all `when`.
fn conjuncts(rule: &Rule) -> Vec<&Value> {
    let whens = rule.json["conditions"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for condition in whens.filter(|condition| condition["kind"] == "when") {
        split(&condition["body"], &mut found);
    }
    found
}

fn split<'v>(body: &'v Value, found: &mut Vec<&'v Value>) {
    match body.get("&&") {
        Some(pair) => {
            split(&pair["left"], found);
            split(&pair["right"], found);
        }
        None => found.push(body),
    }
}

/// What is doubtful about policies together, each by its place in the list.
pub(super) fn across(rules: &[Arc<Rule>]) -> Vec<(usize, Lint)> {
    let mut found = shadowed(rules);
    found.extend(bindings(rules));
    found
}

/// Permits that a forbid overrides whenever they hold.
fn shadowed(rules: &[Arc<Rule>]) -> Vec<(usize, Lint)> {
    let whole = |rule: &&Arc<Rule>| {
        let conditions = rule.json["conditions"].as_array().into_iter().flatten();
        !rule.permit && !rule.builtin && conditions.clone().all(|one| one["kind"] == "when")
    };
    let forbids: Vec<_> = rules.iter().filter(whole).take(MAX_BROAD).collect();
    let parts: Vec<Vec<&Value>> = forbids.iter().map(|rule| conjuncts(rule)).collect();
    let mut found = Vec::new();
    for (at, permit) in rules.iter().enumerate().filter(|(_, rule)| rule.permit && !rule.builtin) {
        let own = conjuncts(permit);
        let shadow = forbids.iter().zip(&parts).find(|(forbid, parts)| {
            reaches(forbid, permit) && parts.iter().all(|part| is_true(part) || own.contains(part))
        });
        if let Some((forbid, _)) = shadow {
            let message = format!(
                "it never permits: the forbid {} ({}) always overrides it",
                forbid.name, forbid.place
            );
            found.push((at, Lint::new(message)));
        }
    }
    found
}

fn is_true(part: &Value) -> bool {
    part["Value"] == Value::Bool(true)
}

/// The forbid's scope covers all of the permit's.
fn reaches(forbid: &Rule, permit: &Rule) -> bool {
    let (f, p) = (&forbid.policy, &permit.policy);
    let principal = match (f.principal_constraint(), p.principal_constraint()) {
        (PrincipalConstraint::Any | PrincipalConstraint::Is(_), _) => true,
        (forbids, permits) => forbids == permits,
    };
    let action = match (f.action_constraint(), p.action_constraint()) {
        (ActionConstraint::Any, _) => true,
        (forbids, permits) => forbids == permits,
    };
    let within = |path: &str, name: &str| {
        name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let resource = match (f.resource_constraint(), p.resource_constraint()) {
        (ResourceConstraint::Any, _) => true,
        (ResourceConstraint::In(path), ResourceConstraint::Eq(of) | ResourceConstraint::In(of)) => {
            within(path.id().unescaped(), of.id().unescaped())
        }
        (forbids, permits) => forbids == permits,
    };
    principal && action && resource
}

/// Permits of one credential that demand different bindings: where both hold,
/// the request is denied.
fn bindings(rules: &[Arc<Rule>]) -> Vec<(usize, Lint)> {
    let mut first: HashMap<String, &Arc<Rule>> = HashMap::new();
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.limits.bind.is_some()) {
        let key = format!(
            "{:?} {:?}",
            rule.policy.principal_constraint(),
            rule.policy.resource_constraint()
        );
        let other = *first.entry(key).or_insert(rule);
        if other.limits.bind != rule.limits.bind {
            let message = format!(
                "it demands another @bind than {} ({}): what both permit is denied",
                other.name, other.place
            );
            found.push((at, Lint::new(message).at("@bind")));
        }
    }
    found
}
