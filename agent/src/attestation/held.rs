//! A process image that is held: pidfd, `/proc/PID/stat` and `/proc/PID/maps`.
//! Three descriptors for each image, and its pagemap once its pages have been
//! looked at; shared by its connections.

use super::Fact;
use super::executable::Measured;
use super::generation::{Generation, Stat};
use super::mapped::Seen;
use super::process::{Status, closed, reread};
use super::server::Cached;
use crate::mutants::{Check, on};
use crate::process::pidfd;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// One process image.
pub(super) struct Held {
    /// Its name towards the broker.
    pub(super) id: u64,
    pub(super) pid: u32,
    /// On which real, effective and saved uid must agree.
    pub(super) uid: u32,
    pub(super) pidfd: OwnedFd,
    stat: File,
    /// Of the memory that it had when it was first held.
    pub(super) maps: Option<File>,
    pagemap: OnceLock<File>,
    /// When it was first held.
    pub(super) generation: Generation,
    /// A client that root installed set-group-ID `_jsi`.
    pub(super) group_client: bool,
    /// Its executable, read once: what the image was when it was first looked at.
    pub(super) exe: Mutex<Option<Arc<Fact<Measured>>>>,
    /// What was last found out about its mappings.
    pub(super) mapped: Seen,
    /// The last attestation with it as caller.
    pub(super) cached: Mutex<Option<Arc<Cached>>>,
}

impl Held {
    /// Notes the generation and holds the files, between two looks at the pidfd.
    fn open(
        id: u64,
        pid: u32,
        uid: u32,
        pidfd: OwnedFd,
        group_client: bool,
    ) -> Result<Self, String> {
        let stat = File::open(format!("/proc/{pid}/stat"))
            .map_err(|e| format!("/proc/{pid}/stat: {e}"))?;
        let maps = File::open(format!("/proc/{pid}/maps")).ok();
        let text = reread(&stat).map_err(|e| format!("/proc/{pid}/stat: {e}"))?;
        let seen =
            Stat::parse(&text).ok_or_else(|| format!("/proc/{pid}/stat could not be parsed"))?;
        alive(&pidfd)?;
        Ok(Self {
            id,
            pid,
            uid,
            pidfd,
            stat,
            maps,
            pagemap: OnceLock::new(),
            generation: seen.generation,
            group_client,
            exe: Mutex::new(None),
            mapped: Seen::default(),
            cached: Mutex::new(None),
        })
    }

    /// The agent may not look inside: not dumpable, or another uid's.
    pub(super) fn hidden(&self) -> bool {
        self.generation.hidden() || self.maps.is_none()
    }

    /// A client that root installed, into which the agent may not look.
    pub(super) fn unseen_client(&self) -> bool {
        self.group_client && self.hidden()
    }

    /// Its pages. Opened when they are first looked at: whoever reads them checks
    /// afterwards that the image is the same, and so that these are its own.
    pub(super) fn pagemap(&self) -> Option<&File> {
        if let Some(pagemap) = self.pagemap.get() {
            return Some(pagemap);
        }
        // Not kept where it failed: descriptors may have been short.
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid)).ok()?;
        Some(self.pagemap.get_or_init(|| pagemap))
    }

    /// Whether it is still the same image, and alive; its stat of now.
    ///
    /// Says what has changed.
    pub(super) fn check(&self) -> Result<Stat, String> {
        let text = reread(&self.stat).map_err(|_| "it has ended".to_owned())?;
        let stat = Stat::parse(&text).ok_or("its stat could not be parsed")?;
        if self.hidden() {
            if stat.generation.start_time != self.generation.start_time {
                return Err("its start time has changed".into());
            }
            if on(Check::HiddenThenShown) && !stat.generation.hidden() && self.generation.hidden() {
                return Err("its exec generation was hidden at accept and is not now: it has become another program".into());
            }
        } else {
            if on(Check::ExecGeneration) && !self.generation.same(&stat.generation) {
                return Err(changed(&self.generation, &stat.generation));
            }
            let mut byte = [0];
            let read = self.maps.as_ref().map(|maps| maps.read_at(&mut byte, 0));
            if on(Check::HeldMaps) && !matches!(read, Some(Ok(1))) {
                return Err(
                    "the memory that it had at accept is gone: it has become another program"
                        .into(),
                );
            }
        }
        if on(Check::ClientClosed)
            && self.group_client
            && closed(&self.pidfd, self.pid) != Some(true)
        {
            return Err("it was not dumpable at accept and is now".into());
        }
        alive(&self.pidfd)?;
        Ok(stat)
    }

    /// A fresh status, between two looks at the pidfd. The uids must agree.
    pub(super) fn status(&self) -> Result<Status, String> {
        let status =
            Status::read(self.pid).map_err(|e| format!("/proc/{}/status: {e}", self.pid))?;
        alive(&self.pidfd)?;
        if on(Check::UidsAgree) && status.uid() != Some(self.uid) {
            let [real, effective, saved] = status.uids;
            return Err(format!(
                "its uids do not agree: real {real}, effective {effective}, saved {saved}, connected as {}",
                self.uid
            ));
        }
        Ok(status)
    }
}

/// Refuses a process that has ended, zombies included.
pub(super) fn alive(pidfd: impl AsFd) -> Result<(), String> {
    match pidfd::ended(pidfd) {
        Ok(false) => Ok(()),
        _ if !on(Check::PeerAlive) => Ok(()),
        Ok(true) => Err("it has ended".into()),
        Err(error) => Err(format!("its pidfd could not be polled: {error}")),
    }
}

fn changed(was: &Generation, now: &Generation) -> String {
    let names = ["start time", "startcode", "startstack", "arg_start"];
    let fields = |g: &Generation| [g.start_time, g.start_code, g.start_stack, g.arg_start];
    let differ: Vec<&str> = names
        .iter()
        .zip(fields(was).iter().zip(fields(now)))
        .filter(|(_, (a, b))| **a != *b)
        .map(|(n, _)| *n)
        .collect();
    format!("it has become another program since accept: {} changed", differ.join(", "))
}

/// All images that are held.
#[derive(Default)]
pub(super) struct Images(Mutex<Table>);

#[derive(Default)]
struct Table {
    last_id: u64,
    /// By connections: how many each image has.
    opened: HashMap<u64, (Arc<Held>, usize)>,
    all: HashMap<u64, Weak<Held>>,
    by_pid: HashMap<u32, Vec<Weak<Held>>>,
    inserted: usize,
}

impl Images {
    /// The image with that name.
    pub(super) fn by_id(&self, id: u64) -> Option<Arc<Held>> {
        self.table().all.get(&id)?.upgrade()
    }

    /// Holds the process, or finds that it is held already. `pidfd` is only
    /// called for where it is not.
    pub(super) fn hold(
        &self,
        pid: u32,
        uid: u32,
        group_client: bool,
        stat: Option<&Stat>,
        pidfd: impl FnOnce() -> Result<OwnedFd, String>,
    ) -> Result<Arc<Held>, String> {
        let candidates: Vec<Arc<Held>> = self
            .table()
            .by_pid
            .get(&pid)
            .map_or_else(Vec::new, |list| list.iter().filter_map(Weak::upgrade).collect());
        for held in candidates {
            let same = held.uid == uid
                && !held.hidden()
                // One that was first seen as something else has not earned more.
                && (held.group_client || !group_client)
                && stat.is_none_or(|s| s.generation.same(&held.generation));
            if same && held.check().is_ok() {
                return Ok(held);
            }
        }
        let id = {
            let mut table = self.table();
            table.last_id += 1;
            table.last_id
        };
        let held = Arc::new(Held::open(id, pid, uid, pidfd()?, group_client)?);
        let mut table = self.table();
        table.all.insert(id, Arc::downgrade(&held));
        table.by_pid.entry(pid).or_default().push(Arc::downgrade(&held));
        table.inserted += 1;
        if table.inserted > table.all.len() / 2 + 64 {
            table.sweep();
        }
        Ok(held)
    }

    /// One more connection of that image.
    pub(super) fn opened(&self, held: &Arc<Held>) {
        self.table().opened.entry(held.id).or_insert_with(|| (Arc::clone(held), 0)).1 += 1;
    }

    /// One connection less; the last one lets the image go.
    pub(super) fn forget(&self, id: u64) {
        let mut table = self.table();
        let Some((_, count)) = table.opened.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            let gone = table.opened.remove(&id);
            drop(table);
            // Outside the lock: closing maps may wait.
            drop(gone);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn sweep(&mut self) {
        self.all.retain(|_, held| held.strong_count() > 0);
        self.by_pid.retain(|_, list| {
            list.retain(|held| held.strong_count() > 0);
            !list.is_empty()
        });
        self.inserted = 0;
    }
}
