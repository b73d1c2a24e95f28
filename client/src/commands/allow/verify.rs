//! Whether a policy does what it is meant to: asked of the agent before it is
//! written and when it is in force. An agent that cannot answer is no failure.

use crate::failure::Failure;
use crate::policy_text::PolicyText;
use crate::{output, session};
use jsi_client::v1::{Delivery, Executable, ExplainResponse, Hypothesis, Process, TargetClaim};
use jsi_client::{Error, Kind};

/// What policy says to such a request now; refuses a credential that no one defines.
pub(super) fn before(
    policy: &PolicyText,
    undefined: bool,
) -> Result<Option<ExplainResponse>, Failure> {
    if policy.credential.ends_with('/') {
        tell_of_an_empty_prefix(&policy.credential);
        return Ok(None);
    }
    match ask(policy) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::NotFound && !undefined => Err(Failure::from(error)
            .advise("define it first, or allow it before it is there: --undefined")),
        Err(_) => Ok(None),
    }
}

/// Says where such a request is still denied, or was permitted before.
pub(super) fn after(policy: &PolicyText, before: Option<&ExplainResponse>) {
    let timed = policy.between.is_some() || !policy.weekdays.is_empty();
    if before.is_none() || timed {
        return;
    }
    let Ok(now) = ask(policy) else { return };
    if now.decision == "denied" {
        output::note(&format!("warning: such a request is still denied: {}", now.reason));
        return;
    }
    let already = before.filter(|before| before.decision == "permitted");
    if let Some(before) = already {
        let by: Vec<&str> = before.steps.iter().map(|step| step.policy.as_str()).collect();
        output::note(&format!("note: it was permitted already, by {}", by.join(", ")));
    }
}

fn tell_of_an_empty_prefix(prefix: &str) {
    let names =
        session::block_on(async { session::agent_of_operators().await?.credentials(prefix).await });
    if names.is_ok_and(|names| names.is_empty()) {
        output::note(&format!("note: no credential is defined below {prefix} yet"));
    }
}

fn ask(policy: &PolicyText) -> Result<ExplainResponse, Error> {
    let hypothesis = hypothesis(policy);
    session::block_on_plainly(async { session::admin().await?.suppose(hypothesis).await })
}

/// A request that the policy is meant to permit.
fn hypothesis(policy: &PolicyText) -> Hypothesis {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let uid = policy.uids.first().copied();
    let uid = uid.unwrap_or_else(|| nix::unistd::getuid().as_raw());
    let exe = (policy.exe.is_some() || policy.digest.is_some()).then(|| Executable {
        path: text(&policy.exe),
        digest: text(&policy.digest),
        ..Default::default()
    });
    let named = policy.target.is_some() || policy.target_digest.is_some();
    let script = policy.script.clone();
    let target = (named || script.is_some()).then(|| {
        let script = script.unwrap_or_default();
        TargetClaim {
            exe: policy.target.clone().unwrap_or_else(|| "/".to_owned()),
            digest: text(&policy.target_digest),
            script_digest: script.digest,
            interpreter: script.interpreter,
            interpreter_digest: text(&script.interpreter_digest),
            ..Default::default()
        }
    });
    let requester = Process {
        uid,
        gid: policy.gids.first().copied().unwrap_or(uid),
        exe,
        tty: text(&policy.tty),
        unit: text(&policy.unit),
        container: text(&policy.container),
        pod: text(&policy.pod),
        lsm: text(&policy.lsm),
        cgroup: text(&policy.cgroup),
        assurance: u32::from(policy.assurance.unwrap_or(1)),
        ..Default::default()
    };
    let delivery = match policy.delivery.first().map(String::as_str) {
        Some("environment") => Delivery::Environment,
        Some("descriptor") => Delivery::Descriptor,
        Some("file") => Delivery::File,
        _ => Delivery::Caller,
    };
    let action = policy.actions.first().filter(|action| *action != "use");
    Hypothesis {
        credential: policy.credential.clone(),
        action: action.cloned().unwrap_or_default(),
        scope: policy.scope.iter().cloned().collect(),
        delivery: delivery.into(),
        binding: text(&policy.bind),
        target,
        requester: Some(requester),
        ..Default::default()
    }
}
