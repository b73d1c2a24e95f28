//! Many secrets at once, and new values for one.

use super::{Pipeline, failures, records};
use crate::attestation::Attestation;
use crate::connection::Connection;
use crate::delivery::{
    Exported, Failure, ImportItem, ImportOutcome, Imported, Importing, NewSecret, Rotated,
    SecretRotation,
};
use crate::issuer::Class;
use crate::lease::{Filter, Selector};
use crate::log::{Event, LeaseState};
use crate::names::CredentialName;
use crate::policy::Action;
use crate::store::{BatchItem, NewValue, StoreError};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Secrets that are stored together, and whose records are written together.
const BATCH: usize = 64;

impl Pipeline {
    /// New values for a stored secret: its leases stay and are told, or end.
    pub(super) async fn rotate_secret(
        &self,
        on: &Connection,
        order: SecretRotation,
    ) -> Result<Rotated, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let SecretRotation { name, values, generate, revoke, dry_run } = order;
        if dry_run {
            let fields = values.into_iter().map(|value| value.field);
            let fields: Vec<_> = fields.chain(generate.map(|new| new.field)).collect();
            let of = name.clone();
            let planned = self.with_store(move |store| store.rotation(&of, &fields)).await?;
            let live = self.live_on(&name);
            let (leases_told, leases_ended) = if revoke { (0, live) } else { (live, 0) };
            return Ok(Rotated { rotated: planned, leases_told, leases_ended });
        }
        let (of, now) = (name.clone(), self.clock.now().wall);
        let rotated = self
            .with_store(move |store| {
                let mut values = values;
                if let Some(new) = generate {
                    let value = crate::store::generate(new.length, &new.alphabet)?;
                    values.push(NewValue { field: new.field, value });
                }
                store.rotate(&of, values, now)
            })
            .await?;
        let live = self.engine.rotated(&name);
        let ended = if revoke {
            let on_it = Selector { credential: Some(name.clone()), ..Selector::default() };
            self.engine.revoke(&on_it).len()
        } else {
            0
        };
        let told = if revoke { 0 } else { live };
        self.refresh().await?;
        self.record(Event::SecretRotated {
            name: name.to_string(),
            fields: rotated.fields.clone(),
            version: rotated.info.version,
            leases_told: told,
            leases_ended: ended,
            by: records::holder(&who),
        })
        .await?;
        Ok(Rotated { rotated, leases_told: told, leases_ended: ended })
    }

    fn live_on(&self, name: &CredentialName) -> usize {
        let prefix = format!("{name}/");
        let leases = self.engine.list(&Filter { prefix, ..Filter::default() });
        let live = |view: &&crate::lease::LeaseView| {
            view.credential == *name
                && view.class == Class::Static
                && view.state == LeaseState::Active
        };
        leases.iter().filter(live).count()
    }

    /// Stores secrets as they come; one that fails does not hold up the others.
    pub(super) async fn import_secrets(
        &self,
        on: &Connection,
        mut importing: Importing,
    ) -> Result<(), Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let source = std::mem::take(&mut importing.source);
        // Where the log cannot be written, nothing is stored at all.
        self.record_admin("import", format!("from {source}: begins"), Some(&who)).await?;
        let mut count = Count::default();
        let done = self.store_all(&who, &mut importing, &mut count).await;
        let refreshed = self.refresh().await;
        let ending = if matches!(done, Ok(true)) { "" } else { ", broken off" };
        let detail = format!("from {source}: {count}{ending}");
        self.record_admin("import", detail, Some(&who)).await?;
        done.and(refreshed)
    }

    /// Whether the end was reached.
    async fn store_all(
        &self,
        who: &Arc<Attestation>,
        importing: &mut Importing,
        count: &mut Count,
    ) -> Result<bool, Failure> {
        loop {
            let mut batch = Vec::new();
            let mut end = None;
            while batch.len() < BATCH && end.is_none() {
                // What is there is taken; only the first of a batch is waited for.
                let next = match importing.items.try_recv() {
                    Err(mpsc::error::TryRecvError::Empty) if batch.is_empty() => {
                        importing.items.recv().await
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    next => next.ok(),
                };
                match next {
                    Some(ImportItem::Last) => end = Some(true),
                    Some(item) => batch.push(item),
                    None => end = Some(false),
                }
            }
            let stored = self.store_batch(batch).await?;
            self.settle_batch(who, importing, count, stored).await?;
            if let Some(whole) = end {
                return Ok(whole);
            }
        }
    }

    async fn store_batch(&self, batch: Vec<ImportItem>) -> Result<Vec<Stored>, Failure> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut secrets = Vec::with_capacity(batch.len());
        for item in batch {
            answers.push(match item {
                ImportItem::Secret(new) => {
                    let NewSecret { name, owner, purpose, replace, secret } = new;
                    let stored = Stored { answer: failed(name.to_string()), owner: owner.clone() };
                    let place = answers.len();
                    let item = BatchItem { name: name.clone(), owner, purpose, replace, secret };
                    secrets.push((place, name, item));
                    stored
                }
                ImportItem::Malformed(answer) => Stored { answer, owner: String::new() },
                ImportItem::Last => continue,
            });
        }
        let now = self.clock.now().wall;
        let (places, items): (Vec<_>, Vec<_>) =
            secrets.into_iter().map(|(place, name, item)| ((place, name), item)).unzip();
        let results = self.with_store(move |store| Ok(store.put_batch(items, now))).await?;
        for ((place, name), result) in places.into_iter().zip(results) {
            let Some(stored) = answers.get_mut(place) else { continue };
            (stored.answer.outcome, stored.answer.reason) = match result {
                Ok(Some(true)) => {
                    self.engine.rotated(&name);
                    (ImportOutcome::Replaced, String::new())
                }
                Ok(Some(false)) => (ImportOutcome::Stored, String::new()),
                Ok(None) => (ImportOutcome::Exists, String::new()),
                Err(error) => (ImportOutcome::Failed, failures::store(&error).message),
            };
        }
        Ok(answers)
    }

    /// The records first, then the answers.
    async fn settle_batch(
        &self,
        who: &Arc<Attestation>,
        importing: &Importing,
        count: &mut Count,
        batch: Vec<Stored>,
    ) -> Result<(), Failure> {
        let records = batch.iter().filter_map(|stored| {
            let replaced = match stored.answer.outcome {
                ImportOutcome::Stored => false,
                ImportOutcome::Replaced => true,
                ImportOutcome::Exists | ImportOutcome::Failed => return None,
            };
            let (name, owner) = (stored.answer.name.clone(), stored.owner.clone());
            Some(self.record(Event::SecretPut { name, owner, replaced, by: records::holder(who) }))
        });
        let written = futures_util::future::join_all(records.collect::<Vec<_>>()).await;
        written.into_iter().collect::<Result<Vec<()>, _>>()?;
        for stored in batch {
            count.add(stored.answer.outcome);
            // An asker that has gone away is found by the missing end.
            let _ = importing.answers.send(stored.answer).await;
        }
        Ok(())
    }

    /// The age files of those secrets (`None`: of all) as they lie in the store;
    /// works while locked. One that is damaged is told instead.
    pub(super) async fn export_secrets(
        &self,
        on: &Connection,
        names: Option<Vec<CredentialName>>,
    ) -> Result<mpsc::Receiver<Exported>, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let infos = self.with_store(move |store| wanted(store, names)).await?;
        let detail = match infos.as_slice() {
            [only] => format!("the age file of {}", only.name),
            all => format!("{} age files", all.len()),
        };
        self.record_admin("export", detail, Some(&who)).await?;
        let store = Arc::clone(&self.store);
        let (send, receive) = mpsc::channel(1);
        self.bulk("jsi-export", move || {
            for info in infos {
                let file = store.sealed(&info.name).map_err(|error| error.to_string());
                if send.blocking_send(Exported { info, file }).is_err() {
                    break;
                }
            }
        })?;
        Ok(receive)
    }

    /// Work that waits for a client: on a thread of its own, one at a time, so
    /// that a client that stops reading holds up nobody but its like.
    pub(super) fn bulk(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let Ok(turn) = Arc::clone(&self.bulk).try_acquire_owned() else {
            return Err(failures::store(&StoreError::Busy));
        };
        let named = std::thread::Builder::new().name(name.to_owned());
        let spawned = named.spawn(move || {
            work();
            drop(turn);
        });
        spawned.map(drop).map_err(|error| {
            Failure::new(
                jsi_proto::v1::Reason::LimitReached,
                format!("no thread can be started: {error}"),
            )
        })
    }
}

fn wanted(
    store: &crate::store::Store,
    names: Option<Vec<CredentialName>>,
) -> Result<Vec<crate::store::StoredInfo>, StoreError> {
    match names {
        None => store.list(""),
        // A damaged one is named as such when its turn comes.
        Some(names) => names
            .iter()
            .map(|name| match store.info(name) {
                Err(StoreError::Damaged { .. }) => {
                    let mut found = store.list(name.as_str())?;
                    found.retain(|info| info.name == *name);
                    found.pop().ok_or_else(|| StoreError::Missing(name.clone()))
                }
                info => info,
            })
            .collect(),
    }
}

/// The answer until it is known.
fn failed(name: String) -> Imported {
    Imported { name, outcome: ImportOutcome::Failed, reason: String::new() }
}

/// What became of one, and who answers for it.
struct Stored {
    answer: Imported,
    owner: String,
}

#[derive(Default)]
struct Count {
    stored: usize,
    replaced: usize,
    exist: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, outcome: ImportOutcome) {
        *match outcome {
            ImportOutcome::Stored => &mut self.stored,
            ImportOutcome::Replaced => &mut self.replaced,
            ImportOutcome::Exists => &mut self.exist,
            ImportOutcome::Failed => &mut self.failed,
        } += 1;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stored, replaced, exist, failed } = self;
        write!(
            f,
            "{stored} stored, {replaced} replaced, {exist} left as they were, {failed} failed"
        )
    }
}
