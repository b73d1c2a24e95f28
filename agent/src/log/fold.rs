//! The state of all leases as a fold over the log. Pure.

use super::record::{Event, LeaseRecord, LeaseState, Record};
use crate::names::LeaseId;
use std::collections::BTreeMap;

/// What the log says of the present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    /// Every lease that has neither ended nor failed.
    pub leases: BTreeMap<LeaseId, LeaseRecord>,
    /// The sealed line of each of them that has one, as it stands in the log.
    pub sealed: BTreeMap<LeaseId, String>,
    /// The boot in which the agent last ran; `None`: it never did.
    pub boot_id: Option<String>,
    /// Records of the whole log.
    pub records: u64,
}

impl Folded {
    /// Takes the next record; `sealed` are the sealed lines in front of it,
    /// each with the hash that names it.
    pub fn apply(&mut self, record: &Record, sealed: &[(String, String)]) {
        self.records = record.seq + 1;
        match &record.event {
            Event::Started { boot_id, .. } => self.boot_id = Some(boot_id.clone()),
            Event::Intent { lease } | Event::Granted { lease } => self.put(lease, sealed),
            Event::Failed { lease, .. } | Event::Ended { lease, .. } => {
                self.leases.remove(lease);
                self.sealed.remove(lease);
            }
            Event::Delivered { lease, uses_left, .. } => {
                self.change(lease, |lease| {
                    lease.uses_left = *uses_left;
                    lease.outdated = false;
                });
            }
            Event::Renewed { lease, expires, .. } => {
                self.change(lease, |lease| lease.expires = *expires);
            }
            Event::Ending { lease, reason } => self.change(lease, |lease| {
                lease.state = LeaseState::Ending;
                lease.end_reason = Some(*reason);
            }),
            Event::Stuck { lease, reason, .. } => self.change(lease, |lease| {
                lease.state = LeaseState::Stuck;
                lease.end_reason = Some(*reason);
            }),
            Event::Snapshot { leases, boot_id } => {
                self.leases.clear();
                self.sealed.clear();
                self.boot_id = (!boot_id.is_empty()).then(|| boot_id.clone());
                for lease in leases {
                    self.put(lease, sealed);
                }
            }
            Event::SecretPut { name, replaced: true, .. } | Event::SecretRotated { name, .. } => {
                self.outdate(name)
            }
            Event::Recovered { .. }
            | Event::Denied { .. }
            | Event::Refused { .. }
            | Event::Suppressed { .. }
            | Event::SecretPut { replaced: false, .. }
            | Event::SecretRemoved { .. }
            | Event::SigningKey { .. }
            | Event::Admin { .. }
            | Event::Stopped { .. } => {}
        }
    }

    /// The snapshot that stands for everything so far, and the sealed lines in
    /// front of it.
    #[must_use]
    pub fn into_snapshot(self) -> (Event, Vec<String>) {
        let leases = self.leases.into_values().collect();
        let boot_id = self.boot_id.unwrap_or_default();
        (Event::Snapshot { leases, boot_id }, self.sealed.into_values().collect())
    }

    fn put(&mut self, lease: &LeaseRecord, sealed: &[(String, String)]) {
        let mut lease = lease.clone();
        match &lease.sealed {
            Some(hash) => {
                if let Some((_, line)) = sealed.iter().find(|(name, _)| name == hash) {
                    self.sealed.insert(lease.id.clone(), line.clone());
                }
            }
            // What was sealed with the intent still holds once it is granted.
            None => {
                lease.sealed =
                    self.leases.get(&lease.id).and_then(|earlier| earlier.sealed.clone());
            }
        }
        self.leases.insert(lease.id.clone(), lease);
    }

    /// Another secret was stored under that name.
    fn outdate(&mut self, credential: &str) {
        let of = self.leases.values_mut().filter(|lease| lease.credential == credential);
        of.filter(|lease| lease.class == "static").for_each(|lease| lease.outdated = true);
    }

    fn change(&mut self, lease: &LeaseId, change: impl FnOnce(&mut LeaseRecord)) {
        if let Some(lease) = self.leases.get_mut(lease) {
            change(lease);
        }
    }
}
