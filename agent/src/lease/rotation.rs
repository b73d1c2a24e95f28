//! What live leases do when the stored secret behind them is replaced: they
//! stay, are told, and whoever asks again gets the new bytes; and when the agent
//! is locked.

use super::engine::Engine;
use super::machine::State;
use super::table::Table;
use super::view::Change;
use crate::issuer::Class;
use crate::names::CredentialName;
use std::sync::Arc;

impl Engine {
    /// How often stored secrets were replaced. To be read before a secret is
    /// opened: where the number has changed by the time the secret is to rest
    /// with a lease, what was opened may be the old one, and is not kept.
    #[must_use]
    pub fn rotations(&self) -> u64 {
        self.table().rotations
    }

    /// Another secret was put in the place of a stored one: live leases let go of
    /// what they hold, are marked as outdated until their holder has asked again,
    /// and their watchers are told. Returns how many leases that are.
    pub fn rotated(&self, credential: &CredentialName) -> usize {
        let now = self.clock.now();
        let mut told = Vec::new();
        {
            let mut table = self.table();
            table.rotations += 1;
            for entry in table.entries.values_mut() {
                if entry.subject.credential == *credential && entry.offer.class == Class::Static {
                    entry.at_rest = None;
                    entry.outdated = true;
                    if matches!(entry.state, State::Active { .. }) {
                        told.push(Arc::new(entry.view(now)));
                    }
                }
            }
        }
        let count = told.len();
        for view in told {
            self.announce_rotation(Change::Rotated(view));
        }
        count
    }

    /// Lets go of every stored secret that live leases hold, because the agent is
    /// locked: once it is open again they are read anew. What was minted stays
    /// sealed, since nobody else has it.
    pub fn forget_all_stored(&self) {
        for entry in self.table().entries.values_mut() {
            if entry.offer.class == Class::Static {
                entry.at_rest = None;
            }
        }
    }

    /// A secret that was opened while another took its place does not rest with
    /// the new lease: its holder is told, as those before it were. `rotations` is
    /// what [`Engine::rotations`] said before it was opened.
    pub(super) fn settle_rotation(table: &mut Table, number: u64, rotations: u64) -> bool {
        if table.rotations == rotations {
            return false;
        }
        match table.entries.get_mut(&number) {
            Some(entry) if entry.offer.class == Class::Static => {
                entry.at_rest = None;
                entry.outdated = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn announce_rotation(&self, change: Change) {
        // Nobody may be watching.
        let _ = self.changes.send(change);
    }
}
