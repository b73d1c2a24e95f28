//! Texts with placeholders: `uid:{{requester.uid}}`. No logic and no functions,
//! only names out of one list, so that what is put in can never be more than
//! data: a value that holds `{{` is that text and nothing else.

use super::error::near_miss;
use std::collections::BTreeSet;

/// What stands between the braces of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `requester.uid`
    RequesterUid,
    /// `requester.gid`
    RequesterGid,
    /// `requester.exe`: the path of its executable in the agent's own view.
    RequesterExe,
    /// `requester.digest`: SHA-256 of its executable, lower-case hex.
    RequesterDigest,
    /// `requester.unit`: its systemd unit.
    RequesterUnit,
    /// `requester.container`: its container's ID.
    RequesterContainer,
    /// `requester.pod`: its Kubernetes pod's UID.
    RequesterPod,
    /// `requester.invocation`: systemd's ID of its unit's run.
    RequesterInvocation,
    /// `assurance`: 0 to 4.
    Assurance,
    /// `target.exe`: what `jsi exec` becomes, by the client's word.
    TargetExe,
    /// `target.digest`
    TargetDigest,
    /// `scope.KEY`: what the requester asked for.
    Scope(String),
    /// `credential`
    Credential,
    /// `lease`
    Lease,
    /// `host`: the host's name.
    Host,
}

/// Every name but those of the scope.
const NAMES: [(&str, Placeholder); 14] = [
    ("requester.uid", Placeholder::RequesterUid),
    ("requester.gid", Placeholder::RequesterGid),
    ("requester.exe", Placeholder::RequesterExe),
    ("requester.digest", Placeholder::RequesterDigest),
    ("requester.unit", Placeholder::RequesterUnit),
    ("requester.container", Placeholder::RequesterContainer),
    ("requester.pod", Placeholder::RequesterPod),
    ("requester.invocation", Placeholder::RequesterInvocation),
    ("assurance", Placeholder::Assurance),
    ("target.exe", Placeholder::TargetExe),
    ("target.digest", Placeholder::TargetDigest),
    ("credential", Placeholder::Credential),
    ("lease", Placeholder::Lease),
    ("host", Placeholder::Host),
];

impl Placeholder {
    /// As it stands between the braces.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Scope(key) => format!("scope.{key}"),
            other => NAMES
                .iter()
                .find(|(_, known)| known == other)
                .map_or_else(String::new, |(name, _)| (*name).to_owned()),
        }
    }

    fn parse(name: &str, scope: &BTreeSet<String>) -> Result<Self, String> {
        if let Some((_, known)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(known.clone());
        }
        if let Some(key) = name.strip_prefix("scope.") {
            if scope.contains(key) {
                return Ok(Self::Scope(key.to_owned()));
            }
            return Err(format!(
                "{{{{{name}}}}} names a scope key that this credential does not take; \
                 put {key:?} into its scope = […]"
            ));
        }
        let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(match near_miss(name, known.iter().copied()) {
            Some(near) => {
                format!("unknown placeholder {{{{{name}}}}}; did you mean {{{{{near}}}}}?")
            }
            None => format!(
                "unknown placeholder {{{{{name}}}}}; known: {}, scope.KEY",
                known.join(", ")
            ),
        })
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands as it is.
    Text(String),
    /// Stands for a fact.
    Placeholder(Placeholder),
}

/// A text with placeholders, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a template; `scope` are the keys that `{{scope.KEY}}` may name.
    ///
    /// # Errors
    /// Says which name is not known, or which brace has no other.
    pub fn parse(text: &str, scope: &BTreeSet<String>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, behind)) = after.split_once("}}") else {
                return Err("a {{ has no }} behind it".to_owned());
            };
            push_text(&mut pieces, before)?;
            pieces.push(Piece::Placeholder(Placeholder::parse(name.trim(), scope)?));
            rest = behind;
        }
        push_text(&mut pieces, rest)?;
        Ok(Self(pieces))
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The placeholder, where there is nothing beside it: then the fact keeps
    /// its JSON type.
    #[must_use]
    pub fn lone(&self) -> Option<&Placeholder> {
        match self.0.as_slice() {
            [Piece::Placeholder(one)] => Some(one),
            _ => None,
        }
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) -> Result<(), String> {
    if text.contains("}}") {
        return Err("a }} has no {{ before it".to_owned());
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, String> {
        Template::parse(text, &BTreeSet::from(["role".to_owned()]))
    }

    #[test]
    fn every_name_of_the_list_is_read_and_named_as_it_was_written() {
        for (name, placeholder) in &NAMES {
            let template = parse(&format!("{{{{ {name} }}}}")).unwrap();
            assert_eq!(template.lone(), Some(placeholder));
            assert_eq!(placeholder.name(), *name);
        }
        let template = parse("a {{scope.role}} b").unwrap();
        assert_eq!(template.pieces().len(), 3);
        assert_eq!(template.lone(), None);
        assert_eq!(Placeholder::Scope("role".into()).name(), "scope.role");
    }

    #[test]
    fn a_name_that_is_not_on_the_list_is_refused() {
        for (text, says) in [
            ("{{requester.uidd}}", "did you mean {{requester.uid}}?"),
            ("{{requester}}", "unknown placeholder"),
            ("{{}}", "unknown placeholder"),
            ("{{scope.team}}", "scope = "),
            ("{{scope.}}", "scope = "),
            ("{{env.HOME}}", "known: requester.uid"),
            ("{{credential | upper}}", "unknown placeholder"),
            ("{{ {{credential}} }}", "unknown placeholder"),
            ("{{credential", "has no }}"),
            ("credential}}", "has no {{"),
            ("{{credential}} }}", "has no {{"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_text_without_placeholders_stays_as_it_is() {
        for text in ["plain", "{ \"a\": 1 }", "{}", "ä\n\"quoted\""] {
            assert_eq!(parse(text).unwrap().pieces(), [Piece::Text(text.to_owned())]);
        }
        assert!(parse("").unwrap().pieces().is_empty());
    }
}
