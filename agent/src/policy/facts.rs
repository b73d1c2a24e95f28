//! Which facts a policy names, read from its JSON, so that a forbid is never
//! escaped by a fact that could not be read.

use super::Question;
use crate::attestation::{Fact, ProcessFacts, Via};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whose fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// `principal`
    Requester,
    /// `context.caller`, `context.tty`
    Caller,
}

/// Attributes by whom they belong to; `*` is all of them.
pub(super) type Names = BTreeSet<(Whose, String)>;

const ALL: &str = "*";
/// The whole of `context.target`.
const ALL_OF_TARGET: &str = "target.*";

/// The facts that a policy names, in scope or conditions. Where it cannot be
/// told whose an attribute is, it counts for both.
pub(super) fn named(policy: &Value) -> Names {
    let mut names = Names::new();
    walk(policy, &mut names);
    names
}

/// The facts of who asks, and of the target, that exist, or may, and could not
/// be read: attribute and why.
pub(super) fn unreadable(question: &Question<'_>) -> Vec<(Whose, &'static str, String)> {
    let attestation = question.attestation;
    let mut found = Vec::new();
    for (whose, process) in
        [(Whose::Requester, &attestation.requester), (Whose::Caller, &attestation.caller)]
    {
        for (attribute, why) in of_process(process) {
            found.push((whose, attribute, why));
        }
    }
    if let Some(target) = question.target.filter(|_| attestation.via != Via::Direct) {
        found.extend(target.unreadable().into_iter().map(|(name, why)| (Whose::Caller, name, why)));
    }
    found
}

/// The first of the unreadable facts that is named.
pub(super) fn blocking<'a>(
    names: &Names,
    unreadable: &'a [(Whose, &'static str, String)],
) -> Option<&'a (Whose, &'static str, String)> {
    unreadable.iter().find(|(whose, attribute, _)| {
        names.contains(&(*whose, (*attribute).to_owned()))
            || names.contains(&(*whose, ALL.to_owned()))
            || (attribute.starts_with("target.")
                && names.contains(&(*whose, ALL_OF_TARGET.to_owned())))
    })
}

fn of_process(process: &ProcessFacts) -> Vec<(&'static str, String)> {
    fn why<T>(fact: &Fact<T>) -> Option<String> {
        match fact {
            Fact::Unreadable(why) => Some(why.clone()),
            Fact::Known(_) | Fact::Absent => None,
        }
    }
    let mut found = Vec::new();
    if let Some(why) = why(&process.exe) {
        for attribute in ["exe", "digest", "verity", "ima", "exe_owner"] {
            found.push((attribute, why.clone()));
        }
    }
    // A file that the agent cannot find under its path still has one, in the
    // process's own view: a mount namespace must not hide it from a forbid.
    if process.exe.known().is_some_and(|exe| exe.path.is_none()) {
        found.push(("exe", "the agent's own view of its path is another file".to_owned()));
    }
    let texts = [
        ("tty", &process.tty),
        ("unit", &process.unit),
        ("container", &process.container),
        ("cgroup", &process.cgroup),
    ];
    let texts = texts.into_iter().chain(process.around.texts());
    found.extend(texts.filter_map(|(name, fact)| Some((name, why(fact)?))));
    let around = &process.around;
    found.extend(why(&around.seccomp).map(|why| ("seccomp", why)));
    found.extend(why(&around.no_new_privs).map(|why| ("no_new_privs", why)));
    found.extend(why(&around.namespaces).map(|why| ("namespaces", why)));
    found
}

fn walk(value: &Value, names: &mut Names) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, names)),
        Value::Object(object) => {
            for (key, inner) in object {
                match (key.as_str(), access(inner)) {
                    // Handed on as a whole; `context.target.x` is met before it.
                    (".", Some((base, "target"))) if is_var(base, "context") => {
                        names.insert((Whose::Caller, ALL_OF_TARGET.to_owned()));
                    }
                    ("." | "has", Some((base, attribute))) => name(base, attribute, names),
                    // The whole record: every fact in it.
                    ("Var", None) if inner == "context" => {
                        names.insert((Whose::Caller, ALL.to_owned()));
                    }
                    ("type" | "entity_type", None) if inner == "Unit" => {
                        names.insert((Whose::Requester, "unit".to_owned()));
                    }
                    _ => walk(inner, names),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `{"left": base, "attr": name}`
fn access(value: &Value) -> Option<(&Value, &str)> {
    Some((value.get("left")?, value.get("attr")?.as_str()?))
}

fn is_var(value: &Value, name: &str) -> bool {
    value.get("Var").is_some_and(|var| var == name)
}

fn name(base: &Value, attribute: &str, names: &mut Names) {
    let mut add = |whose, attribute: &str| {
        names.insert((whose, attribute.to_owned()));
    };
    if is_var(base, "principal") {
        return add(Whose::Requester, attribute);
    }
    if is_var(base, "context") {
        // `context.caller` as a whole; `context.caller.x` is met below before it.
        return add(Whose::Caller, if attribute == "caller" { ALL } else { attribute });
    }
    if is_var(base, "resource") {
        return;
    }
    match base.get(".").and_then(access) {
        Some((inner, "caller")) if is_var(inner, "context") => add(Whose::Caller, attribute),
        Some((inner, "target")) if is_var(inner, "context") => {
            add(Whose::Caller, &format!("target.{attribute}"));
        }
        Some((inner, _)) if is_var(inner, "context") => {}
        _ => {
            add(Whose::Requester, attribute);
            add(Whose::Caller, attribute);
            walk(base, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let policy = cedar_policy::Policy::parse(None, text).unwrap();
        named(&policy.to_json().unwrap())
            .into_iter()
            .map(|(whose, name)| format!("{whose:?}.{name}"))
            .collect()
    }

    #[test]
    fn facts_are_found_wherever_a_forbid_names_them() {
        for (text, expected) in [
            (r#"forbid(principal, action, resource);"#, vec![]),
            (r#"forbid(principal in Unit::"a", action, resource);"#, vec!["Requester.unit"]),
            (
                r#"forbid(principal is Requester in Unit::"a", action, resource);"#,
                vec!["Requester.unit"],
            ),
            (
                r#"forbid(principal, action, resource) when { principal in [Unit::"a", User::"1"] };"#,
                vec!["Requester.unit"],
            ),
            (
                r#"forbid(principal, action, resource) unless { principal has digest && principal.exe like "/usr/*" };"#,
                vec!["Requester.digest", "Requester.exe"],
            ),
            (
                r#"forbid(principal, action, resource) when { context.caller has tty };"#,
                vec!["Caller.tty"],
            ),
            (
                r#"forbid(principal, action, resource) unless { principal.namespaces.host_net };"#,
                vec!["Requester.host_net", "Requester.namespaces", "Caller.host_net"],
            ),
            (
                r#"forbid(principal, action, resource) when { context.caller.namespaces.mnt == 1 };"#,
                vec!["Requester.mnt", "Caller.mnt", "Caller.namespaces"],
            ),
            (
                r#"forbid(principal, action, resource) when { context has tty };"#,
                vec!["Caller.tty"],
            ),
            (
                r#"forbid(principal, action, resource) when { [context.caller].contains(context.caller) };"#,
                vec!["Caller.*"],
            ),
            (
                r#"forbid(principal, action, resource) when { context has target && context.target.exe == "/a" };"#,
                vec!["Caller.target", "Caller.target.exe"],
            ),
            (
                r#"forbid(principal, action, resource) unless { context.target has digest };"#,
                vec!["Caller.target.digest"],
            ),
            (
                r#"forbid(principal, action, resource) when { [context.target].contains(context.target) };"#,
                vec!["Caller.target.*"],
            ),
            (
                r#"forbid(principal, action, resource) when { (if true then principal else principal).exe == "a" };"#,
                vec!["Requester.exe", "Caller.exe"],
            ),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}
