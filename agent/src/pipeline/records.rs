//! Plain types as the log has them.

use crate::attestation::{Attestation, ProcessFacts};
use crate::log::HolderRecord;

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
        caller: (attestation.caller.pid != facts.pid).then_some(attestation.caller.pid),
    }
}
