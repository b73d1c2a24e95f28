//! From what was issued to a lease that lives: durable first, then active, then
//! delivered; and nothing left behind where that fails on the way.

use super::binding::{Watch, alive};
use super::ending::Outbox;
use super::engine::Engine;
use super::entry::{Binding, Entry, Handle, Offer, Subject, delivery_text};
use super::machine::{self, State};
use super::terms::{Bound, Grant, LeaseError};
use super::view::{Change, LeaseView};
use crate::clock::Moment;
use crate::issuer::{AtRest, Issued, RevocationHandle};
use crate::log::{EndReason, Event};
use crate::memory::{Field, Secret, SecretBuf};
use crate::names::LeaseId;
use std::collections::{BTreeMap, hash_map};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A lease that is active and in the log, and with it the right to deliver its
/// secret once.
pub struct Granted {
    /// The lease.
    pub view: LeaseView,
    /// What is delivered.
    pub secret: Secret,
}

impl Engine {
    /// Names a lease in the log before anything is minted for it at a backend
    /// (`public`: the part of its revocation handle that is known already).
    /// [`Engine::grant`] or [`Engine::mint_failed`] follows.
    ///
    /// # Errors
    /// A limit, or the log cannot be written: nothing may be minted.
    pub async fn intend(
        self: &Arc<Self>,
        grant: &Grant,
        public: BTreeMap<String, String>,
    ) -> Result<(), LeaseError> {
        let mut draft = self.draft(grant)?;
        let entry = draft.entry()?;
        entry.handle = Some(Box::new(Handle { public, sealed: None, backend_until: None }));
        let lease = entry.record();
        draft.logged = true;
        self.journal.append(Event::Intent { lease }, None).await?;
        // On an early return the lock opens before the draft cleans up.
        let mut table = self.table();
        if table.stopping {
            return Err(LeaseError::Stopping);
        }
        table.insert(draft.finish()?);
        Ok(())
    }

    /// Minting failed. Where something may have been minted all the same
    /// (`unclear`), it is revoked.
    pub fn mint_failed(self: &Arc<Self>, id: &LeaseId, error: &str, unclear: bool) {
        let event = if unclear { machine::Event::RevokeAsked } else { machine::Event::MintFailed };
        let now = self.clock.now();
        let mut out = Outbox::default();
        {
            let mut table = self.table();
            let number = table.number(id.as_str());
            let pending = |number: &u64| {
                table.entries.get(number).is_some_and(|entry| entry.state == State::Pending)
            };
            if let Some(number) = number.filter(pending) {
                self.step(&mut table, number, event, now, error, &mut out);
            }
        }
        self.perform(out);
    }

    /// Makes a lease of what was issued. The grant is durable in the log, the
    /// lease active, and what it is bound to alive, before the secret comes back.
    ///
    /// # Errors
    /// On any error, and where the future is dropped on the way, nothing is
    /// active, the secret is wiped, and what was minted is revoked.
    pub async fn grant(
        self: &Arc<Self>,
        grant: Grant,
        issued: Issued,
    ) -> Result<Granted, LeaseError> {
        let Issued { secret, at_rest, handle, backend_ttl } = issued;
        let mut draft = self.draft(&grant)?;
        let entry = draft.entry()?;
        if let Some(backend) = backend_ttl {
            let ends = entry.issued.boot.plus(backend);
            entry.clamped |= ends < entry.expires;
            entry.expires = entry.expires.min(ends);
            entry.ttl_ms = millis(entry.expires.since(entry.issued.boot));
        }
        let for_log = self.keep_handle(entry, handle, backend_ttl)?;
        // What may never be read again is not kept at all.
        if !entry.offer.hold_none && entry.uses_left != Some(0) {
            entry.at_rest = Some(match at_rest {
                Some(shared) => shared,
                None => self.seal(&secret)?,
            });
        }
        let mut lease = entry.record();
        lease.state = crate::log::LeaseState::Active;
        draft.logged = true;
        self.journal.append(Event::Granted { lease }, for_log).await?;
        let view = self.activate(draft, grant.binding, grant.rotations)?;
        Ok(Granted { view, secret })
    }

    /// Reserves a place, and works out times and uses.
    fn draft(self: &Arc<Self>, grant: &Grant) -> Result<Draft, LeaseError> {
        self.unlocked()?;
        if grant.ttl.is_zero() {
            return Err(LeaseError::Zero);
        }
        let now = self.clock.now();
        let mut table = self.table();
        if let Some(entry) = table.take_pending(grant.id.as_str()) {
            return Ok(Draft::new(self, entry, true));
        }
        if table.stopping {
            return Err(LeaseError::Stopping);
        }
        table.reserve(grant.terms.holder.uid)?;
        let terms = &grant.terms;
        let caps = &grant.capabilities;
        let issuer_most = caps.max_ttl.unwrap_or(Duration::MAX);
        let ttl = grant.ttl.min(terms.limits.max_ttl).min(issuer_most);
        let expires = now.boot.plus(ttl);
        let at_most = if caps.renewable { now.boot.plus(terms.limits.max_ttl) } else { expires };
        let subject = Subject { credential: terms.credential.clone(), scope: terms.scope.clone() };
        let offer = Offer {
            issuer: caps.kind.to_owned(),
            issuer_name: grant.issuer.to_string(),
            class: caps.class,
            revocation: caps.revocation,
            renewable: caps.renewable,
            hold_none: terms.limits.hold_none,
            policies: terms.policies.clone(),
        };
        let holder = &terms.holder;
        let binding = match &grant.binding {
            Bound::Process(process) => {
                let watch = table.watches.get(&grant.binding.key());
                let shared = watch.and_then(|watch| watch.process.clone());
                Binding::Process(shared.unwrap_or_else(|| Arc::new(process.identity.clone())))
            }
            Bound::Connection { id, .. } => Binding::Connection(*id),
            Bound::None => Binding::None,
        };
        let entry = Box::new(Entry {
            id: Arc::from(grant.id.as_str()),
            request: Box::from(grant.request.as_str()),
            subject: table.subjects.share(&terms.credential, subject),
            offer: table.offers.share(&(grant.issuer.as_str(), &terms.policies), offer),
            holder: table.holders.share(&(holder.pid, holder.start_time), holder.clone()),
            binding,
            state: State::Pending,
            issued: now,
            expires,
            at_most: at_most.max(expires),
            ttl_ms: millis(ttl),
            // The first delivery follows at once and is counted with the grant.
            uses_left: terms.limits.max_uses.map(|uses| uses.saturating_sub(1)),
            delivery: grant.delivery,
            clamped: ttl < grant.ttl,
            revoking: false,
            note: (!grant.note.is_empty()).then(|| Box::from(grant.note.as_str())),
            at_rest: None,
            outdated: false,
            handle: None,
            retry: None,
        });
        drop(table);
        Ok(Draft::new(self, entry, false))
    }

    /// Keeps what revocation needs; what of it is secret comes back for the log.
    fn keep_handle(
        &self,
        entry: &mut Entry,
        handle: RevocationHandle,
        backend_ttl: Option<Duration>,
    ) -> Result<Option<SecretBuf>, LeaseError> {
        let RevocationHandle { public, sealed } = handle;
        let backend_until = backend_ttl.map(|ttl| entry.issued.wall.plus(ttl));
        if public.is_empty() && sealed.is_none() && backend_until.is_none() {
            return Ok(None);
        }
        let sealed_copy = match &sealed {
            Some(bytes) => Some(self.seal(&handle_secret(bytes)?)?),
            None => None,
        };
        entry.handle = Some(Box::new(Handle { public, sealed: sealed_copy, backend_until }));
        Ok(sealed)
    }

    pub(super) fn seal(&self, secret: &Secret) -> Result<Arc<dyn AtRest>, LeaseError> {
        self.sealing.seal_secret(secret).map_err(|error| LeaseError::Limit(error.to_string()))
    }

    /// The log has it: it becomes active, unless its time or holder went meanwhile.
    fn activate(
        self: &Arc<Self>,
        mut draft: Draft,
        bound: Bound,
        rotations: u64,
    ) -> Result<LeaseView, LeaseError> {
        // Kept until after the check, whoever else watches the process.
        let process: Option<Arc<OwnedFd>> = match &bound {
            Bound::Process(process) => Some(Arc::clone(&process.pidfd)),
            Bound::Connection { .. } | Bound::None => None,
        };
        let key = bound.key();
        let mut out = Outbox::default();
        let mut replaced = None;
        let result = {
            let mut table = self.table();
            // On an early return the lock opens before the draft cleans up.
            if let hash_map::Entry::Vacant(free) = table.watches.entry(key) {
                let watch = Watch::new(self, bound).map_err(|error| {
                    LeaseError::Internal(format!("the holder cannot be watched: {error}"))
                })?;
                if let Some(watch) = watch {
                    free.insert(watch);
                }
            }
            let entry = draft.finish()?;
            let (expires, at_most) = (entry.expires, entry.at_most);
            let number = table.insert(entry);
            let now = self.clock.now();
            self.step(
                &mut table,
                number,
                machine::Event::Granted { expires, at_most },
                now,
                "",
                &mut out,
            );
            table.activate(number);
            let late = self.too_late(&table, expires, now, process.as_deref());
            if let Some((event, error)) = late {
                self.step(&mut table, number, event, now, "", &mut out);
                Err(error)
            } else {
                let outdated = Self::settle_rotation(&mut table, number, rotations);
                let view = table.entries.get(&number).map(|entry| entry.view(now));
                replaced = view.clone().filter(|_| outdated);
                view.ok_or(LeaseError::Ended)
            }
        };
        self.perform(out);
        if let Some(view) = replaced {
            self.announce_rotation(Change::Rotated(Arc::new(view)));
        }
        result
    }

    /// What happened while the log was written.
    fn too_late(
        &self,
        table: &super::table::Table,
        expires: crate::clock::BootTime,
        now: Moment,
        process: Option<&OwnedFd>,
    ) -> Option<(machine::Event, LeaseError)> {
        if table.stopping {
            return Some((machine::Event::AgentStopping, LeaseError::Stopping));
        }
        if self.unlocked().is_err() {
            return Some((machine::Event::RevokeAsked, LeaseError::Locked));
        }
        if now.boot >= expires {
            return Some((machine::Event::ExpiryReached, LeaseError::Ended));
        }
        if process.is_some_and(|pidfd| !alive(pidfd)) {
            return Some((machine::Event::ProcessExited, LeaseError::HolderGone("process")));
        }
        None
    }
}

/// A lease on its way. Dropped before it is finished, it leaves nothing behind:
/// what the log may name is ended there, and what was minted is revoked.
struct Draft {
    engine: Arc<Engine>,
    entry: Option<Box<Entry>>,
    /// The log may name it, or something may have been minted.
    logged: bool,
}

impl Draft {
    fn new(engine: &Arc<Engine>, entry: Box<Entry>, intended: bool) -> Self {
        let logged = intended || entry.revocable();
        Self { engine: Arc::clone(engine), entry: Some(entry), logged }
    }

    fn entry(&mut self) -> Result<&mut Entry, LeaseError> {
        self.entry.as_deref_mut().ok_or_else(gone)
    }

    /// From here on the table answers for it.
    fn finish(&mut self) -> Result<Box<Entry>, LeaseError> {
        self.entry.take().ok_or_else(gone)
    }
}

fn gone() -> LeaseError {
    LeaseError::Internal("a lease was finished twice".to_owned())
}

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.at_rest = None;
        let engine = Arc::clone(&self.engine);
        let now = engine.clock.now();
        let mut out = Outbox::default();
        {
            let mut table = engine.table();
            if self.logged {
                let number = table.insert(entry);
                let event = machine::Event::ending(EndReason::Revoked);
                engine.step(&mut table, number, event, now, "", &mut out);
            } else {
                table.unreserve(entry.holder.uid);
            }
        }
        engine.perform(out);
    }
}

/// A handle's secret part rests as a secret of one field.
pub(super) fn handle_secret(bytes: &SecretBuf) -> Result<Secret, LeaseError> {
    let value = SecretBuf::from_slice(bytes.expose());
    let field = Field { name: HANDLE.to_owned(), sensitive: true, is_default: true, value };
    Secret::new(vec![field]).map_err(|error| LeaseError::Internal(error.to_string()))
}

/// The name of that field.
pub(super) const HANDLE: &str = "handle";

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How it is delivered, back from the log.
pub(super) fn delivery_of(text: &str) -> crate::policy::Delivery {
    use crate::policy::Delivery;
    let all = [Delivery::Environment, Delivery::Descriptor, Delivery::File];
    all.into_iter().find(|way| delivery_text(*way) == text).unwrap_or(Delivery::Caller)
}
