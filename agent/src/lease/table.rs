//! All leases and their indexes: plain bookkeeping under the engine's one lock.

use super::LeaseError;
use super::binding::Watch;
use super::entry::{Binding, Entry, Interner, Offer, Subject, hash};
use super::expiry::{Deadlines, Due};
use super::machine::State;
use super::terms::BindingKey;
use crate::clock::BootTime;
use crate::log::{HolderRecord, LeaseState};
use crate::policy::RequesterKey;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Ended leases that are remembered for listings.
pub(super) const REMEMBERED: usize = 1_024;

/// Most live leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub(super) total: u32,
    pub(super) per_uid: u32,
}

/// All leases.
pub(super) struct Table {
    /// In the order of their issue.
    pub(super) entries: BTreeMap<u64, Box<Entry>>,
    pub(super) ended: VecDeque<Box<Entry>>,
    pub(super) deadlines: Deadlines,
    pub(super) watches: HashMap<BindingKey, Watch>,
    pub(super) subjects: Interner<Subject>,
    pub(super) offers: Interner<Offer>,
    pub(super) holders: Interner<HolderRecord>,
    pub(super) stopping: bool,
    /// See `Engine::rotations`.
    pub(super) rotations: u64,
    names: BTreeMap<Arc<str>, u64>,
    by_reuse: BTreeSet<(u64, u64)>,
    by_binding: BTreeSet<(BindingKey, u64)>,
    per_uid: HashMap<u32, u32>,
    live: u32,
    next: u64,
    ceilings: Ceilings,
}

impl Table {
    pub(super) fn new(ceilings: Ceilings) -> Self {
        Self {
            entries: BTreeMap::new(),
            ended: VecDeque::new(),
            deadlines: Deadlines::default(),
            watches: HashMap::new(),
            subjects: Interner::default(),
            offers: Interner::default(),
            holders: Interner::default(),
            stopping: false,
            rotations: 0,
            names: BTreeMap::new(),
            by_reuse: BTreeSet::new(),
            by_binding: BTreeSet::new(),
            per_uid: HashMap::new(),
            live: 0,
            next: 0,
            ceilings,
        }
    }

    /// Counts one more pending or active lease of `uid`.
    pub(super) fn reserve(&mut self, uid: u32) -> Result<(), LeaseError> {
        let Ceilings { total, per_uid } = self.ceilings;
        if self.live >= total {
            return Err(LeaseError::Limit(format!(
                "all {total} leases of this agent are taken (limits.leases)"
            )));
        }
        let count = self.per_uid.entry(uid).or_default();
        if *count >= per_uid {
            return Err(LeaseError::Limit(format!(
                "uid {uid} holds {per_uid} leases, as many as it may (limits.leases_per_uid)"
            )));
        }
        *count += 1;
        self.live += 1;
        Ok(())
    }

    /// Counts one fewer.
    pub(super) fn unreserve(&mut self, uid: u32) {
        self.live = self.live.saturating_sub(1);
        if let Some(count) = self.per_uid.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_uid.remove(&uid);
            }
        }
    }

    /// Counts a lease of before a restart: it is there, limit or not.
    pub(super) fn reserve_restored(&mut self, uid: u32) {
        *self.per_uid.entry(uid).or_default() += 1;
        self.live += 1;
    }

    /// Pending and active ones: in total, and of `uid`.
    pub(super) fn counts(&self, uid: u32) -> (u32, u32) {
        (self.live, self.per_uid.get(&uid).copied().unwrap_or(0))
    }

    /// Takes it in, in whatever state it is; its place is reserved where it is live.
    pub(super) fn insert(&mut self, entry: Box<Entry>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.names.insert(Arc::clone(&entry.id), number);
        self.entries.insert(number, entry);
        number
    }

    /// Takes a pending lease out; its place stays reserved.
    pub(super) fn take_pending(&mut self, id: &str) -> Option<Box<Entry>> {
        let number = self.number(id)?;
        matches!(self.entries.get(&number)?.state, State::Pending).then_some(())?;
        self.names.remove(id);
        self.entries.remove(&number)
    }

    pub(super) fn number(&self, id: &str) -> Option<u64> {
        self.names.get(id).copied()
    }

    /// Those whose ID begins with `prefix`, in the order of their issue.
    pub(super) fn beginning_with(&self, prefix: &str) -> Vec<u64> {
        if prefix.is_empty() {
            return self.entries.keys().copied().collect();
        }
        let names = self
            .names
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        let mut found: Vec<u64> =
            names.take_while(|(id, _)| id.starts_with(prefix)).map(|(_, number)| *number).collect();
        found.sort_unstable();
        found
    }

    /// At most `most` of those bound to `key`.
    pub(super) fn bound_to(&self, key: BindingKey, most: usize) -> Vec<u64> {
        let range = self.by_binding.range((key, 0)..=(key, u64::MAX));
        range.take(most).map(|(_, number)| *number).collect()
    }

    /// Active ones that an equal request may share, newest first.
    pub(super) fn reusable(&self, slot: u64) -> impl Iterator<Item = &Entry> {
        let range = self.by_reuse.range((slot, 0)..=(slot, u64::MAX));
        range.rev().filter_map(|(_, number)| Some(&**self.entries.get(number)?))
    }

    /// Enters an active lease into the indexes.
    pub(super) fn activate(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else { return };
        if !entry.offer.hold_none {
            self.by_reuse.insert((slot_of(entry), number));
        }
        let key = entry.binding.key();
        if key != BindingKey::None {
            self.by_binding.insert((key, number));
            if let Some(watch) = self.watches.get_mut(&key) {
                watch.leases += 1;
            }
        }
    }

    /// Takes a lease that is no longer active out of the indexes.
    pub(super) fn deactivate(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else { return };
        let (key, slot, expires) = (entry.binding.key(), slot_of(entry), entry.expires);
        self.by_reuse.remove(&(slot, number));
        self.deadlines.remove(expires, number, Due::Expiry);
        if self.by_binding.remove(&(key, number))
            && let Some(watch) = self.watches.get_mut(&key)
        {
            watch.leases = watch.leases.saturating_sub(1);
            if watch.leases == 0 {
                // Dropping it ends the task and lets go of the pidfd.
                self.watches.remove(&key);
            }
        }
    }

    /// Moves the deadline of an active lease; true where it is now the first of all.
    pub(super) fn expire_at(&mut self, number: u64, at: BootTime) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        self.deadlines.remove(entry.expires, number, Due::Expiry);
        entry.expires = at;
        self.deadlines.insert(at, number, Due::Expiry)
    }

    /// Puts the next try of a revocation into the queue; true as above.
    pub(super) fn retry_at(&mut self, number: u64, at: Option<BootTime>) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        if let Some(earlier) = entry.retry.take() {
            self.deadlines.remove(earlier, number, Due::Retry);
        }
        entry.retry = at;
        at.is_some_and(|at| self.deadlines.insert(at, number, Due::Retry))
    }

    /// Moves a lease that is over to those remembered.
    pub(super) fn retire(&mut self, number: u64) {
        self.retry_at(number, None);
        let Some(mut entry) = self.entries.remove(&number) else { return };
        self.names.remove(&entry.id);
        entry.at_rest = None;
        entry.handle = None;
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(entry);
    }

    /// One that is over, while it is remembered.
    pub(super) fn remembered(&self, id: &str) -> Option<&Entry> {
        self.ended.iter().rev().find(|entry| &*entry.id == id).map(|entry| &**entry)
    }

    /// Whether any lease is being revoked.
    pub(super) fn ending(&self) -> usize {
        let states = self.entries.values().map(|entry| entry.state.name());
        states.filter(|state| *state == LeaseState::Ending).count()
    }
}

/// The place of a lease in the index for reuse.
fn slot_of(entry: &Entry) -> u64 {
    let holder = &entry.holder;
    let key = RequesterKey {
        pid: holder.pid,
        start_time: holder.start_time,
        uid: holder.uid,
        digest: holder.digest.clone(),
    };
    let key = match &entry.binding {
        // Only the bound process may read again.
        Binding::Process(process) => {
            RequesterKey { pid: process.pid, start_time: process.start_time, ..key }
        }
        Binding::Connection(_) | Binding::None => key,
    };
    slot(&key, &entry.subject, entry.binding.key())
}

/// Equal for equal requests of the same requester; unequal ones may share it.
pub(super) fn slot(key: &RequesterKey, subject: &Subject, binding: BindingKey) -> u64 {
    match binding {
        BindingKey::None if key.digest.is_some() => hash(&(key.uid, &key.digest, subject, binding)),
        _ => hash(&(key.uid, key.pid, key.start_time, subject, binding)),
    }
}
