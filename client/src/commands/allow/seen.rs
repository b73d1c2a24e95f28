//! Whom to allow, from what the agent has seen.

use crate::failure::Failure;
use crate::session;
use jsi_client::v1::{Attestation, ExplainResponse, Process};
use serde_json::Value;
use std::fs::File;
use std::io::Read;

/// Bytes of a file that `jsi whoami -o json` wrote.
const MAX_FILE: u64 = 1024 * 1024;

/// The facts that a policy takes from an attestation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: Option<u32>,
    pub(super) exe: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) container: Option<String>,
    pub(super) target: Option<String>,
    pub(super) target_digest: Option<String>,
    pub(super) scope: Vec<(String, String)>,
    /// What an operator should read above the policy.
    pub(super) notes: Vec<String>,
}

/// By `whoami`, a request's ID, or a file.
pub(super) fn from(whom: &str) -> Result<Seen, Failure> {
    if whom == "whoami" {
        let (attestation, _) =
            session::block_on(async { session::agent().await?.who_am_i().await })?;
        return of_attestation(&attestation);
    }
    if crate::commands::explain::is_request_id(whom) {
        let found = session::block_on(async { session::admin().await?.explain(whom).await })?;
        return of_explained(&found);
    }
    let text = read(whom)?;
    let wrong = |why: String| {
        Failure::new(format!("{whom} is not what `jsi whoami -o json` prints: {why}"))
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    of_json(&value).map_err(|why| wrong(why.to_owned()))
}

fn read(path: &str) -> Result<String, Failure> {
    let fault = |error: std::io::Error| {
        let failure = Failure::new(format!("cannot read {path}: {error}"));
        failure.advise("give whoami, a request's ID, or a file that jsi whoami -o json wrote")
    };
    let input: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(fault)?)
    };
    let mut text = String::new();
    input.take(MAX_FILE + 1).read_to_string(&mut text).map_err(fault)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Failure::new(format!("{path} is larger than 1 MiB")));
    }
    Ok(text)
}

/// The requester of an attestation.
fn of_attestation(attestation: &Attestation) -> Result<Seen, Failure> {
    match &attestation.requester {
        Some(process) => Ok(of_process(process)),
        None => Err(Failure::new("the agent found no requester, so there is nothing to permit")),
    }
}

/// The requester of a request that was decided, and what it asked for.
fn of_explained(found: &ExplainResponse) -> Result<Seen, Failure> {
    let attestation = found.attestation.as_ref();
    let attestation = attestation.ok_or_else(|| Failure::new("the request was not attested"))?;
    let mut seen = of_attestation(attestation)?;
    if let Some(target) = &found.target {
        seen.target = some(&target.exe);
        seen.target_digest = some(&target.digest);
    }
    seen.scope = found.scope.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    seen.scope.sort();
    Ok(seen)
}

fn of_process(process: &Process) -> Seen {
    let exe = process.exe.as_ref();
    let mut seen = Seen {
        uid: Some(process.uid),
        exe: exe.and_then(|exe| some(&exe.path)),
        digest: exe.and_then(|exe| some(&exe.digest)),
        container: some(&process.container),
        ..Seen::default()
    };
    seen.take_unit(&process.unit);
    seen
}

/// `jsi whoami -o json`, or `jsi explain ID -o json`.
fn of_json(value: &Value) -> Result<Seen, &'static str> {
    let attestation = if value["attestation"].is_object() { &value["attestation"] } else { value };
    let process = &attestation["requester"];
    if !process.is_object() {
        return Err("there is no requester in it");
    }
    let text = |value: &Value| value.as_str().and_then(some);
    let uid = process["uid"].as_u64().and_then(|uid| u32::try_from(uid).ok());
    let mut seen = Seen {
        uid: Some(uid.ok_or("its requester has no uid")?),
        exe: text(&process["exe"]["path"]),
        digest: text(&process["exe"]["digest"]),
        container: text(&process["container"]),
        target: text(&value["target"]["exe"]),
        target_digest: text(&value["target"]["digest"]),
        ..Seen::default()
    };
    seen.take_unit(process["unit"].as_str().unwrap_or_default());
    for (key, value) in value["scope"].as_object().into_iter().flatten() {
        seen.scope.extend(text(value).map(|value| (key.clone(), value)));
    }
    let digests = [&seen.digest, &seen.target_digest].into_iter().flatten();
    if digests.into_iter().any(|digest| crate::commands::revoke::digest(digest).is_err()) {
        return Err("a digest in it is no SHA-256");
    }
    if [&seen.exe, &seen.target].into_iter().flatten().any(|path| !path.starts_with('/')) {
        return Err("a path in it does not begin with /");
    }
    Ok(seen)
}

impl Seen {
    /// A service keeps its name; a scope (a login, a window) has another each time.
    fn take_unit(&mut self, unit: &str) {
        if lasting(unit) {
            self.unit = Some(unit.to_owned());
        } else if !unit.is_empty() {
            self.notes.push(format!("Seen in {unit}, which is named anew each time: left out."));
        }
    }
}

/// The unit will be called the same the next time.
pub(super) fn lasting(unit: &str) -> bool {
    unit.ends_with(".service") && !unit.starts_with("user@")
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_whoami_prints_names_whom_to_allow() {
        let digest = "ab".repeat(32);
        let whoami = json!({ "attestation": { "requester": {
            "uid": 1000, "exe": { "path": "/usr/bin/bash", "digest": digest },
            "unit": "session-3.scope", "container": "",
        } } });
        let seen = of_json(&whoami).unwrap();
        assert_eq!((seen.uid, seen.exe.as_deref()), (Some(1000), Some("/usr/bin/bash")));
        assert_eq!((seen.digest, seen.unit), (Some(digest), None));
        assert!(seen.notes[0].contains("session-3.scope"));
        assert!(lasting("report.service") && !lasting("user@1000.service") && !lasting("a.scope"));
    }

    #[test]
    fn what_is_not_of_whoami_is_refused() {
        for bad in [
            json!({}),
            json!([]),
            json!({ "requester": {} }),
            json!({ "requester": { "uid": -1 } }),
            json!({ "requester": { "uid": 4_294_967_296_u64 } }),
            json!({ "requester": { "uid": 1, "exe": { "path": "bash" } } }),
            json!({ "requester": { "uid": 1, "exe": { "path": "/a", "digest": "x" } } }),
        ] {
            assert!(of_json(&bad).is_err(), "{bad}");
        }
    }
}
