//! Plain types as the log has them.

use crate::attestation::{Assurance, Attestation, ProcessFacts, Via};
use crate::log::{HolderRecord, TargetRecord};
use crate::policy::Target;

/// Reasons that one record has: who is refused must not be able to make it long.
const MAX_REASONS: usize = 4;
/// Characters of each.
const MAX_REASON: usize = 200;

/// The requester of an attestation.
pub(super) fn holder(attestation: &Attestation) -> HolderRecord {
    let facts: &ProcessFacts = &attestation.requester;
    let exe = facts.exe.known();
    HolderRecord {
        pid: facts.pid,
        start_time: facts.start_time,
        uid: facts.uid,
        gid: facts.gid,
        exe: exe.and_then(|exe| exe.path.clone()),
        digest: exe.map(|exe| exe.digest.hex()),
        unit: facts.unit.known().cloned(),
        invocation: facts.around.invocation.known().cloned(),
        container: facts.container.known().cloned(),
        container_runtime: facts.around.container_runtime.known().cloned(),
        pod: facts.around.pod.known().cloned(),
        lsm: facts.around.lsm.known().cloned(),
        assurance: attestation.assurance.level(),
        assurance_with_jit: Some(attestation.assurance_with_jit)
            .filter(|&more| more > attestation.assurance)
            .map(Assurance::level),
        missed: missed(attestation),
        caller: (attestation.caller.pid != facts.pid).then_some(attestation.caller.pid),
        target: None,
    }
}

/// The requester of a request, with what the caller will become. Whoever asks
/// directly would name whatever it liked.
pub(super) fn asker(attestation: &Attestation, target: Option<&Target>) -> HolderRecord {
    let target = target.filter(|_| attestation.via != Via::Direct);
    HolderRecord { target: target.map(self::target), ..holder(attestation) }
}

fn target(target: &Target) -> TargetRecord {
    let mut doubts: Vec<String> = target.unseen.iter().chain(&target.unsealed).cloned().collect();
    doubts.dedup();
    TargetRecord {
        exe: target.exe.clone(),
        sealed: target.unsealed.is_none(),
        digest: target.digest.clone(),
        script_digest: target.script_digest.clone(),
        interpreter: target.interpreter.clone(),
        interpreter_digest: target.interpreter_digest.clone(),
        doubts,
    }
}

/// Why the level is not one more: what kept requester or caller from it.
fn missed(attestation: &Attestation) -> Vec<String> {
    let Attestation { caller, requester, assurance, .. } = attestation;
    let of = |process: &ProcessFacts, whose: &str| {
        let next = process.shortfalls.iter().filter(|s| s.level.level() == assurance.level() + 1);
        let text = |reason: &str| format!("{whose}{reason}").chars().take(MAX_REASON).collect();
        next.map(|shortfall| text(&shortfall.reason)).collect::<Vec<String>>()
    };
    let mut reasons = of(requester, "");
    if caller.pid != requester.pid {
        reasons.extend(of(caller, "the client: "));
    }
    reasons.truncate(MAX_REASONS);
    reasons
}
