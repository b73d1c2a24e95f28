//! The last decisions, for `jsi explain`.

use crate::delivery::Explained;
use crate::names::RequestId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many are remembered; older ones are in the log.
const REMEMBERED: usize = 4096;

/// A ring of decisions.
#[derive(Default)]
pub(super) struct Decisions(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    order: VecDeque<RequestId>,
    found: HashMap<RequestId, Explained>,
}

impl Decisions {
    /// Remembers one, and forgets the oldest where there are too many.
    pub(super) fn remember(&self, decision: Explained) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.order.len() >= REMEMBERED
            && let Some(oldest) = ring.order.pop_front()
        {
            ring.found.remove(&oldest);
        }
        ring.order.push_back(decision.request.clone());
        ring.found.insert(decision.request.clone(), decision);
    }

    /// The one of that name.
    pub(super) fn find(&self, request: &RequestId) -> Option<Explained> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.found.get(request).cloned()
    }
}
