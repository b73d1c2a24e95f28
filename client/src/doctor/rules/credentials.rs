//! What is static, and what nobody answers for.

use crate::doctor::Finding;
use crate::doctor::facts::Facts;
use jsi_client::v1::{Credential, CredentialClass};

const TOPIC: &str = "credentials";

/// Named in one finding; the others are counted.
const NAMED: usize = 20;

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(all) = facts.credentials.answered() else { return Vec::new() };
    if all.is_empty() {
        return vec![
            Finding::note(TOPIC, "none", "no credential is defined")
                .mend("jsi secret put NAME --owner WHO --purpose WHAT"),
        ];
    }
    vec![statics(all), owners(all)]
}

fn statics(all: &[Credential]) -> Finding {
    let is_static = |one: &&Credential| one.credential_class == i32::from(CredentialClass::Static);
    let found: Vec<&Credential> = all.iter().filter(is_static).collect();
    if found.is_empty() {
        let text = format!("none of {} is static", all.len());
        return Finding::ok(TOPIC, "static", text);
    }
    let named = names(&found, |one| {
        let owner = if one.owner.is_empty() { "nobody" } else { &one.owner };
        format!("{} ({owner})", one.name)
    });
    let text = format!(
        "{} of {} are static, and stay valid when a lease ends: {named}",
        found.len(),
        all.len()
    );
    Finding::note(TOPIC, "static", text)
        .mend("rotate them at their source, and prefer an issuer that mints")
}

fn owners(all: &[Credential]) -> Finding {
    let lacks = |one: &&Credential| one.owner.trim().is_empty() || one.purpose.trim().is_empty();
    let found: Vec<&Credential> = all.iter().filter(lacks).collect();
    if found.is_empty() {
        return Finding::ok(TOPIC, "owners", "each has an owner and a purpose");
    }
    let text = format!("without owner or purpose: {}", names(&found, |one| one.name.clone()));
    Finding::warn(TOPIC, "owners", text)
        .mend("owner = \"…\", purpose = \"…\" in its table of the configuration, or: jsi secret put --replace")
}

fn names(found: &[&Credential], show: impl Fn(&Credential) -> String) -> String {
    let mut text: Vec<String> = found.iter().take(NAMED).map(|one| show(one)).collect();
    if found.len() > NAMED {
        text.push(format!("and {} more", found.len() - NAMED));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use crate::doctor::facts::Operator;

    fn credential(name: &str, owner: &str, class: CredentialClass) -> Credential {
        Credential {
            name: name.to_owned(),
            owner: owner.to_owned(),
            purpose: "tests".to_owned(),
            credential_class: class.into(),
            ..Credential::default()
        }
    }

    fn with(all: Vec<Credential>) -> Vec<Finding> {
        judge(&Facts { credentials: Operator::Answered(all), ..Facts::recorded() })
    }

    #[test]
    fn static_credentials_are_named_with_their_owners() {
        let found = with(vec![
            credential("db/orders", "dba", CredentialClass::Static),
            credential("ci/token", "", CredentialClass::Dynamic),
        ]);
        assert!(found[0].text.contains("1 of 2") && found[0].text.contains("db/orders (dba)"));
        assert_eq!(found[1].severity, Severity::Warn);
        assert!(found[1].text.contains("ci/token"));
    }

    #[test]
    fn many_are_counted_rather_than_named() {
        let many = (0..50).map(|i| credential(&format!("a/{i}"), "o", CredentialClass::Static));
        let found = with(many.collect());
        assert!(found[0].text.contains("and 30 more"), "{}", found[0].text);
        assert_eq!(found[1].severity, Severity::Ok);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_seen() {
        let facts = Facts { credentials: Operator::NotOpen, ..Facts::recorded() };
        assert!(judge(&facts).is_empty());
    }
}
