//! A lease as others see it: plain data, without its secret.

use crate::clock::{BootTime, WallTime};
use crate::issuer::{Class, EarlyRevocation};
use crate::log::{BindingRecord, EndReason, HolderRecord, LeaseState};
use crate::mutants::{Check, on};
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::{Delivery, RequesterKey};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One lease at one moment. Output of this stage.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseView {
    /// Its name; not a right.
    pub id: LeaseId,
    /// The request that it was granted for.
    pub request: RequestId,
    /// What for.
    pub credential: CredentialName,
    /// The narrowing.
    pub scope: BTreeMap<String, String>,
    /// The issuer's kind.
    pub issuer: String,
    /// Static or dynamic.
    pub class: Class,
    /// What can be done before expiry.
    pub revocation: EarlyRevocation,
    /// Where it is in its life.
    pub state: LeaseState,
    /// When it was granted.
    pub issued: BootTime,
    /// The same on the wall clock.
    pub issued_wall: WallTime,
    /// When it ends unless renewed.
    pub expires: BootTime,
    /// Its image on the wall clock, as the two clocks stood when this was made.
    pub expires_wall: WallTime,
    /// What is left; nothing once it is ending.
    pub remaining: Duration,
    /// The longest that renewal can bring it to, from now; nothing where it cannot be renewed.
    pub renewable_for: Duration,
    /// The TTL that it was granted with.
    pub ttl: Duration,
    /// What it is bound to.
    pub binding: BindingRecord,
    /// Deliveries left; `None`: any number.
    pub uses_left: Option<u32>,
    /// The requester, as attested when it was granted.
    pub holder: HolderRecord,
    /// Why it ends or ended.
    pub end_reason: Option<EndReason>,
    /// How it was last delivered.
    pub delivery: Delivery,
    /// The holder's note.
    pub note: String,
    /// The policies that permitted it.
    pub policies: Vec<String>,
    /// What the holder should know: a clamped TTL, a static secret.
    pub warnings: Vec<String>,
    /// The same requester already held it.
    pub reused: bool,
    /// The stored secret was replaced since it was last delivered.
    pub outdated: bool,
}

impl LeaseView {
    /// The binding in words: `process 4711 (/usr/bin/psql)`.
    #[must_use]
    pub fn binding_text(&self) -> String {
        match &self.binding {
            BindingRecord::Process { pid, exe: Some(exe), .. } => format!("process {pid} ({exe})"),
            BindingRecord::Process { pid, exe: None, .. } => format!("process {pid}"),
            BindingRecord::Connection => "connection".to_owned(),
            BindingRecord::None => "nothing".to_owned(),
        }
    }

    /// Whether it is that requester's: the bound process, the process that asked,
    /// or, where it is bound to nothing, one of the same uid and digest.
    #[must_use]
    pub fn is_of(&self, key: &RequesterKey) -> bool {
        let bound = match self.binding {
            BindingRecord::Process { pid, start_time, .. } => Some((pid, start_time)),
            BindingRecord::Connection | BindingRecord::None => None,
        };
        is_of(&self.holder, bound, self.binding == BindingRecord::None, key)
    }
}

/// See [`LeaseView::is_of`]. `bound`: pid and start time of the bound process;
/// `unbound`: it is bound to nothing.
pub(super) fn is_of(
    holder: &HolderRecord,
    bound: Option<(u32, u64)>,
    unbound: bool,
    key: &RequesterKey,
) -> bool {
    if !on(Check::LeaseHolder) {
        return true;
    }
    if key.uid != holder.uid {
        return false;
    }
    let same_program = key.digest == holder.digest;
    // An unknown digest never makes two processes the same requester.
    let anyone = unbound && key.digest.is_some();
    let asked = key.pid == holder.pid && key.start_time == holder.start_time;
    (same_program && (asked || anyone)) || bound == Some((key.pid, key.start_time))
}

/// What a watcher hears.
#[derive(Clone, Debug)]
pub enum Change {
    /// Granted.
    Granted(Arc<LeaseView>),
    /// Renewed.
    Renewed(Arc<LeaseView>),
    /// The stored secret behind it was replaced; the lease goes on.
    Rotated(Arc<LeaseView>),
    /// It is being revoked.
    Ending(Arc<LeaseView>),
    /// It ended, or was never issued.
    Ended(Arc<LeaseView>),
    /// Revocation was refused; tried again daily.
    Stuck(Arc<LeaseView>),
    /// The watcher was too slow and missed this many: list anew.
    Lost(u64),
}

impl Change {
    /// The lease after it; `None`: [`Change::Lost`].
    #[must_use]
    pub fn lease(&self) -> Option<&Arc<LeaseView>> {
        match self {
            Self::Granted(lease)
            | Self::Renewed(lease)
            | Self::Rotated(lease)
            | Self::Ending(lease)
            | Self::Ended(lease)
            | Self::Stuck(lease) => Some(lease),
            Self::Lost(_) => None,
        }
    }
}

/// Hears every change of every lease, from the moment it was made.
pub struct Watcher(pub(super) tokio::sync::broadcast::Receiver<Change>);

impl Watcher {
    /// The next change; `None`: the engine is gone.
    pub async fn next(&mut self) -> Option<Change> {
        use tokio::sync::broadcast::error::RecvError;
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(missed)) => Some(Change::Lost(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
