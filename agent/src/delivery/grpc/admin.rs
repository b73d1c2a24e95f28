//! `jsi.v1.Admin`.

use super::failure::status;
use super::secrets::{self, Answers};
use super::{connection, convert, explained, hypothesis, parse};
use crate::delivery::{Backend, Failure, NewSecret};
use crate::issuer::Rotation;
use crate::memory::{Secret, SecretBuf};
use crate::names::RequestId;
use jsi_proto::v1;
use jsi_proto::v1::admin_server::Admin;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The service over a backend.
pub(super) struct AdminService<B> {
    backend: Arc<B>,
    secret_bytes: usize,
}

impl<B> AdminService<B> {
    pub(super) fn new(backend: Arc<B>, secret_bytes: usize) -> Self {
        Self { backend, secret_bytes }
    }
}

#[tonic::async_trait]
impl<B: Backend> Admin for AdminService<B> {
    async fn put_secret(
        &self,
        request: Request<Streaming<v1::PutSecretRequest>>,
    ) -> Result<Response<v1::PutSecretResponse>, Status> {
        let on = connection(&request)?;
        // Whatever comes of it, the buffers of this connection have held a secret.
        let result = self.put(&on, request.into_inner()).await;
        on.close_soon();
        result
    }

    async fn rotate_secret(
        &self,
        request: Request<Streaming<v1::RotateSecretRequest>>,
    ) -> Result<Response<v1::RotateSecretResponse>, Status> {
        let on = connection(&request)?;
        let done = match secrets::rotation(request.into_inner(), self.secret_bytes).await {
            Ok(order) => self.backend.rotate(&on, order).await.map_err(status),
            Err(refused) => Err(refused),
        };
        // As after PutSecret.
        on.close_soon();
        Ok(Response::new(secrets::rotated(done?)))
    }

    type ImportSecretsStream = Answers<v1::ImportSecretsResponse>;

    async fn import_secrets(
        &self,
        request: Request<Streaming<v1::ImportSecretsRequest>>,
    ) -> Result<Response<Self::ImportSecretsStream>, Status> {
        let on = connection(&request)?;
        let backend = Arc::clone(&self.backend);
        let answers = secrets::import(backend, on, request.into_inner(), self.secret_bytes);
        Ok(Response::new(answers))
    }

    type ExportSecretsStream = Answers<v1::ExportSecretsResponse>;

    async fn export_secrets(
        &self,
        request: Request<v1::ExportSecretsRequest>,
    ) -> Result<Response<Self::ExportSecretsStream>, Status> {
        let on = connection(&request)?;
        let names = parse::exported(request.into_inner()).map_err(status)?;
        let files = self.backend.export(&on, names).await.map_err(status)?;
        Ok(Response::new(secrets::exports(files)))
    }

    type BackupStream = Answers<v1::BackupResponse>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let on = connection(&request)?;
        let pieces = self.backend.backup(&on).await.map_err(status)?;
        Ok(Response::new(secrets::backup(pieces)))
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreRequest>>,
    ) -> Result<Response<v1::RestoreResponse>, Status> {
        let on = connection(&request)?;
        let done = secrets::restore(&*self.backend, &on, request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn remove_secret(
        &self,
        request: Request<v1::RemoveSecretRequest>,
    ) -> Result<Response<v1::RemoveSecretResponse>, Status> {
        let on = connection(&request)?;
        let name = parse::credential(&request.into_inner().name).map_err(status)?;
        let ended = self.backend.remove_secret(&on, &name).await.map_err(status)?;
        let leases_ended = u32::try_from(ended).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RemoveSecretResponse { leases_ended }))
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        let on = connection(&request)?;
        let prefix = request.into_inner().prefix;
        let found = self.backend.secrets(&on, &prefix).await.map_err(status)?;
        let secrets = found.into_iter().map(convert::stored).collect();
        Ok(Response::new(v1::ListSecretsResponse { secrets }))
    }

    async fn revoke_leases(
        &self,
        request: Request<v1::RevokeLeasesRequest>,
    ) -> Result<Response<v1::RevokeLeasesResponse>, Status> {
        let on = connection(&request)?;
        let asked = request.into_inner();
        let which = parse::selector(asked.selector).map_err(status)?;
        let note = parse::text("note", asked.note).map_err(status)?;
        let ended = self.backend.revoke(&on, &which, &note).await.map_err(status)?;
        let leases = ended.iter().map(convert::lease).collect();
        Ok(Response::new(v1::RevokeLeasesResponse { leases }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let on = connection(&request)?;
        let asked = request.into_inner();
        let decided = match asked.hypothesis {
            Some(_) if !asked.request_id.is_empty() => {
                Err(Failure::field("hypothesis", "stands beside a request ID"))
            }
            Some(supposed) => {
                let (name, supposed) = hypothesis(supposed).map_err(status)?;
                self.backend.suppose(&on, &name, supposed).await
            }
            None => self.backend.explain(&on, &RequestId::from_text(&asked.request_id)).await,
        };
        let decided = decided.map_err(status)?;
        Ok(Response::new(explained(decided)))
    }

    async fn rotate_jwt_keys(
        &self,
        request: Request<v1::RotateJwtKeysRequest>,
    ) -> Result<Response<v1::RotateJwtKeysResponse>, Status> {
        let on = connection(&request)?;
        let v1::RotateJwtKeysRequest { issuer, now, withdraw } = request.into_inner();
        let how = Rotation { now, withdraw };
        let set = self.backend.rotate_keys(&on, &issuer, how).await.map_err(status)?;
        let issuer = Some(convert::key_set(set));
        Ok(Response::new(v1::RotateJwtKeysResponse { issuer }))
    }

    async fn lock(
        &self,
        request: Request<v1::LockRequest>,
    ) -> Result<Response<v1::LockResponse>, Status> {
        let on = connection(&request)?;
        let passphrase = SecretBuf::new(request.into_inner().passphrase);
        let given = !passphrase.is_empty();
        let result = self.backend.lock(&on, passphrase).await;
        if given {
            on.close_soon();
        }
        result.map_err(status)?;
        Ok(Response::new(v1::LockResponse {}))
    }

    async fn unlock(
        &self,
        request: Request<v1::UnlockRequest>,
    ) -> Result<Response<v1::UnlockResponse>, Status> {
        let on = connection(&request)?;
        let passphrase = SecretBuf::new(request.into_inner().passphrase);
        let result = self.backend.unlock(&on, passphrase).await;
        on.close_soon();
        result.map_err(status)?;
        Ok(Response::new(v1::UnlockResponse {}))
    }

    async fn reload(
        &self,
        request: Request<v1::ReloadRequest>,
    ) -> Result<Response<v1::ReloadResponse>, Status> {
        let on = connection(&request)?;
        let done = self.backend.reload(&on).await.map_err(status)?;
        Ok(Response::new(v1::ReloadResponse {
            policies: u32::try_from(done.policies).unwrap_or(u32::MAX),
            credentials: u32::try_from(done.credentials).unwrap_or(u32::MAX),
            warnings: done.warnings,
        }))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let on = connection(&request)?;
        let report = self.backend.status(&on).await.map_err(status)?;
        Ok(Response::new(convert::report(report)))
    }
}

impl<B: Backend> AdminService<B> {
    async fn put(
        &self,
        on: &crate::connection::Connection,
        mut messages: Streaming<v1::PutSecretRequest>,
    ) -> Result<Response<v1::PutSecretResponse>, Status> {
        let Some(first) = messages.message().await? else {
            return Err(status(Failure::field("name", "no message was sent")));
        };
        let name = parse::credential(&first.name).map_err(status)?;
        let owner = parse::required("owner", first.owner).map_err(status)?;
        let purpose = parse::required("purpose", first.purpose).map_err(status)?;
        let mut pieces = parse::Pieces::default();
        let mut next = Some(first.pieces);
        while let Some(some) = next {
            for piece in some {
                pieces.take(piece, self.secret_bytes).map_err(status)?;
            }
            next = messages.message().await?.map(|message| message.pieces);
        }
        let fields = pieces.finish().map_err(status)?;
        let secret = Secret::new(fields)
            .map_err(|wrong| status(Failure::field("pieces", wrong.to_string())))?;
        let new = NewSecret { name, owner, purpose, replace: first.replace, secret };
        let (stored, replaced) = self.backend.put_secret(on, new).await.map_err(status)?;
        Ok(Response::new(v1::PutSecretResponse { secret: Some(convert::stored(stored)), replaced }))
    }
}
