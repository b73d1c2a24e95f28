//! The keys of one issuer on disk, in `<store>/_jwt/<issuer>/`: `keys.json` says
//! which there are and when each signs; `<kid>.age` is a private part.
//!
//! The order of what is written makes every crash harmless: a key is named in
//! `keys.json` before its private part is written, and signs only once the log
//! and the published files name it. A key that is named and has no private part
//! was begun and is forgotten.

use super::super::IssuerError;
use super::jose::discovery;
use super::key;
use super::keys_file::{self, FILE, load};
use super::publish::publish;
use super::schedule::{Due, KeyRecord, Schedule};
use crate::clock::Clock;
use crate::config::JwtIssuerConfig;
use crate::log::{Event, HolderRecord, KeyChange, Log};
use crate::memory::SecretBuf;
use crate::names::IssuerName;
use crate::store::{PrivateDir, Store, StoreError};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Steps at once: far more than can be due.
const MOST_STEPS: usize = 16;

/// The keys of one issuer; lives as long as the agent, through every reload.
pub(super) struct KeyRing {
    name: IssuerName,
    store: Arc<Store>,
    log: Log,
    clock: Clock,
    state: Mutex<State>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    #[cfg(test)]
    pub(super) steps_left: std::sync::atomic::AtomicUsize,
}

struct State {
    /// Where the keys are, and which; or why they cannot be used.
    keys: Result<(PrivateDir, Arc<Schedule>), String>,
    /// Why the last upkeep did not come to its end.
    fault: Option<String>,
    /// The key of which the log knows that it was made, in this run.
    announced: Option<String>,
}

/// What an operator wants of a rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// The next key signs at once: verifiers that have not seen it yet refuse.
    pub now: bool,
    /// Every earlier key is published no more: what they signed is void.
    pub withdraw: bool,
}

impl KeyRing {
    /// Reads the keys that there are. Blocks.
    pub(super) fn open(name: IssuerName, store: Arc<Store>, log: Log, clock: Clock) -> Self {
        let keys = load(&store, &name);
        if let Err(why) = &keys {
            tracing::error!(issuer = name.as_str(), "{why}");
        }
        Self {
            name,
            store,
            log,
            clock,
            state: Mutex::new(State { keys, fault: None, announced: None }),
            turn: tokio::sync::Mutex::new(()),
            #[cfg(test)]
            steps_left: std::sync::atomic::AtomicUsize::new(usize::MAX),
        }
    }

    /// The keys as they are.
    pub(super) fn schedule(&self) -> Result<Arc<Schedule>, IssuerError> {
        self.keys().map(|(_, schedule)| schedule)
    }

    fn keys(&self) -> Result<(PrivateDir, Arc<Schedule>), IssuerError> {
        let keys = self.state().keys.clone();
        keys.map_err(|why| IssuerError::Keys(self.name.to_string(), why))
    }

    /// What an operator should know.
    pub(super) fn fault(&self) -> Option<String> {
        let state = self.state();
        let keys = state.keys.as_ref().err();
        let fault = keys.or(state.fault.as_ref())?;
        Some(format!("issuer {}: {fault}", self.name))
    }

    /// The private part of a key, in memory that is wiped.
    pub(super) async fn private(
        self: &Arc<Self>,
        key: &KeyRecord,
    ) -> Result<SecretBuf, IssuerError> {
        let (dir, _) = self.keys()?;
        if let Some(pem) = self.store.open_private_kept(&dir, &key.kid).map_err(|e| self.told(e))? {
            // Some microseconds: less than a turn through the blocking pool.
            return Ok(pem);
        }
        let (ring, key) = (Arc::clone(self), key.clone());
        blocking(move || ring.open_checked(&dir, &key)).await
    }

    /// Opens a private part and holds it against what is published of it.
    fn open_checked(&self, dir: &PrivateDir, key: &KeyRecord) -> Result<SecretBuf, IssuerError> {
        let damaged = |why: &str| {
            let file = dir.sealed(&key.kid);
            let why = format!(
                "{} {why}; bring it back from a backup, or replace it: jsi jwt rotate {} --now",
                file.display(),
                self.name
            );
            IssuerError::Keys(self.name.to_string(), why)
        };
        let pem = self.store.open_private(dir, &key.kid).map_err(|error| match error {
            StoreError::Damaged { why, .. } => damaged(&format!("cannot be used: {why}")),
            other => self.told(other),
        })?;
        let algorithm = key.algorithm().ok_or_else(|| damaged("is of an unknown algorithm"))?;
        match key::public_of(&pem, algorithm) {
            Ok(public) if public == key.jwk && public.thumbprint() == key.kid => Ok(pem),
            Ok(_) => {
                self.store.forget_private(dir, &key.kid);
                Err(damaged("is not the private part of the key that is published"))
            }
            Err(why) => {
                self.store.forget_private(dir, &key.kid);
                Err(damaged(&format!("cannot be used: {why}")))
            }
        }
    }

    /// Does what is due: a first key, the next one, the end of an old one; and
    /// sees that the published files say what is.
    pub(super) async fn maintain(
        self: &Arc<Self>,
        config: &JwtIssuerConfig,
    ) -> Result<(), IssuerError> {
        let _turn = self.turn.lock().await;
        let done = self.upkeep(config).await;
        self.note(&done);
        done
    }

    fn note(&self, done: &Result<(), IssuerError>) {
        let fault = match done {
            // A locked store is said elsewhere.
            Ok(()) | Err(IssuerError::Locked) => None,
            Err(IssuerError::Keys(_, why)) => Some(why.clone()),
            Err(error) => Some(error.to_string()),
        };
        let mut state = self.state();
        if let Some(why) = fault.as_ref().filter(|why| Some(*why) != state.fault.as_ref()) {
            tracing::warn!(issuer = self.name.as_str(), "{why}");
        }
        state.fault = fault;
    }

    async fn upkeep(self: &Arc<Self>, config: &JwtIssuerConfig) -> Result<(), IssuerError> {
        self.reload_damaged().await;
        let mut schedule = (*self.schedule()?).clone();
        let mended = schedule.mend(self.clock.now().wall, config);
        if schedule.lengthen(config.max_ttl) || mended {
            self.save(schedule).await?;
        }
        for _ in 0..MOST_STEPS {
            let now = self.clock.now().wall;
            let Some(due) = self.schedule()?.due(now, config) else { break };
            match due {
                Due::Make => self.make(config).await.map(drop)?,
                Due::Publish(kid) => self.begin(&kid, config, config.publish_ahead, None).await?,
                Due::Retire(kid) => self.retire(&kid).await?,
                Due::Drop(kid) => self.drop_key(&kid, KeyChange::Expired, None).await?,
            }
        }
        self.write_files(config).await
    }

    /// Brings the next key into use, whatever its age.
    pub(super) async fn rotate(
        self: &Arc<Self>,
        config: &JwtIssuerConfig,
        how: Rotation,
        by: HolderRecord,
    ) -> Result<(), IssuerError> {
        let _turn = self.turn.lock().await;
        if self.store.is_locked() {
            return Err(IssuerError::Locked);
        }
        let done = self.turn_over(config, how, Some(by)).await;
        self.note(&done);
        done
    }

    async fn turn_over(
        self: &Arc<Self>,
        config: &JwtIssuerConfig,
        how: Rotation,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        self.reload_damaged().await;
        if how.withdraw {
            self.replace_all(config, by).await?;
        } else {
            self.bring_next(config, how.now, by).await?;
        }
        self.write_files(config).await
    }

    /// A new key at once, and no other. One that waits will not do: its private
    /// part lay beside those that are not to be trusted any more.
    async fn replace_all(
        self: &Arc<Self>,
        config: &JwtIssuerConfig,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        // What never signed goes first, so that attempts that fail do not pile up.
        for key in self.schedule()?.keys().iter().filter(|key| key.signs_from.is_none()) {
            self.drop_key(&key.kid, KeyChange::Withdrawn, by.clone()).await?;
        }
        let kept = self.make(config).await?;
        self.begin(&kept, config, Duration::ZERO, by.clone()).await?;
        for key in self.schedule()?.keys().iter().filter(|key| key.kid != kept) {
            self.drop_key(&key.kid, KeyChange::Withdrawn, by.clone()).await?;
        }
        Ok(())
    }

    async fn bring_next(
        self: &Arc<Self>,
        config: &JwtIssuerConfig,
        at_once: bool,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        let now = self.clock.now().wall;
        let schedule = self.schedule()?;
        let signer = schedule.signer(now).map(|key| key.kid.clone());
        let upcoming = schedule.upcoming(now).filter(|next| Some(&next.kid) != signer.as_ref());
        match upcoming.map(|next| (next.kid.clone(), next.signs_from.is_some())) {
            Some((kid, true)) if at_once => self.hasten(&kid, by).await,
            Some((_, true)) => Ok(()),
            waiting => {
                let kid = match waiting {
                    Some((kid, _)) => kid,
                    None => self.make(config).await?,
                };
                let ahead = if at_once { Duration::ZERO } else { config.publish_ahead };
                self.begin(&kid, config, ahead, by).await
            }
        }
    }

    /// Names a new key in `keys.json`, then writes its private part.
    async fn make(self: &Arc<Self>, config: &JwtIssuerConfig) -> Result<String, IssuerError> {
        if self.store.is_locked() {
            return Err(IssuerError::Locked);
        }
        let (algorithm, bits) = (config.algorithm, config.rsa_bits);
        let made =
            blocking(move || key::generate(algorithm, bits).map_err(IssuerError::Unavailable));
        let key::NewKey { pem, public } = made.await?;
        let kid = public.thumbprint();
        let mut schedule = (*self.schedule()?).clone();
        schedule.add((kid.clone(), public), config, self.clock.now().wall);
        self.save(schedule).await?;
        self.point()?;
        let ring = Arc::clone(self);
        let (dir, _) = self.keys()?;
        let name = kid.clone();
        let sealed = blocking(move || {
            ring.store.seal_private(&dir, &name, &pem).map_err(|error| ring.told(error))
        });
        if let Err(error) = sealed.await {
            // Named without a private part: it was never there.
            let mut schedule = (*self.schedule()?).clone();
            schedule.remove(&kid);
            self.save(schedule).await?;
            return Err(error);
        }
        Ok(kid)
    }

    /// Log, published files, and only then the time from which a key signs.
    async fn begin(
        self: &Arc<Self>,
        kid: &str,
        config: &JwtIssuerConfig,
        ahead: Duration,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        if self.state().announced.as_deref() != Some(kid) {
            self.record(kid, KeyChange::Made, by.clone()).await?;
            self.state().announced = Some(kid.to_owned());
        }
        self.write_files(config).await?;
        let mut schedule = (*self.schedule()?).clone();
        if schedule.begin(self.clock.now().wall, ahead).is_some() {
            self.save(schedule).await?;
        }
        self.record(kid, KeyChange::Scheduled, by).await
    }

    async fn hasten(
        self: &Arc<Self>,
        kid: &str,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        let mut schedule = (*self.schedule()?).clone();
        if schedule.hasten(self.clock.now().wall) {
            self.save(schedule).await?;
        }
        self.record(kid, KeyChange::Scheduled, by).await
    }

    /// A key that signs no more keeps no private part.
    async fn retire(self: &Arc<Self>, kid: &str) -> Result<(), IssuerError> {
        let mut schedule = (*self.schedule()?).clone();
        schedule.retire(kid);
        self.save(schedule).await?;
        self.remove_private(kid).await
    }

    async fn drop_key(
        self: &Arc<Self>,
        kid: &str,
        change: KeyChange,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        self.record(kid, change, by).await?;
        let mut schedule = (*self.schedule()?).clone();
        schedule.remove(kid);
        self.save(schedule).await?;
        self.remove_private(kid).await
    }

    async fn remove_private(self: &Arc<Self>, kid: &str) -> Result<(), IssuerError> {
        self.point()?;
        let (dir, _) = self.keys()?;
        let (ring, kid) = (Arc::clone(self), kid.to_owned());
        blocking(move || ring.store.remove_private(&dir, &kid).map_err(|error| ring.told(error)))
            .await
    }

    /// Durable first, then in force.
    async fn save(self: &Arc<Self>, schedule: Schedule) -> Result<(), IssuerError> {
        self.point()?;
        let (dir, _) = self.keys()?;
        let schedule = Arc::new(schedule);
        let bytes = keys_file::encode(&self.name, &schedule)?;
        let (ring, goal) = (Arc::clone(self), dir.clone());
        blocking(move || goal.write_open(FILE, &bytes).map_err(|error| ring.told(error))).await?;
        self.state().keys = Ok((dir, schedule));
        Ok(())
    }

    /// Writes the key set and the discovery document where they are to lie.
    async fn write_files(self: &Arc<Self>, config: &JwtIssuerConfig) -> Result<(), IssuerError> {
        let mut files = Vec::new();
        for (path, document) in [
            (&config.jwks_file, self.key_set()?),
            (&config.discovery_file, self.discovery(config)?),
        ] {
            files.extend(path.clone().map(|path| (path, format!("{document:#}\n"))));
        }
        if files.is_empty() {
            return Ok(());
        }
        self.point()?;
        blocking(move || {
            let write =
                |(path, text): &(std::path::PathBuf, String)| publish(path, text.as_bytes());
            files.iter().try_for_each(write).map_err(IssuerError::Unavailable)
        })
        .await
    }

    /// RFC 7517, 5: every published key.
    pub(super) fn key_set(&self) -> Result<Value, IssuerError> {
        let schedule = self.schedule()?;
        let keys = schedule
            .keys()
            .iter()
            .filter_map(|key| Some(key.jwk.published(&key.kid, key.algorithm()?)));
        Ok(json!({ "keys": keys.collect::<Vec<_>>() }))
    }

    /// Where verifiers find the key set, and how its keys sign.
    pub(super) fn discovery(&self, config: &JwtIssuerConfig) -> Result<Value, IssuerError> {
        let schedule = self.schedule()?;
        let mut algorithms: Vec<&str> =
            schedule.keys().iter().map(|key| key.alg.as_str()).collect();
        algorithms.push(config.algorithm.name());
        algorithms.sort_unstable();
        algorithms.dedup();
        Ok(discovery(&config.iss, &config.jwks_uri, &algorithms))
    }

    async fn record(
        &self,
        kid: &str,
        change: KeyChange,
        by: Option<HolderRecord>,
    ) -> Result<(), IssuerError> {
        self.point()?;
        let schedule = self.schedule()?;
        let key = schedule.find(kid);
        let scheduled = change == KeyChange::Scheduled;
        let from = key.and_then(|key| key.signs_from).filter(|_| scheduled);
        let event = Event::SigningKey {
            issuer: self.name.to_string(),
            kid: kid.to_owned(),
            algorithm: key.map(|key| key.alg.clone()).unwrap_or_default(),
            change,
            signs_from: from.map(crate::clock::WallTime::rfc3339),
            by,
        };
        let written = self.log.append(event).await;
        written.map_err(|error| IssuerError::Unavailable(format!("the log: {error}")))
    }

    /// What could not be read may have been mended.
    async fn reload_damaged(self: &Arc<Self>) {
        if self.state().keys.is_ok() {
            return;
        }
        let ring = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || load(&ring.store, &ring.name)).await;
        if let Ok(keys) = loaded {
            self.state().keys = keys;
        }
    }

    fn told(&self, error: StoreError) -> IssuerError {
        match error {
            StoreError::Locked => IssuerError::Locked,
            other => IssuerError::Keys(self.name.to_string(), other.to_string()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a test lets the agent die: in front of everything that lasts.
    fn point(&self) -> Result<(), IssuerError> {
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            let less = |left: usize| left.checked_sub(1);
            if self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
                return Err(IssuerError::Unavailable("killed by the test".to_owned()));
            }
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IssuerError> + Send + 'static,
) -> Result<T, IssuerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| IssuerError::Unavailable(format!("it was cut off: {error}")))?
}
