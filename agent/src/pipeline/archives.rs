//! Backups of the whole store, and their return.

use super::{Pipeline, failures};
use crate::connection::Connection;
use crate::delivery::{BackedUp, BackupPiece, Failure, Returned};
use crate::lease::Selector;
use crate::names::CredentialName;
use crate::policy::Action;
use crate::store::{RestoreHow, StoreError, write_archive};
use jsi_proto::v1::Reason;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Bytes of an archive in one message; below the least `message_bytes`.
const PIECE: usize = 32 * 1024;
/// A configuration or a policy that is longer is left out of a backup.
const MAX_EXTRA: u64 = 1024 * 1024;

impl Pipeline {
    /// The whole store as an archive, as it is at this moment. The identity is not
    /// in it.
    pub(super) async fn back_up(
        &self,
        on: &Connection,
    ) -> Result<mpsc::Receiver<Result<BackupPiece, Failure>>, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        let key = self.store.journal_key().ok_or_else(|| failures::store(&StoreError::Locked))?;
        self.record_admin("backup", "begins".to_owned(), Some(&who)).await?;
        let config = self.in_force().config.clone();
        let store = Arc::clone(&self.store);
        let now = self.clock.now().wall;
        let (send, receive) = mpsc::channel(2);
        self.bulk("jsi-backup", move || {
            let made = || {
                let snapshot = store.snapshot()?;
                let damaged = store.list("")?.into_iter().filter(|info| info.fault.is_some());
                let damaged = damaged.map(|info| info.name.to_string()).collect();
                let extras = extras(config.source.as_deref(), &config.policy_dir);
                let mut out = Pieces { to: send.clone(), piece: Vec::with_capacity(PIECE) };
                let summary = write_archive(&snapshot, &extras, &key, now, &mut out)?;
                let identity = config.identity.display().to_string();
                Ok(BackedUp { summary, identity, damaged })
            };
            let last = made().map(BackupPiece::Done).map_err(|error| failures::store(&error));
            // An asker that has gone away has no use for it.
            let _ = send.blocking_send(last);
        })?;
        Ok(receive)
    }

    /// A store from a backup, in the place of the one that is there. Leases on what
    /// is another now are told, leases on what is gone end.
    pub(super) async fn bring_back(
        &self,
        on: &Connection,
        how: RestoreHow,
        pieces: mpsc::Receiver<Vec<u8>>,
    ) -> Result<Returned, Failure> {
        let who = self.administer(on, Action::Administer).await?;
        // Where the log cannot be written, nothing is restored.
        self.record_admin("restore", "begins".to_owned(), Some(&who)).await?;
        let store = Arc::clone(&self.store);
        let (send, receive) = oneshot::channel();
        self.bulk("jsi-restore", move || {
            let mut input = Incoming { from: pieces, piece: Vec::new(), at: 0, ended: false };
            // The asker may have gone away; what was decided is decided.
            let _ = send.send(store.restore(&mut input, how));
        })?;
        let restored = match receive.await {
            Ok(Ok(restored)) => restored,
            Ok(Err(error)) => {
                let failure = failures::store(&error);
                let detail = format!("refused: {}", failure.message);
                self.record_admin("restore", detail, Some(&who)).await?;
                return Err(failure);
            }
            Err(_) => return Err(Failure::new(Reason::Internal, "the restore was lost")),
        };
        let (mut leases_told, mut leases_ended) = (0, 0);
        if !how.dry_run {
            self.refresh().await?;
            let told = restored.changed.iter().map(|name| self.engine.rotated(name));
            leases_told = told.sum();
            let gone = |name: &CredentialName| {
                let of = Selector { credential: Some(name.clone()), ..Selector::default() };
                self.engine.revoke(&of).len()
            };
            leases_ended = restored.removed.iter().map(gone).sum();
        }
        let detail = format!(
            "{}backup {} of {}: {} added, {} changed, {} removed, {} the same; seal {}",
            if how.dry_run { "(dry run) " } else { "" },
            restored.backup.manifest,
            restored.backup.made_at.rfc3339(),
            restored.added.len(),
            restored.changed.len(),
            restored.removed.len(),
            restored.unchanged,
            if restored.sealed { "holds" } else { "not checked" },
        );
        self.record_admin("restore", detail, Some(&who)).await?;
        Ok(Returned { restored, leases_told, leases_ended })
    }
}

/// Configuration and policies, for people: they are not restored.
fn extras(config: Option<&Path>, policies: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |path: &Path| {
        let facts = std::fs::metadata(path).ok()?;
        (facts.is_file() && facts.len() <= MAX_EXTRA).then(|| std::fs::read(path).ok()).flatten()
    };
    let mut extras = Vec::new();
    if let Some(text) = config.and_then(read) {
        extras.push(("agent.toml".to_owned(), text));
    }
    let files = std::fs::read_dir(policies).into_iter().flatten().flatten();
    let mut named: Vec<_> = files
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".cedar") && !name.starts_with('.'))
        .collect();
    named.sort();
    for name in named {
        if let Some(text) = read(&policies.join(&name)) {
            extras.push((format!("policy.d/{name}"), text));
        }
    }
    extras
}

/// An archive on its way out.
struct Pieces {
    to: mpsc::Sender<Result<BackupPiece, Failure>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend(bytes.iter().take(taken));
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more");
        self.to.blocking_send(Ok(BackupPiece::Bytes(piece))).map_err(gone)
    }
}

/// An archive on its way in. An empty piece is its end; without one it was
/// broken off.
struct Incoming {
    from: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.ended {
            let Some(piece) = self.from.blocking_recv() else {
                return Err(io::Error::other("it was broken off on the way"));
            };
            self.ended = piece.is_empty();
            (self.piece, self.at) = (piece, 0);
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let count = rest.len().min(out.len());
        for (to, from) in out.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += count;
        Ok(count)
    }
}
