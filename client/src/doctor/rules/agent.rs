//! Is there an agent, and how is it?

use crate::doctor::Finding;
use crate::doctor::facts::{Agent, Facts, Operator, Socket, SocketState};
use jsi_client::v1::StatusResponse;

const TOPIC: &str = "agent";

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![reachable(&facts.socket, facts.agent.as_ref())];
    let Some(agent) = &facts.agent else {
        found.extend(configuration(facts));
        return found;
    };
    found.push(version(&facts.client.version, &agent.version));
    match &facts.status {
        Operator::Answered(status) => found.extend(state(status)),
        Operator::NotAsked => {}
        Operator::NotOpen => found.push(Finding::note(
            TOPIC,
            "admin socket",
            "the admin socket is not open to you, so part of this cannot be seen",
        )),
        Operator::Refused(why) => found.push(
            Finding::warn(TOPIC, "admin socket", format!("it does not answer jsi status: {why}"))
                .mend("jsi status says more; where the agent is locked: jsi unlock"),
        ),
    }
    found.extend(advisory(agent));
    found
}

fn reachable(socket: &Socket, agent: Option<&Agent>) -> Finding {
    let at = format!("{} ({})", socket.path.display(), socket.origin);
    let name = "reachable";
    let start = match socket.others.first() {
        Some(other) => {
            format!("another one answers; take it: export JSI_AUTH_SOCK={}", other.display())
        }
        None => "start one: eval \"$(jsi-agent)\"".to_owned(),
    };
    let unset = match socket.variable.as_str() {
        "" => start.clone(),
        variable if socket.others.is_empty() => format!("{start}, which sets {variable} anew"),
        variable => format!("{start}, or: unset {variable}"),
    };
    match &socket.state {
        SocketState::Answers => {
            let uid = agent.map_or(0, |agent| agent.uid);
            let level = crate::view::level(agent.map_or(0, |agent| agent.assurance));
            let text =
                format!("an agent of uid {uid} answers at {at}; it sees you at level {level}");
            Finding::ok(TOPIC, name, text)
        }
        SocketState::Missing => {
            Finding::fail(TOPIC, name, format!("there is no socket at {at}")).mend(unset)
        }
        SocketState::Stale => Finding::fail(
            TOPIC,
            name,
            format!("the socket at {at} is left over: nobody listens there any more"),
        )
        .mend(unset),
        SocketState::NoSocket => {
            Finding::fail(TOPIC, name, format!("what is at {at} is no socket")).mend(unset)
        }
        SocketState::NotOpen => Finding::fail(TOPIC, name, format!("{at} is not open to you"))
            .mend("a user agent serves its own user alone; for others: jsi-agent init --host"),
        SocketState::Untrusted(why) => Finding::fail(TOPIC, name, why.clone()).mend(
            "if that owner is to be trusted, root names it: owner = \"…\" in /etc/jsi/client.toml",
        ),
        SocketState::Broken(why) => {
            Finding::fail(TOPIC, name, format!("what listens at {at} is of no use: {why}"))
                .mend("it may hang, or be no agent: look at its log, and start it anew")
        }
    }
}

/// What an agent would be started with, where none runs.
fn configuration(facts: &Facts) -> Option<Finding> {
    let local = facts.local.as_ref()?;
    let name = "configuration";
    Some(match local.configuration.error.as_str() {
        "" => Finding::ok(
            TOPIC,
            name,
            format!("an agent could be started here ({} agent)", local.configuration.mode),
        ),
        why => Finding::fail(TOPIC, name, format!("an agent would not start here: {why}"))
            .mend("mend it, and try: jsi policy check"),
    })
}

fn version(client: &str, agent: &str) -> Finding {
    let name = "version";
    let numbers = |text: &str| -> Vec<u64> {
        text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    let text = format!("jsi is {client}, the agent is {agent}");
    match numbers(agent).cmp(&numbers(client)) {
        _ if client == agent => Finding::ok(TOPIC, name, format!("jsi and agent are {client}")),
        std::cmp::Ordering::Less => Finding::warn(TOPIC, name, text)
            .mend("restart the agent, so that it runs what is installed"),
        _ => Finding::warn(TOPIC, name, text).mend("install the jsi of the agent's version"),
    }
}

fn state(status: &StatusResponse) -> Vec<Finding> {
    let mut found = Vec::new();
    found.push(match (status.locked, status.locked_reason.as_str()) {
        (false, _) => Finding::ok(TOPIC, "locked", "it is not locked"),
        (true, why) => {
            Finding::note(TOPIC, "locked", format!("it is locked: {why}")).mend("jsi unlock")
        }
    });
    found.push(match status.log_fault.as_str() {
        "" => Finding::ok(
            TOPIC,
            "log",
            format!("the log can be written; {} records", status.log_records),
        ),
        why => Finding::fail(
            TOPIC,
            "log",
            format!("the log cannot be written, so nothing is issued: {why}"),
        )
        .mend(format!("make room in {}, then restart the agent", status.log_dir)),
    });
    // It is known when a head was taken, not when somebody compared it.
    found.push(
        Finding::note(
            TOPIC,
            "log verified",
            "the agent checked the last part of its log when it started; the whole is for you to check",
        )
        .mend("jsi audit verify; and keep elsewhere what this prints: jsi audit head"),
    );
    if status.leases_stuck > 0 {
        let text = format!(
            "{} leases are stuck: their backend refused to revoke them",
            status.leases_stuck
        );
        found.push(
            Finding::fail(TOPIC, "stuck", text)
                .mend("jsi leases --all names them; revoke them at the backend"),
        );
    }
    found.extend(status.notices.iter().map(|notice| {
        Finding::warn(TOPIC, "notice", notice.clone()).mend("jsi policy check -v says more")
    }));
    found
}

/// Each reason, and what lifts it.
fn advisory(agent: &Agent) -> Vec<Finding> {
    if !agent.advisory {
        let text = "it is a boundary between uids: no program that it serves can change it";
        return vec![Finding::ok(TOPIC, "advisory", text)];
    }
    let text = "it is advisory: its own uid could subvert it, and assurance is at most 1";
    let whole = Finding::note(TOPIC, "advisory", text)
        .mend("a host agent has a uid of its own: jsi-agent init --host, by root");
    let reasons = agent.reasons.iter().map(|reason| {
        let finding = Finding::note(TOPIC, "advisory", format!("because {reason}"));
        match lifts(reason) {
            Some(remedy) => finding.mend(remedy),
            None => finding,
        }
    });
    std::iter::once(whole).chain(reasons).collect()
}

/// By the words that the agent uses (agent/src/config/advisory.rs).
fn lifts(reason: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 4] = [
        ("identity key file", "give the identity a passphrase: jsi init, or rekey it"),
        ("policy directory", "let root own the policies and every directory above them"),
        ("binary", "let root own the binaries, as a package installs them"),
        ("not a uid of its own", "let root start it, with a user made for it"),
    ];
    KNOWN.iter().find(|(part, _)| reason.contains(part)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use std::path::PathBuf;

    fn one<'a>(found: &'a [Finding], name: &str) -> &'a Finding {
        found.iter().find(|finding| finding.name == name).unwrap()
    }

    #[test]
    fn a_stale_socket_named_by_a_variable_is_told_with_the_variable() {
        let mut facts = Facts::recorded();
        facts.agent = None;
        facts.socket.state = SocketState::Stale;
        facts.socket.variable = "JSI_AUTH_SOCK".to_owned();
        facts.socket.others = vec![PathBuf::from("/run/jsi/agent.sock")];
        let found = judge(&facts);
        let finding = one(&found, "reachable");
        assert_eq!(finding.severity, Severity::Fail);
        let remedy = finding.remedy.as_deref().unwrap();
        assert!(remedy.contains("JSI_AUTH_SOCK=/run/jsi/agent.sock"), "{remedy}");
        assert!(remedy.contains("unset JSI_AUTH_SOCK"), "{remedy}");
    }

    #[test]
    fn an_older_agent_is_to_be_restarted_and_a_newer_one_wants_a_newer_jsi() {
        assert_eq!(version("0.2.0", "0.2.0").severity, Severity::Ok);
        assert!(version("0.10.0", "0.9.1").remedy.unwrap().contains("restart the agent"));
        assert!(version("0.1.0", "0.2.0").remedy.unwrap().contains("install the jsi"));
    }

    #[test]
    fn a_log_that_cannot_be_written_fails() {
        let mut facts = Facts::recorded();
        let Operator::Answered(status) = &mut facts.status else { unreachable!() };
        status.log_fault = "no space left on device".to_owned();
        status.locked = true;
        status.notices = vec!["db/x: damaged".to_owned()];
        let found = judge(&facts);
        assert_eq!(one(&found, "log").severity, Severity::Fail);
        assert_eq!(one(&found, "locked").severity, Severity::Note);
        assert_eq!(one(&found, "notice").severity, Severity::Warn);
    }

    #[test]
    fn each_reason_of_an_advisory_agent_is_told_with_what_lifts_it() {
        let reason = "the identity key file /k is readable by uid 1000".to_owned();
        let agent = Agent { advisory: true, reasons: vec![reason], ..Agent::default() };
        let found = advisory(&agent);
        assert_eq!(found.len(), 2);
        assert!(found[1].remedy.as_deref().unwrap().contains("passphrase"));
    }

    #[test]
    fn without_an_agent_the_configuration_is_judged() {
        let mut facts = Facts::recorded();
        facts.agent = None;
        facts.socket.state = SocketState::Missing;
        facts.local.as_mut().unwrap().configuration.error = "unknown key `colour`".to_owned();
        let found = judge(&facts);
        assert!(one(&found, "configuration").text.contains("colour"));
    }
}
