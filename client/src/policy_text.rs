//! A Cedar policy from facts. Uses nothing but std, so that the agent's tests
//! can put what it writes before the agent's own decision.

use std::time::Duration;

/// What the policy is to say. Everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyText {
    /// The @id.
    pub(crate) id: String,
    /// Lines of comment above it.
    pub(crate) comments: Vec<String>,
    /// The credential it permits; with a slash at its end, all below it.
    pub(crate) credential: String,
    /// What may be done; empty: all that a holder does.
    pub(crate) actions: Vec<String>,
    /// The requester's uid, one of these; empty: any.
    pub(crate) uids: Vec<u32>,
    /// A group that the requester is in, one of these; empty: any.
    pub(crate) gids: Vec<u32>,
    /// The requester's systemd unit.
    pub(crate) unit: Option<String>,
    /// Its container.
    pub(crate) container: Option<String>,
    /// UID of its Kubernetes pod.
    pub(crate) pod: Option<String>,
    /// Its LSM label.
    pub(crate) lsm: Option<String>,
    /// Its cgroup.
    pub(crate) cgroup: Option<String>,
    /// Its controlling terminal.
    pub(crate) tty: Option<String>,
    /// The requester's executable.
    pub(crate) exe: Option<String>,
    /// Its SHA-256.
    pub(crate) digest: Option<String>,
    /// The program that `jsi exec` becomes.
    pub(crate) target: Option<String>,
    /// Its SHA-256.
    pub(crate) target_digest: Option<String>,
    /// The script that `jsi exec --script` runs.
    pub(crate) script: Option<Script>,
    /// The lowest level of assurance.
    pub(crate) assurance: Option<u8>,
    /// It may have a just-in-time compiler.
    pub(crate) jit: bool,
    /// How the secret may reach the program, one of these; empty: any way.
    pub(crate) delivery: Vec<String>,
    /// The narrowing that must be asked for.
    pub(crate) scope: Vec<(String, String)>,
    /// From the first minute of the day until the second, UTC.
    pub(crate) between: Option<(u16, u16)>,
    /// Days of the week, 1 Monday to 7 Sunday, UTC; empty: all.
    pub(crate) weekdays: Vec<u8>,
    /// The longest lease.
    pub(crate) max_ttl: Option<Duration>,
    /// Deliveries of one lease.
    pub(crate) max_uses: Option<u32>,
    /// What the lease must be bound to.
    pub(crate) bind: Option<String>,
    /// The agent keeps nothing once it is delivered.
    pub(crate) hold_none: bool,
}

/// A script by its text, and what runs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// SHA-256 of its text.
    pub(crate) digest: String,
    /// The interpreter's path.
    pub(crate) interpreter: String,
    /// Its SHA-256, where it is not root's.
    pub(crate) interpreter_digest: Option<String>,
}

impl PolicyText {
    /// An @id and file name from credential and program: `allow-db-orders-psql`.
    pub(crate) fn name(credential: &str, program: Option<&str>) -> String {
        let program = program.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let credential = credential.trim_end_matches('/');
        let fit = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let name: String = format!("allow-{credential}-{program}").chars().map(fit).collect();
        // An @id has at most 128 bytes; room is left for what people append.
        let name: String = name.chars().take(100).collect();
        name.trim_end_matches('-').to_owned()
    }

    /// The policy.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            let line: String = comment.chars().filter(|c| !breaks(*c)).collect();
            text.push_str(format!("// {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&self.annotations());
        let principal = match self.uids.as_slice() {
            [uid] => format!("principal in User::\"{uid}\""),
            _ => "principal".to_owned(),
        };
        text.push_str(&format!(
            "permit(\n  {principal},\n  {},\n  {}\n)",
            self.action(),
            self.resource()
        ));
        let conditions = self.conditions();
        if !conditions.is_empty() {
            text.push_str(&format!(" when {{\n  {}\n}}", conditions.join(" &&\n  ")));
        }
        text.push_str(";\n");
        text
    }

    fn annotations(&self) -> String {
        let mut text = format!("@id({})\n", quoted(&self.id));
        if let Some(ttl) = self.max_ttl {
            text.push_str(&format!("@max_ttl(\"{}s\")\n", ttl.as_secs()));
        }
        if let Some(uses) = self.max_uses {
            text.push_str(&format!("@max_uses(\"{uses}\")\n"));
        }
        if let Some(bind) = &self.bind {
            text.push_str(&format!("@bind({})\n", quoted(bind)));
        }
        if self.hold_none {
            text.push_str("@hold(\"none\")\n");
        }
        text
    }

    fn action(&self) -> String {
        match self.actions.as_slice() {
            [] => "action in Action::\"use\"".to_owned(),
            [one] if one == "use" => "action in Action::\"use\"".to_owned(),
            [one] => format!("action == Action::{}", quoted(one)),
            several => format!("action in [{}]", entities("Action", several)),
        }
    }

    fn resource(&self) -> String {
        match self.credential.strip_suffix('/') {
            Some(path) => format!("resource in Path::{}", quoted(path)),
            None => format!("resource == Credential::{}", quoted(&self.credential)),
        }
    }

    fn conditions(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.uids.len() > 1 {
            all.push(format!("principal in [{}]", entities("User", &self.uids)));
        }
        if !self.gids.is_empty() {
            all.push(format!("principal in [{}]", entities("Group", &self.gids)));
        }
        for (name, value) in [("exe", &self.exe), ("digest", &self.digest)] {
            all.extend(value.as_ref().map(|value| equal("principal", name, value)));
        }
        if let Some(unit) = &self.unit {
            all.push(format!("principal in Unit::{}", quoted(unit)));
        }
        for (name, value) in [
            ("container", &self.container),
            ("pod", &self.pod),
            ("lsm", &self.lsm),
            ("cgroup", &self.cgroup),
            ("tty", &self.tty),
        ] {
            all.extend(value.as_ref().map(|value| equal("principal", name, value)));
        }
        if self.target.is_some() || self.target_digest.is_some() || self.script.is_some() {
            all.push("context has target".to_owned());
        }
        for (name, value) in [("exe", &self.target), ("digest", &self.target_digest)] {
            all.extend(value.as_ref().map(|value| equal("context.target", name, value)));
        }
        if let Some(Script { digest, interpreter, interpreter_digest }) = &self.script {
            all.push(equal("context.target", "script_digest", digest));
            all.push(equal("context.target", "interpreter", interpreter));
            let digest = interpreter_digest.as_ref();
            all.extend(digest.map(|it| equal("context.target", "interpreter_digest", it)));
        }
        if let Some(level) = self.assurance {
            let with_jit = if self.jit { "_with_jit" } else { "" };
            all.push(format!("context.assurance{with_jit} >= {level}"));
        }
        match self.delivery.as_slice() {
            [] => {}
            [one] => all.push(format!("context.delivery == {}", quoted(one))),
            several => {
                let known: Vec<String> = several.iter().map(|one| quoted(one)).collect();
                all.push(format!("[{}].contains(context.delivery)", known.join(", ")));
            }
        }
        for (key, value) in &self.scope {
            let (key, value) = (quoted(key), quoted(value));
            all.push(format!(
                "context.scope.hasTag({key}) && context.scope.getTag({key}) == {value}"
            ));
        }
        all.extend(self.times());
        all
    }

    fn times(&self) -> Vec<String> {
        let mut all = Vec::new();
        if !self.weekdays.is_empty() {
            let days: Vec<String> = self.weekdays.iter().map(ToString::to_string).collect();
            all.push(format!("[{}].contains(context.time.weekday)", days.join(", ")));
        }
        if let Some((from, until)) = self.between {
            let minute = "context.time.hour * 60 + context.time.minute";
            let joined = if from < until { "&&" } else { "||" };
            all.push(format!("({minute} >= {from} {joined} {minute} < {until})"));
        }
        all
    }
}

/// `principal has exe && principal.exe == "/a"`
fn equal(base: &str, name: &str, value: &str) -> String {
    format!("{base} has {name} && {base}.{name} == {}", quoted(value))
}

fn entities(kind: &str, ids: &[impl ToString]) -> String {
    let all: Vec<String> =
        ids.iter().map(|id| format!("{kind}::{}", quoted(&id.to_string()))).collect();
    all.join(", ")
}

/// A Cedar string literal.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if breaks(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What ends a line for some reader, or makes text look like another: nobody is
/// to be shown a policy that says something else than it seems.
fn breaks(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_all_that_is_set() {
        let policy = PolicyText {
            id: PolicyText::name("db/orders", Some("/usr/bin/psql")),
            comments: vec!["line\nbreak".to_owned()],
            credential: "db/orders".to_owned(),
            uids: vec![1000],
            exe: Some("/usr/bin/psql".to_owned()),
            digest: Some("ab".to_owned()),
            max_ttl: Some(Duration::from_secs(900)),
            ..Default::default()
        };
        assert_eq!(
            policy.render(),
            "// linebreak\n@id(\"allow-db-orders-psql\")\n@max_ttl(\"900s\")\npermit(\n  \
             principal in User::\"1000\",\n  action in Action::\"use\",\n  \
             resource == Credential::\"db/orders\"\n) when {\n  \
             principal has exe && principal.exe == \"/usr/bin/psql\" &&\n  \
             principal has digest && principal.digest == \"ab\"\n};\n"
        );
    }

    #[test]
    fn a_prefix_a_window_and_several_of_a_kind_have_their_forms() {
        let policy = PolicyText {
            id: "a".to_owned(),
            credential: "db/".to_owned(),
            actions: vec!["request".to_owned(), "list".to_owned()],
            uids: vec![1, 2],
            gids: vec![27],
            between: Some((22 * 60, 6 * 60)),
            weekdays: vec![1, 5],
            scope: vec![("role".to_owned(), "reader".to_owned())],
            delivery: vec!["descriptor".to_owned(), "file".to_owned()],
            max_uses: Some(1),
            hold_none: true,
            bind: Some("connection".to_owned()),
            assurance: Some(2),
            ..Default::default()
        };
        let minute = "context.time.hour * 60 + context.time.minute";
        assert_eq!(
            policy.render(),
            format!(
                "@id(\"a\")\n@max_uses(\"1\")\n@bind(\"connection\")\n@hold(\"none\")\npermit(\n  \
                 principal,\n  action in [Action::\"request\", Action::\"list\"],\n  \
                 resource in Path::\"db\"\n) when {{\n  \
                 principal in [User::\"1\", User::\"2\"] &&\n  \
                 principal in [Group::\"27\"] &&\n  context.assurance >= 2 &&\n  \
                 [\"descriptor\", \"file\"].contains(context.delivery) &&\n  \
                 context.scope.hasTag(\"role\") && context.scope.getTag(\"role\") == \"reader\" &&\n  \
                 [1, 5].contains(context.time.weekday) &&\n  \
                 ({minute} >= 1320 || {minute} < 360)\n}};\n"
            )
        );
    }

    #[test]
    fn a_just_in_time_compiler_is_let_pass_by_name() {
        let policy = PolicyText { assurance: Some(2), jit: true, ..Default::default() };
        assert!(policy.render().contains("context.assurance_with_jit >= 2"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_string() {
        assert_eq!(quoted("a\"b\\c\nd\u{202e}"), "\"a\\\"b\\\\c\\u{a}d\\u{202e}\"");
    }

    #[test]
    fn names_are_fit_for_files() {
        assert_eq!(PolicyText::name("a/b", Some("/x/../y z")), "allow-a-b-y-z");
        assert_eq!(PolicyText::name("a", None), "allow-a");
        assert_eq!(PolicyText::name("db/", Some("/bin/sh")), "allow-db-sh");
        assert!(PolicyText::name(&"a".repeat(128), Some("/b")).len() <= 100);
    }
}
