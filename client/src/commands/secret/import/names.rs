//! From what a source calls something to what the store calls it.

use jsi_client::{credential_name, field_name};

/// The credential that `source` becomes. Letters become small, and what no name
/// may have becomes `-`; so does `_` in the names of variables (`variable`).
pub(super) fn credential_of(source: &str, prefix: &str, variable: bool) -> Result<String, String> {
    let parts = source.split('/').map(|part| plain(part, variable, b"._-"));
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err("nothing of it can stand in a name; name it with --rename".to_owned());
    }
    let prefix = prefix.trim_matches('/');
    let name =
        if prefix.is_empty() { parts.join("/") } else { format!("{prefix}/{}", parts.join("/")) };
    credential_name(&name)
        .map_err(|error| format!("{name} cannot be its name: {error}; name it with --rename"))
}

/// The field that `key` becomes; `None`: nothing of it can stand in a name.
pub(super) fn field_of(key: &str) -> Option<String> {
    field_name(&plain(key.trim(), false, b"_-")).ok()
}

fn plain(text: &str, variable: bool, kept: &[u8]) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        let fits = c.is_ascii_lowercase() || c.is_ascii_digit();
        let kept = u8::try_from(c).is_ok_and(|b| kept.contains(&b)) && !(variable && c == '_');
        if fits || kept {
            name.push(c);
        } else if !name.ends_with('-') || variable {
            name.push('-');
        }
    }
    name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Whether a name is what a pattern with `*` and `?` says; `*` also takes `/`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // What the last `*` has taken so far: the only thing to go back to.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_as_the_help_says() {
        let name = |source, prefix, variable| credential_of(source, prefix, variable);
        assert_eq!(name("DATABASE_URL", "app", true).unwrap(), "app/database-url");
        assert_eq!(name("DATABASE_URL", "app/", true).unwrap(), "app/database-url");
        assert_eq!(name("_X", "", true).unwrap(), "x");
        assert_eq!(name("Email/me@example.org", "", false).unwrap(), "email/me-example.org");
        assert_eq!(name("a_b", "", false).unwrap(), "a_b");
        assert_eq!(name("Bücher", "", false).unwrap(), "b-cher");
        assert!(name("___", "", true).is_err());
        assert!(name("é", "", false).is_err());
        assert!(name(&"a".repeat(200), "", false).is_err());
        assert_eq!(field_of(" Recovery code ").unwrap(), "recovery-code");
        assert_eq!(field_of("€"), None);
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [("*", "a/b"), ("DB_*", "DB_URL"), ("a?c", "abc"), ("*b*", "abc")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("DB", "DB_URL"), ("a?c", "ac"), ("b*", "abc"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        // Not in time that grows with what could have been meant.
        assert!(!matches(&"*a".repeat(50), &"a".repeat(40)));
    }
}
