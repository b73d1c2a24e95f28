//! Annotations: what limits a permit brings with it.

use super::BindingKind;
use crate::config::{format_duration, near_miss, parse_duration};
use std::time::Duration;

/// Those that a permit may carry. `@id` may stand on a forbid too.
const KNOWN: [&str; 7] =
    ["id", "max_ttl", "max_uses", "approval", "bind", "hold", "allow_unbounded"];
/// Longest `@id`: it stands in the log with every decision.
const MAX_ID: usize = 128;

/// The limits that one permit says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnLimits {
    /// `@max_ttl("15m")`
    pub(super) max_ttl: Option<Duration>,
    /// `@max_uses("1")`
    pub(super) max_uses: Option<u32>,
    /// `@approval("operator")`, several parted by commas; all must say yes.
    pub(super) approvals: Vec<String>,
    /// `@bind("process")`
    pub(super) bind: Option<BindingKind>,
    /// `@hold("none")`
    pub(super) hold_none: bool,
    /// `@allow_unbounded`
    pub(super) allow_unbounded: bool,
}

impl OwnLimits {
    /// Annotation and value of each that is set.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
        if let Some(ttl) = self.max_ttl {
            add("max_ttl", format_duration(ttl));
        }
        if let Some(uses) = self.max_uses {
            add("max_uses", uses.to_string());
        }
        for name in &self.approvals {
            add("approval", name.clone());
        }
        if let Some(bind) = self.bind {
            add("bind", bind.name().to_owned());
        }
        if self.hold_none {
            add("hold", "none".to_owned());
        }
        if self.allow_unbounded {
            add("allow_unbounded", String::new());
        }
        pairs
    }
}

/// An annotation that is not taken: its name, and why.
pub(super) type Refused = (String, String);

/// Reads one policy's annotations: its `@id` and its limits, or all that is wrong.
pub(super) fn read<'a>(
    permit: bool,
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(Option<String>, OwnLimits), Vec<Refused>> {
    let (mut id, mut limits, mut refused) = (None, OwnLimits::default(), Vec::new());
    for (name, value) in annotations {
        let result = if !KNOWN.contains(&name) {
            Err(unknown(name))
        } else if name != "id" && !permit {
            Err(format!("@{name} limits a permit; a forbid has nothing to limit"))
        } else if name == "id" {
            identifier(value).map(|value| id = Some(value))
        } else {
            take(&mut limits, name, value)
        };
        if let Err(why) = result {
            refused.push((name.to_owned(), why));
        }
    }
    if refused.is_empty() { Ok((id, limits)) } else { Err(refused) }
}

fn unknown(name: &str) -> String {
    match near_miss(name, KNOWN) {
        Some(near) => format!("unknown annotation @{name}; did you mean @{near}?"),
        None => format!("unknown annotation @{name}; known: @{}", KNOWN.join(", @")),
    }
}

fn identifier(value: &str) -> Result<String, String> {
    let fit = !value.is_empty() && value.len() <= MAX_ID && !value.chars().any(char::is_control);
    if fit { Ok(value.to_owned()) } else { Err(format!("@id is one line of 1 to {MAX_ID} bytes")) }
}

fn take(limits: &mut OwnLimits, name: &str, value: &str) -> Result<(), String> {
    match name {
        "max_ttl" => {
            let span = parse_duration(value).map_err(|error| format!("@max_ttl: {error}"))?;
            if span.is_zero() {
                return Err("@max_ttl of zero permits nothing; write a forbid".to_owned());
            }
            limits.max_ttl = Some(span);
        }
        "max_uses" => {
            let uses = value.parse().ok().filter(|uses| *uses > 0);
            limits.max_uses =
                Some(uses.ok_or_else(|| {
                    format!("@max_uses({value:?}) is not a whole number above zero")
                })?);
        }
        "approval" => {
            let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
            let fit = |name: &String| {
                let known =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
                !name.is_empty() && name.len() <= 64 && name.bytes().all(known)
            };
            if !names.iter().all(fit) {
                return Err(format!(
                    "@approval({value:?}) names approvers: lower-case letters, digits, '-' and '_', parted by commas"
                ));
            }
            limits.approvals = names;
        }
        "bind" => {
            let known = BindingKind::of_name(value);
            limits.bind = Some(known.ok_or_else(|| {
                format!("@bind({value:?}) is none of \"process\", \"connection\", \"none\"")
            })?);
        }
        "hold" if value == "none" => limits.hold_none = true,
        "hold" => return Err(format!("@hold({value:?}): the only value is \"none\"")),
        "allow_unbounded" if value.is_empty() => limits.allow_unbounded = true,
        _ => return Err(format!("@{name} takes no value")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let given = [
            ("id", "a"),
            ("max_ttl", "15m"),
            ("max_uses", "3"),
            ("approval", "operator, security"),
            ("bind", "connection"),
            ("hold", "none"),
            ("allow_unbounded", ""),
        ];
        let (id, limits) = read(true, given.into_iter()).unwrap();
        assert_eq!(id.as_deref(), Some("a"));
        assert_eq!(
            limits,
            OwnLimits {
                max_ttl: Some(Duration::from_secs(900)),
                max_uses: Some(3),
                approvals: vec!["operator".into(), "security".into()],
                bind: Some(BindingKind::Connection),
                hold_none: true,
                allow_unbounded: true,
            }
        );
    }

    #[test]
    fn a_limit_that_says_nothing_is_not_taken() {
        for (name, value) in [
            ("id", ""),
            ("max_ttl", "15"),
            ("max_ttl", "0s"),
            ("max_uses", "0"),
            ("max_uses", "-1"),
            ("max_uses", "all"),
            ("approval", ""),
            ("approval", "a,,b"),
            ("bind", "cgroup"),
            ("hold", "some"),
            ("allow_unbounded", "yes"),
            ("max_tll", "15m"),
            ("advice", "x"),
        ] {
            assert!(
                read(true, [(name, value)].into_iter()).is_err(),
                "@{name}({value:?}) was taken"
            );
        }
    }

    #[test]
    fn a_forbid_does_not_carry_limits() {
        assert!(read(false, [("max_ttl", "15m")].into_iter()).is_err());
        assert!(read(false, [("id", "a")].into_iter()).is_ok());
    }
}
