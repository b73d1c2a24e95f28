//! What is valid and still worth a second look.

use super::lints::Lint;
use super::load::Rule;
use cedar_policy::PrincipalConstraint;
use serde_json::Value;

/// Programs that run whatever they are given: to name one is to name nobody.
const INTERPRETERS: [&str; 22] = [
    "bash", "sh", "dash", "zsh", "ksh", "fish", "busybox", "perl", "node", "nodejs", "deno", "bun",
    "ruby", "java", "php", "lua", "awk", "gawk", "env", "xargs", "pwsh", "tclsh",
];
/// Attributes that name a program.
const PROGRAM: [&str; 4] = ["exe", "digest", "verity", "exe_owner"];
/// Attributes that join a program with where it runs. The time of day and the scope
/// are anybody's choice, and do not.
const SECOND: [&str; 7] = ["unit", "container", "cgroup", "tty", "invocation", "pod", "lsm"];

/// The warnings about one policy.
pub(super) fn of(rule: &Rule) -> Vec<Lint> {
    if !rule.permit {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut seen = Seen::default();
    seen.walk(&rule.json["conditions"]);
    let scope = rule.policy.principal_constraint();
    let group = scope_group(&scope);
    if let PrincipalConstraint::Eq(uid) = &scope {
        found.push(format!(
            "it names {uid}, and a requester is a new one at each request: it never applies"
        ));
    } else if group.is_none()
        && seen.principal.is_empty()
        && seen.caller.is_empty()
        && !seen.groups
        && !seen.target
    {
        if rule.limits.approvals.is_empty() {
            found.push(
                "it says nothing of the requester: every process that reaches the socket is meant"
                    .to_owned(),
            );
        }
    } else {
        let program = seen.program();
        let second =
            group.as_deref() == Some("Unit") || seen.second || !rule.limits.approvals.is_empty();
        // Where the text of a script is named too, it is not whatever.
        let texts = if seen.script { &[][..] } else { &seen.texts };
        let interpreter = texts.iter().find_map(|text| interpreter(text));
        match (program, second, interpreter) {
            (true, false, Some(name)) => found.push(format!(
                "{name} runs whatever it is given, so to name it is to name every program; join it with a unit, a cgroup or an approval, or name the target"
            )),
            (true, false, None) => found.push(
                "whoever can start this program can have what it is given; join it with a unit, a cgroup or an approval".to_owned(),
            ),
            _ => {}
        }
    }
    if seen.script && !seen.reader {
        found.push(
            "it names the text of a script and not what reads it, which PATH or a link may choose; name context.target.interpreter or interpreter_digest too"
                .to_owned(),
        );
    }
    found.into_iter().map(Lint::new).collect()
}

fn scope_group(scope: &PrincipalConstraint) -> Option<String> {
    match scope {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid.type_name().to_string())
        }
        PrincipalConstraint::Any | PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) => None,
    }
}

/// The interpreter that a path is of, if it is one: `python3.12` is `python`.
fn interpreter(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().filter(|_| path.starts_with('/'))?;
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '*');
    (INTERPRETERS.contains(&stem) || stem == "python" || stem == "pypy").then_some(name)
}

/// What the conditions of a policy speak of.
#[derive(Default)]
struct Seen {
    principal: Vec<String>,
    caller: Vec<String>,
    target: bool,
    /// The text of a script, and what reads it.
    script: bool,
    reader: bool,
    groups: bool,
    second: bool,
    texts: Vec<String>,
}

impl Seen {
    fn program(&self) -> bool {
        let names = |list: &[String]| list.iter().any(|name| PROGRAM.contains(&name.as_str()));
        self.target || names(&self.principal) || names(&self.caller)
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(object) => {
                for (key, inner) in object {
                    if matches!(key.as_str(), "." | "has")
                        && let Some(attribute) = inner["attr"].as_str()
                    {
                        self.attribute(&inner["left"], attribute);
                    }
                    match (key.as_str(), inner) {
                        ("Value", Value::String(text)) => self.texts.push(text.clone()),
                        ("type", Value::String(kind)) if kind == "Unit" => {
                            self.second = true;
                            self.groups = true;
                        }
                        ("type", Value::String(kind)) if kind == "User" || kind == "Group" => {
                            self.groups = true;
                        }
                        _ => {}
                    }
                    self.walk(inner);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn attribute(&mut self, base: &Value, attribute: &str) {
        if base["Var"] == "principal" {
            self.principal.push(attribute.to_owned());
        } else if base["."]["attr"] == "caller" {
            self.caller.push(attribute.to_owned());
        } else if attribute == "target" {
            self.target = true;
        } else if base["."]["attr"] == "target" {
            self.script |= attribute == "script_digest";
            self.reader |= ["interpreter", "interpreter_digest"].contains(&attribute);
        }
        self.second |= SECOND.contains(&attribute);
    }
}
