//! Many secrets at once, in and out: the streams of `jsi.v1.Admin`.

use super::failure::status;
use super::{convert, parse};
use crate::connection::Connection;
use crate::delivery::{
    BackedUp, Backend, BackupPiece, Exported, Failure, Generate, ImportItem, ImportOutcome,
    Imported, Importing, NewSecret, Returned, Rotated, SecretRotation,
};
use crate::memory::Secret;
use crate::store::{NewValue, RestoreHow, Summary};
use futures_util::{Stream, StreamExt, stream};
use jsi_proto::v1;
use jsi_proto::v1::import_secrets_response::Outcome;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Bytes of a file in one message.
const PIECE: usize = 32 * 1024;

/// Secrets of an import that are read ahead, so that they are stored in batches.
const AHEAD: usize = 32;

/// What goes out piece by piece.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A rotation as it comes in.
pub(super) async fn rotation(
    mut messages: Streaming<v1::RotateSecretRequest>,
    most: usize,
) -> Result<SecretRotation, Status> {
    let Some(first) = messages.message().await? else {
        return Err(status(Failure::field("name", "no message was sent")));
    };
    let name = parse::credential(&first.name).map_err(status)?;
    let generate = first.generate.map(|new| Generate {
        field: new.field,
        length: usize::try_from(new.length).unwrap_or(usize::MAX),
        alphabet: new.alphabet,
    });
    let mut pieces = parse::Pieces::default();
    let mut next = Some(first.pieces);
    while let Some(some) = next {
        for piece in some {
            pieces.take(piece, most).map_err(status)?;
        }
        next = messages.message().await?.map(|message| message.pieces);
    }
    let fields = pieces.finish().map_err(status)?;
    let values = fields.into_iter().map(|f| NewValue { field: f.name, value: f.value }).collect();
    Ok(SecretRotation { name, values, generate, revoke: first.revoke, dry_run: first.dry_run })
}

pub(super) fn rotated(done: Rotated) -> v1::RotateSecretResponse {
    v1::RotateSecretResponse {
        secret: Some(convert::stored(done.rotated.info)),
        fields: done.rotated.fields,
        leases_told: count(done.leases_told),
        leases_ended: count(done.leases_ended),
    }
}

/// Stores what comes in and answers each; the connection is closed afterwards.
pub(super) fn import<B: Backend>(
    backend: Arc<B>,
    on: Arc<Connection>,
    messages: Streaming<v1::ImportSecretsRequest>,
    most: usize,
) -> Answers<v1::ImportSecretsResponse> {
    let (send, items) = mpsc::channel(AHEAD);
    let (answers, told) = mpsc::channel(64);
    let (fail, failed) = mpsc::channel(1);
    let closing = Arc::clone(&on);
    tokio::spawn(async move {
        let mut messages = messages;
        let begun = async {
            let first = messages.message().await?;
            first.ok_or_else(|| status(Failure::field("source", "no message was sent")))
        };
        let work = match begun.await {
            Err(refused) => Err(refused),
            Ok(first) => {
                let source = parse::text("source", first.source.clone()).map_err(status);
                let reading = read_items(first, messages, most, send);
                match source {
                    Err(refused) => Err(refused),
                    Ok(source) => {
                        let importing = Importing { source, items, answers };
                        let (stored, read) = tokio::join!(backend.import(&on, importing), reading);
                        stored.map_err(status).and(read)
                    }
                }
            }
        };
        if let Err(why) = work {
            // An asker that has gone away need not be told.
            let _ = fail.send(why).await;
        }
    });
    let told = ReceiverStream::new(told).map(|answer| Ok(imported(answer)));
    let failed = ReceiverStream::new(failed).map(Err);
    // Whatever comes of it, the buffers of this connection have held secrets.
    let close = stream::once(async move {
        closing.close_soon();
        None
    });
    let all = told.chain(failed).map(Some).chain(close);
    Box::pin(all.filter_map(|answer| async move { answer }))
}

async fn read_items(
    first: v1::ImportSecretsRequest,
    mut messages: Streaming<v1::ImportSecretsRequest>,
    most: usize,
    to: mpsc::Sender<ImportItem>,
) -> Result<(), Status> {
    let replace = first.replace;
    let mut reading: Option<Reading> = None;
    let mut next = Some(first);
    while let Some(message) = next {
        if !message.name.is_empty()
            && let Some(whole) = reading.replace(Reading::begin(&message, replace))
            && to.send(whole.finish()).await.is_err()
        {
            return Ok(());
        }
        for piece in message.pieces {
            if let Some(reading) = &mut reading {
                reading.take(piece, most);
            }
        }
        if message.last {
            if let Some(whole) = reading.take() {
                // Whoever stores them says why, where that is over.
                let _ = to.send(whole.finish()).await;
            }
            let _ = to.send(ImportItem::Last).await;
            return Ok(());
        }
        next = messages.message().await?;
    }
    Ok(())
}

/// One secret that is being read. What is wrong with it stays its own.
struct Reading {
    name: String,
    owner: String,
    purpose: String,
    replace: bool,
    pieces: parse::Pieces,
    fault: Option<Failure>,
}

impl Reading {
    fn begin(message: &v1::ImportSecretsRequest, replace: bool) -> Self {
        Self {
            name: message.name.clone(),
            owner: message.owner.clone(),
            purpose: message.purpose.clone(),
            replace,
            pieces: parse::Pieces::default(),
            fault: None,
        }
    }

    fn take(&mut self, piece: v1::FieldPiece, most: usize) {
        if self.fault.is_none() {
            self.fault = self.pieces.take(piece, most).err();
        }
    }

    fn finish(self) -> ImportItem {
        let Self { name, owner, purpose, replace, pieces, fault } = self;
        let shown: String = name.chars().take(128).collect();
        let make = || {
            if let Some(fault) = fault {
                return Err(fault);
            }
            let name = parse::credential(&name)?;
            let owner = parse::required("owner", owner)?;
            let purpose = parse::required("purpose", purpose)?;
            let secret = Secret::new(pieces.finish()?)
                .map_err(|wrong| Failure::field("pieces", wrong.to_string()))?;
            Ok(NewSecret { name, owner, purpose, replace, secret })
        };
        match make() {
            Ok(new) => ImportItem::Secret(new),
            Err(failure) => ImportItem::Malformed(Imported {
                name: shown,
                outcome: ImportOutcome::Failed,
                reason: failure.message,
            }),
        }
    }
}

fn imported(answer: Imported) -> v1::ImportSecretsResponse {
    let outcome = match answer.outcome {
        ImportOutcome::Stored => Outcome::Stored,
        ImportOutcome::Replaced => Outcome::Replaced,
        ImportOutcome::Exists => Outcome::Exists,
        ImportOutcome::Failed => Outcome::Failed,
    };
    v1::ImportSecretsResponse { name: answer.name, outcome: outcome.into(), reason: answer.reason }
}

/// Age files, each in pieces.
pub(super) fn exports(files: mpsc::Receiver<Exported>) -> Answers<v1::ExportSecretsResponse> {
    let pieces = ReceiverStream::new(files).flat_map(|Exported { info, file }| {
        let (bytes, fault) = match file {
            Ok(bytes) => (bytes, String::new()),
            Err(fault) => (Vec::new(), fault),
        };
        let mut pieces: Vec<_> = bytes
            .chunks(PIECE)
            .map(|piece| v1::ExportSecretsResponse { piece: piece.to_vec(), ..Default::default() })
            .collect();
        if pieces.is_empty() {
            pieces.push(v1::ExportSecretsResponse::default());
        }
        if let Some(first) = pieces.first_mut() {
            first.secret = Some(convert::stored(info));
            first.fault = fault;
        }
        stream::iter(pieces.into_iter().map(Ok))
    });
    Box::pin(pieces)
}

pub(super) fn backup(
    pieces: mpsc::Receiver<Result<BackupPiece, Failure>>,
) -> Answers<v1::BackupResponse> {
    let messages = ReceiverStream::new(pieces).map(|piece| match piece {
        Ok(BackupPiece::Bytes(piece)) => Ok(v1::BackupResponse { piece, summary: None }),
        Ok(BackupPiece::Done(BackedUp { summary, identity, damaged })) => {
            let summary = v1::BackupSummary { identity, damaged, ..self::summary(summary) };
            Ok(v1::BackupResponse { piece: Vec::new(), summary: Some(summary) })
        }
        Err(failure) => Err(status(failure)),
    });
    Box::pin(messages)
}

/// How it is to be restored, and the pieces that follow.
pub(super) async fn restore<B: Backend>(
    backend: &B,
    on: &Connection,
    mut messages: Streaming<v1::RestoreRequest>,
) -> Result<v1::RestoreResponse, Status> {
    let Some(first) = messages.message().await? else {
        return Err(status(Failure::field("piece", "no message was sent")));
    };
    let how = RestoreHow {
        replace: first.replace,
        verify: first.verify,
        dry_run: first.dry_run,
        unsealed: first.unsealed,
    };
    let (send, pieces) = mpsc::channel(2);
    let reading = async move {
        let mut next = Some(first);
        while let Some(message) = next {
            let v1::RestoreRequest { piece, last, .. } = message;
            // A piece that is empty would be the end.
            if !piece.is_empty() && send.send(piece).await.is_err() {
                return Ok(());
            }
            if last {
                let _ = send.send(Vec::new()).await;
                return Ok(());
            }
            next = messages.message().await?;
        }
        Ok::<_, Status>(())
    };
    let restoring = backend.restore(on, how, pieces);
    tokio::pin!(reading, restoring);
    // What is wrong with an archive is said at once, not when all of it is here.
    let done = tokio::select! {
        done = &mut restoring => done,
        read = &mut reading => match read {
            Ok(()) => restoring.await,
            Err(broken) => {
                let _ = restoring.await;
                return Err(broken);
            }
        },
    };
    Ok(returned(done.map_err(status)?))
}

fn returned(done: Returned) -> v1::RestoreResponse {
    let Returned { restored, leases_told, leases_ended } = done;
    let names =
        |names: Vec<crate::names::CredentialName>| names.into_iter().map(String::from).collect();
    v1::RestoreResponse {
        backup: Some(summary(restored.backup)),
        sealed: restored.sealed,
        added: names(restored.added),
        changed: names(restored.changed),
        removed: names(restored.removed),
        unchanged: count(restored.unchanged),
        opened: count(restored.opened),
        leases_told: count(leases_told),
        leases_ended: count(leases_ended),
    }
}

fn summary(summary: Summary) -> v1::BackupSummary {
    v1::BackupSummary {
        made_at: Some(convert::timestamp(summary.made_at)),
        secrets: count(summary.secrets),
        files: count(summary.files),
        manifest: summary.manifest,
        identity: String::new(),
        damaged: Vec::new(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
