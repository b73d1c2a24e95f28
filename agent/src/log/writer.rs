//! Group commit: one thread takes everything that waits, commits it, and
//! completes all waiters.

use super::core::{Core, Entry};
use super::error::LogError;
use super::fold::Folded;
use super::open;
use super::record::{Event, LeaseRecord};
use super::seal::{Sealer, line_hash};
use super::{Head, Stats};
use crate::clock::Clock;
use crate::memory::SecretBuf;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Records that may wait for the disk. Beyond it [`Log::append`] and
/// [`Log::append_background`] block their thread until there is room: a disk
/// that slow already holds up everything, and no record may be dropped.
const MAX_WAITING: usize = 65_536;

/// How long records that nobody waits for may wait for one that somebody waits
/// for: one sync then serves both, where otherwise a grant would wait out the
/// sync of the release before it. What a crash may lose grows by as much; it
/// costs a repeated revocation.
const COMPANY: Duration = Duration::from_millis(5);

/// Records in one write, so that one batch has an end.
const MAX_BATCH: usize = 4_096;

/// The log, open for appending. Clones share it; when the last one is dropped,
/// what waits is written and the writer ends.
#[derive(Clone)]
pub struct Log(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    now: Mutex<Now>,
    stats: Arc<Stats>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Somebody waits for one of them.
    awaited: bool,
    closed: bool,
}

impl Queue {
    /// What waits is to be written now.
    fn is_due(&self) -> bool {
        self.awaited || self.closed || self.waiting.len() >= MAX_BATCH
    }
}

struct Waiting {
    /// `None`: only a barrier.
    entry: Option<Entry>,
    done: Option<oneshot::Sender<Result<(), LogError>>>,
}

struct Now {
    head: Head,
    fault: Option<LogError>,
    sealer: Option<Arc<Sealer>>,
}

impl Log {
    /// Opens the log in `dir` or begins one, and says what it says of the
    /// present. `segment_bytes`: how large a segment grows.
    ///
    /// # Errors
    /// Whatever keeps the agent from issuing anything; see [`LogError`].
    pub fn open(
        dir: &Path,
        clock: Clock,
        sealer: Option<Sealer>,
        segment_bytes: u64,
    ) -> Result<(Self, Folded), LogError> {
        let (core, folded) = open::open(dir, clock, segment_bytes)?;
        let path = core.path();
        let now = Now { head: core.head(), fault: None, sealer: sealer.map(Arc::new) };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            now: Mutex::new(now),
            stats: core.stats.clone(),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || run(core, &worker))
            .map_err(|error| LogError::unusable(&path, &error))?;
        Ok((Self(Arc::new(Handle { shared, thread: Some(thread) })), folded))
    }

    /// Appends a record. It has its place once this returns; the future
    /// resolves when it is durable. Dropping the future does not take it back.
    ///
    /// # Errors
    /// [`LogError::Failed`] once anything could not be written.
    pub fn append(
        &self,
        event: Event,
    ) -> impl Future<Output = Result<(), LogError>> + Send + 'static {
        let queued = if names_sealed_line(&event) {
            Err(LogError::Bug("a record that names a sealed line came without it".to_owned()))
        } else {
            Ok(self.enqueue(Some(Entry { event, sealed: None })))
        };
        wait(queued)
    }

    /// Appends a record without waiting; order is kept. If it cannot be
    /// written, [`Log::fault`] says so.
    pub fn append_background(&self, event: Event) {
        if names_sealed_line(&event) {
            tracing::error!("a record that names a sealed line came without it; it is not written");
            return;
        }
        self.push(Waiting { entry: Some(Entry { event, sealed: None }), done: None });
    }

    /// Appends an [`Event::Intent`] or [`Event::Granted`] together with what
    /// revocation needs and is secret; its lease's `sealed` is filled in.
    ///
    /// # Errors
    /// [`LogError::NoSealer`] while no journal key is open, and as [`Log::append`].
    pub fn append_with_sealed(
        &self,
        mut event: Event,
        secret: SecretBuf,
    ) -> impl Future<Output = Result<(), LogError>> + Send + 'static {
        let sealer = self.now().sealer.clone();
        let queued = match (lease_of(&mut event), sealer) {
            (None, _) => Err(LogError::Bug("only a lease has a sealed line".to_owned())),
            (_, None) => Err(LogError::NoSealer),
            (Some(lease), Some(sealer)) => match sealer.seal(&lease.id, &secret) {
                Err(error) => Err(LogError::Bug(error.to_string())),
                Ok(line) => {
                    lease.sealed = Some(line_hash(line.as_bytes()));
                    Ok(self.enqueue(Some(Entry { event, sealed: Some(line) })))
                }
            },
        };
        drop(secret);
        wait(queued)
    }

    /// Resolves when everything appended so far is durable.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn flush(&self) -> impl Future<Output = Result<(), LogError>> + Send + 'static {
        wait(Ok(self.enqueue(None)))
    }

    /// The head over everything that is durable.
    #[must_use]
    pub fn head(&self) -> Head {
        self.now().head.clone()
    }

    /// Why nothing can be written any more; `None`: it can.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.now().fault.as_ref().map(ToString::to_string)
    }

    /// Takes the journal key into use, or out of it.
    pub fn set_sealer(&self, sealer: Option<Sealer>) {
        self.now().sealer = sealer.map(Arc::new);
    }

    /// The sealer in use, to open lines of [`Folded::sealed`].
    #[must_use]
    pub fn sealer(&self) -> Option<Arc<Sealer>> {
        self.now().sealer.clone()
    }

    /// Writes and syncs so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.shared.stats
    }

    fn enqueue(&self, entry: Option<Entry>) -> oneshot::Receiver<Result<(), LogError>> {
        let (done, receiver) = oneshot::channel();
        self.push(Waiting { entry, done: Some(done) });
        receiver
    }

    fn push(&self, waiting: Waiting) {
        let shared = &self.0.shared;
        let mut queue = lock(&shared.queue);
        while queue.waiting.len() >= MAX_WAITING {
            queue = shared.drained.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let first = queue.waiting.is_empty();
        queue.awaited |= waiting.done.is_some();
        queue.waiting.push_back(waiting);
        let wake = first || queue.is_due();
        drop(queue);
        if wake {
            shared.filled.notify_one();
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        lock(&self.0.shared.now)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been reported by the runtime already.
            let _ = thread.join();
        }
    }
}

async fn wait(
    queued: Result<oneshot::Receiver<Result<(), LogError>>, LogError>,
) -> Result<(), LogError> {
    let gone = |_| LogError::Bug("its writer ended early".to_owned());
    queued?.await.map_err(gone)?
}

fn run(mut core: Core, shared: &Shared) {
    let mut fault: Option<LogError> = None;
    while let Some(mut batch) = next_batch(shared) {
        let outcome = match &fault {
            Some(fault) => Err(fault.clone()),
            None => commit(&mut core, &mut batch),
        };
        let mut now = lock(&shared.now);
        match &outcome {
            Ok(()) => now.head = core.head(),
            Err(error) => {
                fault = Some(error.clone());
                now.fault = Some(error.clone());
            }
        }
        drop(now);
        for waiting in batch {
            if let Some(done) = waiting.done {
                // Whoever asked may have gone away.
                let _ = done.send(outcome.clone());
            }
        }
        if fault.is_none()
            && core.is_full()
            && let Err(error) = core.rotate()
        {
            fault = Some(error.clone());
            lock(&shared.now).fault = Some(error);
        }
        lock(&shared.now).head = core.head();
    }
}

fn commit(core: &mut Core, batch: &mut [Waiting]) -> Result<(), LogError> {
    if batch.iter().all(|waiting| waiting.entry.is_none()) {
        return Ok(());
    }
    core.commit(batch.iter_mut().filter_map(|waiting| waiting.entry.take()))
}

/// Everything that waits; `None` once the log is closed and nothing is left.
fn next_batch(shared: &Shared) -> Option<Vec<Waiting>> {
    let mut queue = lock(&shared.queue);
    while queue.waiting.is_empty() {
        if queue.closed {
            return None;
        }
        queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    let until = Instant::now() + COMPANY;
    while !queue.is_due() {
        let Some(left) = until.checked_duration_since(Instant::now()) else { break };
        let woken = shared.filled.wait_timeout(queue, left);
        queue = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
    let count = queue.waiting.len().min(MAX_BATCH);
    let batch = queue.waiting.drain(..count).collect();
    queue.awaited = queue.waiting.iter().any(|waiting| waiting.done.is_some());
    shared.drained.notify_all();
    Some(batch)
}

fn lease_of(event: &mut Event) -> Option<&mut LeaseRecord> {
    match event {
        Event::Intent { lease } | Event::Granted { lease } => Some(lease),
        _ => None,
    }
}

fn names_sealed_line(event: &Event) -> bool {
    match event {
        Event::Intent { lease } | Event::Granted { lease } => lease.sealed.is_some(),
        // Only the writer itself makes snapshots.
        Event::Snapshot { .. } => true,
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
