//! Who could change or read what the agent depends on, at any step of the way.

use crate::doctor::facts::{Facts, Kind, Place, Step, StepState};
use crate::doctor::{Finding, Severity};

const TOPIC: &str = "files";
const STICKY: u32 = 0o1000;
const SHARED_WRITE: u32 = 0o022;

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let rule = Rule {
        agent: facts.agent.as_ref().map_or(facts.client.uid, |agent| agent.uid),
        running: facts.agent.is_some(),
        host: match facts.status.answered() {
            Some(status) => status.mode == "host",
            // A user agent serves its own uid alone.
            None => facts.agent.as_ref().is_some_and(|agent| agent.uid != facts.client.uid),
        },
    };
    // Client binaries have a rule of their own: see client.rs.
    let own = facts.places.iter().filter(|place| !place.what.ends_with("client"));
    own.map(|place| rule.judge(place)).collect()
}

struct Rule {
    /// Who may own things, beside root.
    agent: u32,
    running: bool,
    host: bool,
}

impl Rule {
    fn judge(&self, place: &Place) -> Finding {
        let path = place.path.display();
        let finding = |severity, text: String| {
            Finding::new(TOPIC, place.what.clone(), severity, format!("{path}: {text}"))
        };
        let Some((first, above)) = place.steps.split_first() else {
            return finding(Severity::Note, "its way is not known".to_owned());
        };
        let StepState::Found { uid, mode, kind, .. } = first.state else {
            return self.absent(place, first, above);
        };
        if let Some((text, remedy)) = self.loose(place, mode, kind) {
            let severity = if place.what == "store" || place.what == "log" {
                Severity::Warn
            } else {
                Severity::Fail
            };
            return finding(severity, text).mend(remedy);
        }
        let socket = kind == Kind::Socket;
        for step in place.steps.iter().skip(usize::from(socket)) {
            if let Some((text, remedy)) = self.step(step) {
                return finding(Severity::Fail, text).mend(remedy);
            }
        }
        match above.iter().find(|step| step.state == StepState::Hidden) {
            Some(step) => {
                finding(Severity::Note, format!("{} cannot be looked into", step.path.display()))
            }
            None => finding(Severity::Ok, format!("mode {mode:04o}, uid {uid}")),
        }
    }

    fn absent(&self, place: &Place, first: &Step, above: &[Step]) -> Finding {
        let path = place.path.display();
        let name = place.what.clone();
        if first.state == StepState::Hidden {
            let text = format!("{path}: you may not look there, which is as it should be");
            return Finding::ok(TOPIC, name, text);
        }
        for step in above {
            if let Some((text, remedy)) = self.step(step) {
                let text = format!("{path}: not there, and {text}");
                return Finding::fail(TOPIC, name, text).mend(remedy);
            }
        }
        let text = format!("{path}: not there");
        match (self.running, place.what.as_str()) {
            (true, "bootstrap socket") => Finding::warn(TOPIC, name, text)
                .mend("jsi exec --broker-fd needs it: the agent's log says why it has none"),
            (true, "policies") => Finding::note(TOPIC, name, text).mend("jsi allow makes it"),
            (true, _) => Finding::fail(TOPIC, name, format!("{text}, though the agent runs"))
                .mend("it was moved or removed: bring it back and restart the agent"),
            (false, "identity") => Finding::note(TOPIC, name, text).mend("make one: jsi init"),
            (false, _) => Finding::note(TOPIC, name, format!("{text} yet")),
        }
    }

    /// What the place itself must not allow.
    fn loose(&self, place: &Place, mode: u32, kind: Kind) -> Option<(String, String)> {
        let path = place.path.display();
        let most = match place.what.as_str() {
            "identity" => 0o700,
            "store" | "log" => 0o700,
            "admin socket" if self.host => 0o770,
            // Policy decides who is served.
            "agent socket" | "bootstrap socket" if self.host => return None,
            "agent socket" | "bootstrap socket" | "admin socket" => 0o700,
            _ => return None,
        };
        if place.what.ends_with("socket") && kind != Kind::Socket {
            return Some((
                "it is no socket".to_owned(),
                format!("move {path} away and restart the agent"),
            ));
        }
        let too_much = mode & 0o777 & !most;
        (too_much != 0).then(|| {
            let who = match (too_much & 0o070 != 0, too_much & 0o007 != 0) {
                (true, true) => "group and others",
                (true, false) => "group",
                _ => "others",
            };
            (
                format!("{who} may use it (mode {mode:04o})"),
                format!("chmod {:04o} {path}", mode & 0o7000 | (mode & most)),
            )
        })
    }

    /// What no step of a way may allow.
    fn step(&self, step: &Step) -> Option<(String, String)> {
        let StepState::Found { uid, mode, kind, .. } = step.state else { return None };
        let path = step.path.display();
        if uid != 0 && uid != self.agent {
            return Some((
                format!("{path} belongs to uid {uid}, who could change it"),
                format!("chown {} {path}", self.agent),
            ));
        }
        let shared = kind == Kind::Directory && mode & STICKY != 0;
        (mode & SHARED_WRITE != 0 && kind != Kind::Link && !shared).then(|| {
            (
                format!("{path} can be written by group or others (mode {mode:04o})"),
                format!("chmod go-w {path}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Operator;

    fn step(path: &str, uid: u32, mode: u32, kind: Kind) -> Step {
        Step { path: path.into(), state: StepState::Found { uid, gid: 0, mode, kind } }
    }

    fn place(what: &str, steps: Vec<Step>) -> Place {
        Place { what: what.to_owned(), path: steps[0].path.clone(), steps }
    }

    const RULE: Rule = Rule { agent: 900, running: true, host: true };

    #[test]
    fn a_directory_above_that_others_may_write_is_found() {
        let way = |mode| {
            place(
                "policies",
                vec![
                    step("/etc/jsi/policy.d", 0, 0o755, Kind::Directory),
                    step("/etc/jsi", 0, mode, Kind::Directory),
                    step("/", 0, 0o755, Kind::Directory),
                ],
            )
        };
        assert_eq!(RULE.judge(&way(0o755)).severity, Severity::Ok);
        assert_eq!(RULE.judge(&way(0o1777)).severity, Severity::Ok);
        let finding = RULE.judge(&way(0o775));
        assert_eq!(finding.severity, Severity::Fail);
        assert_eq!(finding.remedy.as_deref(), Some("chmod go-w /etc/jsi"));
    }

    #[test]
    fn anothers_directory_is_found() {
        let way = place(
            "log",
            vec![step("/l", 900, 0o700, Kind::Directory), step("/", 7, 0o755, Kind::Directory)],
        );
        assert!(RULE.judge(&way).text.contains("belongs to uid 7"));
    }

    #[test]
    fn a_key_that_others_may_read_fails() {
        let key = |mode| place("identity", vec![step("/k", 900, mode, Kind::File)]);
        assert_eq!(RULE.judge(&key(0o600)).severity, Severity::Ok);
        let finding = RULE.judge(&key(0o640));
        assert_eq!(finding.severity, Severity::Fail);
        assert_eq!(finding.remedy.as_deref(), Some("chmod 0600 /k"));
    }

    #[test]
    fn sockets_are_as_open_as_their_agent_means_them_to_be() {
        let user = Rule { host: false, ..RULE };
        let socket = |what, mode| place(what, vec![step("/s", 900, mode, Kind::Socket)]);
        for (rule, what, mode, severity) in [
            (&RULE, "agent socket", 0o666, Severity::Ok),
            (&RULE, "admin socket", 0o660, Severity::Ok),
            (&RULE, "admin socket", 0o666, Severity::Fail),
            (&user, "agent socket", 0o600, Severity::Ok),
            (&user, "agent socket", 0o666, Severity::Fail),
            (&user, "admin socket", 0o660, Severity::Fail),
        ] {
            assert_eq!(rule.judge(&socket(what, mode)).severity, severity, "{what} {mode:o}");
        }
        let file = place("agent socket", vec![step("/s", 900, 0o600, Kind::File)]);
        assert!(user.judge(&file).text.contains("no socket"));
    }

    #[test]
    fn what_is_missing_matters_where_the_agent_runs() {
        let missing = |what: &str| Place {
            what: what.to_owned(),
            path: "/none".into(),
            steps: vec![Step { path: "/none".into(), state: StepState::Missing }],
        };
        assert_eq!(RULE.judge(&missing("store")).severity, Severity::Fail);
        let stopped = Rule { running: false, ..RULE };
        assert_eq!(stopped.judge(&missing("store")).severity, Severity::Note);
        assert!(stopped.judge(&missing("identity")).remedy.is_some());
    }

    #[test]
    fn what_may_not_be_looked_at_is_no_fault() {
        let hidden = Place {
            what: "identity".to_owned(),
            path: "/k/i".into(),
            steps: vec![Step { path: "/k/i".into(), state: StepState::Hidden }],
        };
        assert_eq!(RULE.judge(&hidden).severity, Severity::Ok);
    }

    #[test]
    fn a_store_that_others_may_list_is_told_and_does_not_fail() {
        let mut facts = Facts::recorded();
        facts.places = vec![place("store", vec![step("/s", 900, 0o755, Kind::Directory)])];
        assert_eq!(judge(&facts)[0].severity, Severity::Warn);
        facts.status = Operator::NotOpen;
        assert_eq!(judge(&facts)[0].severity, Severity::Warn);
    }
}
