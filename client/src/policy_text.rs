//! A Cedar policy from facts.

use std::time::Duration;

/// What the policy is to say. Everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyText {
    /// The @id.
    pub(crate) id: String,
    /// Lines of comment above it.
    pub(crate) comments: Vec<String>,
    /// The credential it permits.
    pub(crate) credential: String,
    /// The requester's uid.
    pub(crate) uid: Option<u32>,
    /// The requester's systemd unit.
    pub(crate) unit: Option<String>,
    /// The requester's executable.
    pub(crate) exe: Option<String>,
    /// Its SHA-256.
    pub(crate) digest: Option<String>,
    /// The program that `jsi exec` becomes.
    pub(crate) target: Option<String>,
    /// The longest lease.
    pub(crate) max_ttl: Option<Duration>,
}

impl PolicyText {
    /// An @id and file name from credential and program: `allow-db-orders-psql`.
    pub(crate) fn name(credential: &str, program: Option<&str>) -> String {
        let program = program.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let mut name = format!("allow-{credential}-{program}");
        name = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        name.trim_end_matches('-').to_owned()
    }

    /// The policy.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            let line: String = comment.chars().filter(|c| !c.is_control()).collect();
            text.push_str(format!("// {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("@id({})\n", quoted(&self.id)));
        if let Some(ttl) = self.max_ttl {
            text.push_str(&format!("@max_ttl({})\n", quoted(&format!("{}s", ttl.as_secs()))));
        }
        let principal = match self.uid {
            Some(uid) => format!("principal in User::\"{uid}\""),
            None => "principal".to_owned(),
        };
        text.push_str(&format!(
            "permit(\n  {principal},\n  action in Action::\"use\",\n  resource == Credential::{}\n)",
            quoted(&self.credential)
        ));
        let conditions = self.conditions();
        if !conditions.is_empty() {
            text.push_str(&format!(" when {{\n  {}\n}}", conditions.join(" &&\n  ")));
        }
        text.push_str(";\n");
        text
    }

    fn conditions(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(exe) = &self.exe {
            all.push(format!("principal has exe && principal.exe == {}", quoted(exe)));
        }
        if let Some(digest) = &self.digest {
            all.push(format!("principal has digest && principal.digest == {}", quoted(digest)));
        }
        if let Some(unit) = &self.unit {
            all.push(format!("principal in Unit::{}", quoted(unit)));
        }
        if let Some(target) = &self.target {
            all.push(format!(
                "context has target && context.target has exe && context.target.exe == {}",
                quoted(target)
            ));
        }
        all
    }
}

/// A Cedar string literal.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
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
            uid: Some(1000),
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
    fn a_path_cannot_break_out_of_its_string() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u{a}d\"");
    }

    #[test]
    fn names_are_fit_for_files() {
        assert_eq!(PolicyText::name("a/b", Some("/x/../y z")), "allow-a-b-y-z");
        assert_eq!(PolicyText::name("a", None), "allow-a");
    }
}
