//! The last decisions, for `jsi explain`.

use crate::attestation::{Fact, ProcessFacts};
use crate::delivery::Explained;
use crate::names::RequestId;
use crate::policy::{Condition, Step};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered; older ones are in the log, unless there were too
/// many denials.
const REMEMBERED: usize = 4096;
/// Bytes that they may take together, roughly: a requester chooses how long its
/// paths are and how many ancestors it has.
const REMEMBERED_BYTES: usize = 4 << 20;

/// The last decisions of each uid.
#[derive(Default)]
pub(super) struct Decisions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bytes: usize,
    by_uid: HashMap<u32, Share>,
    found: HashMap<RequestId, Explained>,
}

/// What is kept of one uid, oldest first, each with its weight.
#[derive(Default)]
struct Share {
    bytes: usize,
    order: VecDeque<(RequestId, usize)>,
}

impl Decisions {
    /// Remembers one, and forgets the oldest of whoever takes most where there is
    /// too much: a uid that asks all the time pushes out only its own.
    pub(super) fn remember(&self, decision: Explained) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = weight(&decision);
        while kept.found.len() >= REMEMBERED || kept.bytes + weight > REMEMBERED_BYTES {
            if !kept.forget_one() {
                break;
            }
        }
        let share = kept.by_uid.entry(decision.attestation.requester.uid).or_default();
        share.bytes += weight;
        share.order.push_back((decision.request.clone(), weight));
        kept.bytes += weight;
        kept.found.insert(decision.request.clone(), decision);
    }

    /// The one of that name.
    pub(super) fn find(&self, request: &RequestId) -> Option<Explained> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.found.get(request).cloned()
    }
}

impl Kept {
    /// Whether there was one to forget.
    fn forget_one(&mut self) -> bool {
        let most = self.by_uid.iter().max_by_key(|(_, share)| share.bytes);
        let Some(uid) = most.map(|(uid, _)| *uid) else { return false };
        let Some(share) = self.by_uid.get_mut(&uid) else { return false };
        let Some((oldest, weight)) = share.order.pop_front() else { return false };
        share.bytes -= weight;
        if share.order.is_empty() {
            self.by_uid.remove(&uid);
        }
        self.bytes -= weight;
        self.found.remove(&oldest);
        true
    }
}

/// About how many bytes it takes.
fn weight(decision: &Explained) -> usize {
    let attestation = &decision.attestation;
    let processes = [&attestation.caller, &attestation.requester].into_iter();
    let steps = decision.steps.iter().map(weight_of_step);
    let scope = decision.scope.iter().map(|(key, value)| 64 + key.len() + value.len());
    512 + decision.reason.len()
        + scope.sum::<usize>()
        + decision.target.as_ref().map_or(0, |target| target.exe.len() + target.digest.len())
        + processes.chain(&attestation.ancestry).map(weight_of).sum::<usize>()
        + steps.sum::<usize>()
}

fn weight_of_step(step: &Step) -> usize {
    let limits = step.limits.iter().map(|(name, value)| 64 + name.len() + value.len());
    size_of::<Step>()
        + step.policy.len()
        + step.place.len()
        + step.detail.len()
        + limits.sum::<usize>()
        + step.conditions.iter().map(weight_of_condition).sum::<usize>()
}

fn weight_of_condition(condition: &Condition) -> usize {
    let saw = condition.saw.iter().map(|saw| 64 + saw.name.len() + saw.value.len());
    size_of::<Condition>()
        + condition.text.len()
        + condition.note.len()
        + condition.wanted.as_ref().map_or(0, String::len)
        + saw.sum::<usize>()
        + condition.either.iter().map(weight_of_condition).sum::<usize>()
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
    let around = process.around.texts().map(|(_, fact)| fact);
    size_of::<ProcessFacts>()
        + 4 * process.groups.len()
        + exe
        + facts.into_iter().chain(around).map(text).sum::<usize>()
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
        for number in 0..1_000_u64 {
            decisions.remember(Explained {
                request: RequestId::new(number.to_be_bytes()),
                at: WallTime(0),
                action: "request".to_owned(),
                credential: String::new(),
                permitted: false,
                reason: String::new(),
                attestation: Arc::new(attestation.clone()),
                steps: Vec::new(),
                limits: None,
                scope: std::collections::BTreeMap::new(),
                delivery: crate::policy::Delivery::Caller,
                binding: None,
                target: None,
            });
        }
        let kept = decisions.0.lock().unwrap();
        assert!(kept.bytes <= REMEMBERED_BYTES);
        assert!(!kept.found.is_empty() && kept.found.len() < 50, "{}", kept.found.len());
        let listed: usize = kept.by_uid.values().map(|share| share.order.len()).sum();
        assert_eq!(kept.found.len(), listed);
    }
}
