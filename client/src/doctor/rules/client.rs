//! Is this `jsi` the one that counts?

use crate::doctor::Finding;
use crate::doctor::facts::{Facts, Operator, StepState};

const TOPIC: &str = "jsi";

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![in_path(facts)];
    if let Some(agent) = &facts.agent {
        found.push(known(facts, &agent.via));
    }
    found.extend(binaries(facts));
    found.push(beside(facts));
    found
}

fn in_path(facts: &Facts) -> Finding {
    let name = "in PATH";
    let own = facts.client.exe.as_deref();
    let shown = own.map_or_else(|| "?".into(), |own| own.display().to_string());
    match &facts.client.in_path {
        Some(first) if Some(first.as_path()) == own => {
            Finding::ok(TOPIC, name, format!("PATH finds {shown}, which is running"))
        }
        Some(first) => Finding::warn(
            TOPIC,
            name,
            format!("PATH finds {} first, and {shown} is running", first.display()),
        )
        .mend("remove one of the two, or mend PATH"),
        None => Finding::note(TOPIC, name, format!("{shown} is running, and PATH finds no jsi"))
            .mend("add its directory to PATH"),
    }
}

fn beside(facts: &Facts) -> Finding {
    let name = "jsi-agent";
    let own = &facts.client.version;
    match &facts.local {
        Some(local) if local.version == *own => {
            Finding::ok(TOPIC, name, format!("the installed one is {own} too"))
        }
        Some(local) => {
            let text = format!("the installed one is {}, jsi is {own}", local.version);
            Finding::warn(TOPIC, name, text).mend("install both of the same version")
        }
        None => Finding::warn(TOPIC, name, format!("no facts by it: {}", facts.local_error))
            .mend("install the jsi-agent of the same version beside jsi"),
    }
}

/// The agent looks behind a client that it knows, and takes any other for the
/// program that asks.
fn known(facts: &Facts, via: &str) -> Finding {
    let name = "known to the agent";
    if via.ends_with("client") {
        return Finding::ok(TOPIC, name, format!("the agent knows this jsi: {via}"));
    }
    let own = facts.client.exe.as_ref().map_or_else(|| "?".into(), |e| e.display().to_string());
    let host = facts.status.answered().is_some_and(|status| status.mode == "host");
    let key = if host { "genuine_clients" } else { "enrolled_clients" };
    let remedy = format!("{key} = [\"{own}\"] in the agent's configuration, then: jsi reload");
    Finding::warn(
        TOPIC,
        name,
        "the agent does not know this jsi, and takes it for the program that asks: policies for \
         shells do not hold",
    )
    .mend(if host { format!("let root own it, and {remedy}") } else { remedy })
}

/// Genuine ones must be root's all the way up.
fn binaries(facts: &Facts) -> Vec<Finding> {
    let Operator::Answered(_) = &facts.status else { return Vec::new() };
    let known = facts.agent.as_ref().is_some_and(|agent| agent.via.ends_with("client"));
    let genuine = facts.places.iter().filter(|place| place.what == "genuine client");
    genuine
        .map(|place| {
            let path = place.path.display();
            let loose = place.steps.iter().find(|step| match step.state {
                StepState::Found { uid, mode, .. } => {
                    uid != 0 || (mode & 0o022 != 0 && mode & 0o1000 == 0)
                }
                _ => false,
            });
            match (loose, place.steps.first().map(|step| &step.state)) {
                (_, Some(StepState::Missing)) => {
                    let finding = if known {
                        // Where packages put it: what is in use is another.
                        Finding::note
                    } else {
                        Finding::warn
                    };
                    finding(TOPIC, "genuine client", format!("{path} is not there"))
                        .mend("install it, or take it out of genuine_clients; then: jsi reload")
                }
                (Some(step), _) => Finding::warn(
                    TOPIC,
                    "genuine client",
                    format!(
                        "{path} counts for nothing: {} is not root's alone",
                        step.path.display()
                    ),
                )
                .mend(format!("chown root {0} && chmod go-w {0}", step.path.display())),
                (None, _) => {
                    Finding::ok(TOPIC, "genuine client", format!("{path} is root's alone"))
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use crate::doctor::facts::{Kind, Place, Step};

    fn severity(found: &[Finding], name: &str) -> Severity {
        found.iter().find(|finding| finding.name == name).unwrap().severity
    }

    #[test]
    fn another_jsi_first_in_path_is_told() {
        let mut facts = Facts::recorded();
        assert_eq!(severity(&judge(&facts), "in PATH"), Severity::Ok);
        facts.client.in_path = Some("/home/me/bin/jsi".into());
        assert_eq!(severity(&judge(&facts), "in PATH"), Severity::Warn);
        facts.client.in_path = None;
        assert_eq!(severity(&judge(&facts), "in PATH"), Severity::Note);
    }

    #[test]
    fn a_jsi_that_the_agent_does_not_know_is_told_with_the_setting() {
        let mut facts = Facts::recorded();
        assert_eq!(severity(&judge(&facts), "known to the agent"), Severity::Ok);
        facts.agent.as_mut().unwrap().via = "direct".to_owned();
        let found = judge(&facts);
        let finding = found.iter().find(|f| f.name == "known to the agent").unwrap();
        assert!(
            finding.remedy.as_deref().unwrap().contains("genuine_clients = [\"/usr/bin/jsi\"]")
        );
    }

    #[test]
    fn a_genuine_client_that_others_could_change_counts_for_nothing() {
        let step = |path: &str, uid, mode| Step {
            path: path.into(),
            state: StepState::Found { uid, gid: 0, mode, kind: Kind::File },
        };
        let mut facts = Facts::recorded();
        facts.places = vec![Place {
            what: "genuine client".to_owned(),
            path: "/opt/jsi".into(),
            steps: vec![step("/opt/jsi", 0, 0o755), step("/opt", 1000, 0o755)],
        }];
        let found = binaries(&facts);
        assert!(found[0].remedy.as_deref().unwrap().contains("chown root /opt"), "{found:?}");
        facts.places[0].steps[1] = step("/opt", 0, 0o755);
        assert_eq!(binaries(&facts)[0].severity, Severity::Ok);
        facts.places[0].steps[0].state = StepState::Missing;
        assert_eq!(binaries(&facts)[0].severity, Severity::Note, "another one is in use");
        facts.agent.as_mut().unwrap().via = "direct".to_owned();
        assert_eq!(binaries(&facts)[0].severity, Severity::Warn);
    }

    #[test]
    fn a_jsi_agent_that_is_missing_or_of_another_version_is_told() {
        let mut facts = Facts::recorded();
        assert_eq!(severity(&judge(&facts), "jsi-agent"), Severity::Ok);
        facts.local.as_mut().unwrap().version = "0.0.9".to_owned();
        assert_eq!(severity(&judge(&facts), "jsi-agent"), Severity::Warn);
        facts.local = None;
        assert_eq!(severity(&judge(&facts), "jsi-agent"), Severity::Warn);
    }
}
