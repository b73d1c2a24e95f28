//! The last decisions, for `jsi explain`.

use crate::attestation::{Fact, ProcessFacts};
use crate::delivery::Explained;
use crate::names::RequestId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered; older ones are in the log.
const REMEMBERED: usize = 4096;
/// Bytes that they may take together, roughly: a requester chooses how long its
/// paths are and how many ancestors it has.
const REMEMBERED_BYTES: usize = 4 << 20;

/// A ring of decisions.
#[derive(Default)]
pub(super) struct Decisions(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    bytes: usize,
    order: VecDeque<(RequestId, usize)>,
    found: HashMap<RequestId, Explained>,
}

impl Decisions {
    /// Remembers one, and forgets the oldest where there are too many.
    pub(super) fn remember(&self, decision: Explained) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = weight(&decision);
        while ring.order.len() >= REMEMBERED || ring.bytes + weight > REMEMBERED_BYTES {
            let Some((oldest, freed)) = ring.order.pop_front() else { break };
            ring.bytes -= freed;
            ring.found.remove(&oldest);
        }
        ring.bytes += weight;
        ring.order.push_back((decision.request.clone(), weight));
        ring.found.insert(decision.request.clone(), decision);
    }

    /// The one of that name.
    pub(super) fn find(&self, request: &RequestId) -> Option<Explained> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.found.get(request).cloned()
    }
}

/// About how many bytes it takes.
fn weight(decision: &Explained) -> usize {
    let attestation = &decision.attestation;
    let processes = [&attestation.caller, &attestation.requester].into_iter();
    let steps = decision.steps.iter().map(|step| 64 + step.policy.len() + step.detail.len());
    512 + decision.reason.len()
        + processes.chain(&attestation.ancestry).map(weight_of).sum::<usize>()
        + steps.sum::<usize>()
}

fn weight_of(process: &ProcessFacts) -> usize {
    let text = |fact: &Fact<String>| match fact {
        Fact::Known(text) | Fact::Unreadable(text) => text.len(),
        Fact::Absent => 0,
    };
    let exe = match &process.exe {
        Fact::Known(exe) => {
            exe.path.as_ref().map_or(0, String::len) + exe.verity.as_ref().map_or(0, String::len)
        }
        Fact::Unreadable(why) => why.len(),
        Fact::Absent => 0,
    };
    let shortfalls = process.shortfalls.iter().map(|missed| 32 + missed.reason.len());
    let facts = [&process.tty, &process.unit, &process.container, &process.cgroup];
    size_of::<ProcessFacts>()
        + 4 * process.groups.len()
        + exe
        + facts.into_iter().map(text).sum::<usize>()
        + shortfalls.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::policy::testing::{direct, process};
    use std::sync::Arc;

    #[test]
    fn what_is_remembered_does_not_grow_with_what_requesters_choose() {
        let decisions = Decisions::default();
        let long = ProcessFacts {
            cgroup: Fact::Known("x".repeat(100_000)),
            ..process(1000, "/usr/bin/psql")
        };
        let attestation = direct(long);
        let held = Arc::downgrade(attestation.requester_pidfd.as_ref().unwrap());
        for number in 0..1_000_u64 {
            decisions.remember(Explained {
                request: RequestId::new(number.to_be_bytes()),
                at: WallTime(0),
                action: "request".to_owned(),
                credential: String::new(),
                permitted: false,
                reason: String::new(),
                attestation: Arc::new(attestation.told()),
                steps: Vec::new(),
                limits: None,
            });
        }
        drop(attestation);
        assert!(held.upgrade().is_none(), "a decision holds no descriptor");
        let ring = decisions.0.lock().unwrap();
        assert!(ring.bytes <= REMEMBERED_BYTES);
        assert!(!ring.found.is_empty() && ring.found.len() < 50, "{}", ring.found.len());
        assert_eq!(ring.found.len(), ring.order.len());
    }
}
