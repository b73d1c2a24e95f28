//! What operators do with many secrets at once, and with the whole store.

use crate::admin::{Admin, NewField, NewSecret, pieces};
use crate::error::Error;
use jsi_proto::v1::{
    BackupRequest, BackupResponse, BackupSummary, ExportSecretsRequest, ExportSecretsResponse,
    FieldPiece, GeneratedValue, ImportSecretsRequest, ImportSecretsResponse, RestoreRequest,
    RestoreResponse, RotateSecretRequest, RotateSecretResponse, SecretInfo,
};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::Streaming;
use zeroize::Zeroizing;

/// Bytes of an archive in one message; below the least `message_bytes`.
const PIECE: usize = 32 * 1024;
/// Longest age file that is taken, in bytes.
const MAX_FILE: usize = 8 * jsi_proto::MAX_SECRET;

/// New values for a stored secret. They are wiped when it is dropped; it has no
/// `Debug`.
#[derive(Default)]
pub struct NewValues {
    /// The credential's name.
    pub name: String,
    /// A value that the agent makes.
    pub generate: Option<GeneratedValue>,
    /// End the leases on it.
    pub revoke: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    fields: Vec<NewField>,
}

impl NewValues {
    /// No values yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// A field's new value; a field without a name is the default one.
    pub fn field(&mut self, name: &str, value: Zeroizing<Vec<u8>>) {
        let name = name.to_owned();
        self.fields.push(NewField { name, sensitive: true, is_default: false, value });
    }

    fn messages(&self) -> Vec<RotateSecretRequest> {
        let message = |pieces: Vec<FieldPiece>| RotateSecretRequest {
            padding: jsi_proto::padding(),
            pieces,
            ..Default::default()
        };
        let mut messages: Vec<_> = pieces(&self.fields).into_iter().map(message).collect();
        if let Some(first) = messages.first_mut() {
            first.name.clone_from(&self.name);
            first.generate.clone_from(&self.generate);
            (first.revoke, first.dry_run) = (self.revoke, self.dry_run);
        }
        messages
    }
}

/// What became of each secret of an import, in their order.
pub struct Imported(Streaming<ImportSecretsResponse>);

impl Imported {
    /// The next; `None`: that was all.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn next(&mut self) -> Result<Option<ImportSecretsResponse>, Error> {
        Ok(self.0.message().await?)
    }
}

/// An age file as it lies in the store.
pub struct AgeFile {
    /// Whose it is.
    pub secret: SecretInfo,
    /// The file, or why it is not given.
    pub bytes: Result<Vec<u8>, String>,
}

/// Age files, one behind the other.
pub struct AgeFiles {
    stream: Streaming<ExportSecretsResponse>,
    next: Option<ExportSecretsResponse>,
}

impl AgeFiles {
    /// The next; `None`: that was all.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn next(&mut self) -> Result<Option<AgeFile>, Error> {
        let first = match self.next.take() {
            Some(first) => first,
            None => match self.stream.message().await? {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let ExportSecretsResponse { secret, piece: mut bytes, fault } = first;
        let secret = secret.ok_or(Error::Protocol("an age file came without its name"))?;
        while let Some(message) = self.stream.message().await? {
            if message.secret.is_some() {
                self.next = Some(message);
                break;
            }
            bytes.extend_from_slice(&message.piece);
            if bytes.len() > MAX_FILE {
                return Err(Error::Protocol("an age file is longer than any may be"));
            }
        }
        let bytes = if fault.is_empty() { Ok(bytes) } else { Err(fault) };
        Ok(Some(AgeFile { secret, bytes }))
    }
}

/// A part of a backup.
pub enum BackupPart {
    /// The next bytes of the archive.
    Bytes(Vec<u8>),
    /// It is whole.
    End(BackupSummary),
}

/// A backup on its way.
pub struct Backup(Streaming<BackupResponse>);

impl Backup {
    /// The next part. Without [`BackupPart::End`] it is not whole.
    ///
    /// # Errors
    /// As the agent answers; [`Error::Protocol`] where it ends too early.
    pub async fn next(&mut self) -> Result<BackupPart, Error> {
        match self.0.message().await? {
            Some(BackupResponse { summary: Some(summary), .. }) => Ok(BackupPart::End(summary)),
            Some(BackupResponse { piece, .. }) => Ok(BackupPart::Bytes(piece)),
            None => Err(Error::Protocol("the backup ended before it was whole")),
        }
    }
}

/// How a backup is restored.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreHow {
    /// The store may hold secrets already.
    pub replace: bool,
    /// Every secret is opened first.
    pub verify: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// The seal need not be of the agent's identity.
    pub unsealed: bool,
}

impl Admin {
    /// New values for a stored secret. Takes the connection, whose buffers then
    /// have held them.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn rotate(mut self, values: NewValues) -> Result<RotateSecretResponse, Error> {
        let messages = tokio_stream::iter(values.messages());
        drop(values);
        Ok(self.client.rotate_secret(messages).await?.into_inner())
    }

    /// Stores many secrets, each as it says; `source` is where they come from, for
    /// the log. Takes the connection, whose buffers then have held them.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn import(
        mut self,
        source: &str,
        replace: bool,
        secrets: Vec<NewSecret>,
    ) -> Result<Imported, Error> {
        let begin = ImportSecretsRequest {
            padding: jsi_proto::padding(),
            source: source.to_owned(),
            replace,
            ..Default::default()
        };
        let end = ImportSecretsRequest { last: true, ..Default::default() };
        // Each becomes messages when its turn comes, and is wiped then.
        let secrets = secrets.into_iter().flat_map(|secret| imports(&secret));
        let messages = std::iter::once(begin).chain(secrets).chain([end]);
        let answers = self.client.import_secrets(tokio_stream::iter(messages)).await?;
        Ok(Imported(answers.into_inner()))
    }

    /// The age files of those secrets, or of all.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn export(mut self, names: &[String], all: bool) -> Result<AgeFiles, Error> {
        let request = ExportSecretsRequest { names: names.to_vec(), all };
        let stream = self.client.export_secrets(request).await?.into_inner();
        Ok(AgeFiles { stream, next: None })
    }

    /// A copy of the whole store.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn backup(mut self) -> Result<Backup, Error> {
        Ok(Backup(self.client.backup(BackupRequest {}).await?.into_inner()))
    }

    /// A store from a copy; all of it or nothing.
    ///
    /// # Errors
    /// As the agent answers; [`Error::Broken`] where `archive` cannot be read.
    pub async fn restore(
        mut self,
        how: RestoreHow,
        mut archive: impl Read + Send + 'static,
    ) -> Result<RestoreResponse, Error> {
        let RestoreHow { replace, verify, dry_run, unsealed } = how;
        let fault: Arc<Mutex<Option<std::io::Error>>> = Arc::default();
        let told = Arc::clone(&fault);
        let first = RestoreRequest { replace, verify, dry_run, unsealed, ..Default::default() };
        let (send, pieces) = tokio::sync::mpsc::channel(2);
        // On a thread of its own: a pipe may keep it waiting, and the connection goes on.
        std::thread::spawn(move || {
            let mut next = Some(first);
            while let Some(message) = next {
                let last = message.last;
                if send.blocking_send(message).is_err() || last {
                    return;
                }
                let mut piece = Vec::with_capacity(PIECE);
                next = match archive.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(count) => {
                        Some(RestoreRequest { piece, last: count == 0, ..Default::default() })
                    }
                    Err(error) => {
                        // It ends without its end, and is refused.
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        None
                    }
                };
            }
        });
        let messages = tokio_stream::wrappers::ReceiverStream::new(pieces);
        let answer = self.client.restore(messages).await;
        if let Some(error) = fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Error::Broken(format!("the archive cannot be read: {error}")));
        }
        Ok(answer?.into_inner())
    }
}

fn imports(secret: &NewSecret) -> Vec<ImportSecretsRequest> {
    let message = |pieces: Vec<FieldPiece>| ImportSecretsRequest {
        padding: jsi_proto::padding(),
        pieces,
        ..Default::default()
    };
    let mut messages: Vec<_> = pieces(&secret.fields).into_iter().map(message).collect();
    if let Some(first) = messages.first_mut() {
        first.name.clone_from(&secret.name);
        first.owner.clone_from(&secret.owner);
        first.purpose.clone_from(&secret.purpose);
    }
    messages
}
