//! A few threads that read files, so that one slow file holds up nobody else.

use super::AttestError;
use super::executable::{HashLimits, Key, Look, Measured, SharedDigests};
use crate::mutants::{Check, on};
use governor::{DefaultKeyedRateLimiter, Quota};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Files read at once.
const THREADS: usize = 4;
/// Files read at once for one uid: others always find a thread.
const THREADS_PER_UID: usize = 2;
/// Files that wait for one uid.
const QUEUED_PER_UID: usize = 64;
/// Requests that wait for one file.
const WAITERS: usize = 4096;

/// Called with what came of it, on a thread of the pool.
pub(super) type Then = Box<dyn FnOnce(Result<Measured, String>) + Send>;

/// Reads executables: limited for each uid before it begins, equal work once.
pub(super) struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    digests: SharedDigests,
}

struct State {
    closed: bool,
    limits: HashLimits,
    limiter: DefaultKeyedRateLimiter<u32>,
    per_minute: u32,
    queue: VecDeque<(Look, u32)>,
    waiting: HashMap<Key, Vec<Then>>,
    queued: HashMap<u32, usize>,
    running: HashMap<u32, usize>,
}

impl Pool {
    /// Starts the threads; they end after [`close`](Self::close).
    pub(super) fn start(
        digests: SharedDigests,
        limits: HashLimits,
        per_minute: u32,
    ) -> std::io::Result<Arc<Self>> {
        let pool = Arc::new(Self {
            state: Mutex::new(State {
                closed: false,
                limits,
                limiter: limiter(per_minute),
                per_minute,
                queue: VecDeque::new(),
                waiting: HashMap::new(),
                queued: HashMap::new(),
                running: HashMap::new(),
            }),
            wake: Condvar::new(),
            digests,
        });
        for _ in 0..THREADS {
            let worker = Arc::clone(&pool);
            std::thread::Builder::new().name("hash".into()).spawn(move || worker.work())?;
        }
        Ok(pool)
    }

    /// New limits, after a reload.
    pub(super) fn set_limits(&self, limits: HashLimits, per_minute: u32) {
        let mut state = self.state();
        state.limits = limits;
        if state.per_minute != per_minute {
            state.per_minute = per_minute;
            state.limiter = limiter(per_minute);
        }
    }

    /// Reads the file for a request of `uid`, then calls `then`.
    pub(super) fn submit(&self, look: Look, uid: u32, then: Then) -> Result<(), AttestError> {
        let mut state = self.state();
        if let Some(waiters) = state.waiting.get_mut(&look.key()) {
            if waiters.len() >= WAITERS {
                return Err(AttestError::Limit(format!(
                    "more than {WAITERS} requests wait for one executable"
                )));
            }
            waiters.push(then);
            return Ok(());
        }
        if state.queued.get(&uid).copied().unwrap_or(0) >= QUEUED_PER_UID {
            return Err(AttestError::Limit(format!(
                "{QUEUED_PER_UID} executables of uid {uid} wait to be hashed"
            )));
        }
        if on(Check::HashRate) && state.limiter.check_key(&uid).is_err() {
            return Err(AttestError::Limit(format!(
                "uid {uid} has had limits.hashes_per_minute = {} executables hashed; wait, or raise it",
                state.per_minute
            )));
        }
        if state.limiter.len() > 4096 {
            state.limiter.retain_recent();
        }
        *state.queued.entry(uid).or_default() += 1;
        state.waiting.insert(look.key(), vec![then]);
        state.queue.push_back((look, uid));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Lets the threads end.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }

    fn work(&self) {
        while let Some((look, uid, limits)) = self.next() {
            let result = self.digests.read(&look, limits);
            let waiters = {
                let mut state = self.state();
                release(&mut state.running, uid);
                state.waiting.remove(&look.key()).unwrap_or_default()
            };
            self.wake.notify_all();
            for then in waiters {
                then(result.clone());
            }
        }
    }

    fn next(&self) -> Option<(Look, u32, HashLimits)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let free = |(_, uid): &(Look, u32)| {
                state.running.get(uid).copied().unwrap_or(0) < THREADS_PER_UID
            };
            if let Some(at) = state.queue.iter().position(free)
                && let Some((look, uid)) = state.queue.remove(at)
            {
                release(&mut state.queued, uid);
                *state.running.entry(uid).or_default() += 1;
                return Some((look, uid, state.limits));
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limiter(per_minute: u32) -> DefaultKeyedRateLimiter<u32> {
    DefaultKeyedRateLimiter::keyed(Quota::per_minute(
        NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN),
    ))
}

fn release(counts: &mut HashMap<u32, usize>, uid: u32) {
    if let Some(count) = counts.get_mut(&uid) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&uid);
        }
    }
}
