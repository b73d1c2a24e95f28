//! The pipeline as protocols see it.

use super::Pipeline;
use crate::attestation::Attestation;
use crate::connection::Connection;
use crate::delivery::{
    Ask, Backend, BackupPiece, CredentialInfo, Delivered, Explained, Exported, Failure, Importing,
    LeaseFilter, NewSecret, Reloaded, Returned, Rotated, SecretRotation, StatusReport, Watch,
};
use crate::issuer::{KeySet, Rotation};
use crate::lease::{LeaseView, Selector};
use crate::memory::{SecretBuf, random_array};
use crate::names::{CredentialName, LeaseId, RequestId};
use crate::policy::Supposed;
use crate::store::{RestoreHow, StoredInfo};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

#[tonic::async_trait]
impl Backend for Pipeline {
    async fn who_am_i(&self, on: &Connection) -> Result<Attestation, Failure> {
        let attestation = self.attest(on, &RequestId::new(random_array()), "whoami", None).await?;
        Ok((*attestation).clone())
    }

    async fn credentials(
        &self,
        on: &Connection,
        prefix: &str,
    ) -> Result<Vec<CredentialInfo>, Failure> {
        self.visible_credentials(on, prefix).await
    }

    async fn request(&self, on: &Arc<Connection>, ask: Ask) -> Result<Delivered, Failure> {
        self.serve(on, ask).await
    }

    async fn renew(
        &self,
        on: &Connection,
        lease: &LeaseId,
        increment: Option<Duration>,
    ) -> Result<(LeaseView, Vec<String>), Failure> {
        self.renew_lease(on, lease, increment).await
    }

    async fn release(&self, on: &Connection, lease: &LeaseId) -> Result<LeaseView, Failure> {
        self.release_lease(on, lease).await
    }

    async fn lease(&self, on: &Connection, lease: &LeaseId) -> Result<LeaseView, Failure> {
        self.own_lease(on, lease).await
    }

    async fn leases(
        &self,
        on: &Connection,
        filter: &LeaseFilter,
    ) -> Result<Vec<LeaseView>, Failure> {
        self.visible_leases(on, filter).await
    }

    async fn watch(&self, on: &Connection, filter: &LeaseFilter) -> Result<Watch, Failure> {
        self.watch_leases(on, filter).await
    }

    async fn put_secret(
        &self,
        on: &Connection,
        new: NewSecret,
    ) -> Result<(StoredInfo, bool), Failure> {
        self.store_secret(on, new).await
    }

    async fn rotate(&self, on: &Connection, order: SecretRotation) -> Result<Rotated, Failure> {
        self.rotate_secret(on, order).await
    }

    async fn import(&self, on: &Connection, importing: Importing) -> Result<(), Failure> {
        self.import_secrets(on, importing).await
    }

    async fn export(
        &self,
        on: &Connection,
        names: Option<Vec<CredentialName>>,
    ) -> Result<mpsc::Receiver<Exported>, Failure> {
        self.export_secrets(on, names).await
    }

    async fn backup(
        &self,
        on: &Connection,
    ) -> Result<mpsc::Receiver<Result<BackupPiece, Failure>>, Failure> {
        self.back_up(on).await
    }

    async fn restore(
        &self,
        on: &Connection,
        how: RestoreHow,
        pieces: mpsc::Receiver<Vec<u8>>,
    ) -> Result<Returned, Failure> {
        self.bring_back(on, how, pieces).await
    }

    async fn remove_secret(
        &self,
        on: &Connection,
        name: &CredentialName,
    ) -> Result<usize, Failure> {
        self.drop_secret(on, name).await
    }

    async fn secrets(&self, on: &Connection, prefix: &str) -> Result<Vec<StoredInfo>, Failure> {
        self.stored_secrets(on, prefix).await
    }

    async fn revoke(
        &self,
        on: &Connection,
        which: &Selector,
        note: &str,
    ) -> Result<Vec<LeaseView>, Failure> {
        self.revoke_leases(on, which, note).await
    }

    async fn explain(&self, on: &Connection, request: &RequestId) -> Result<Explained, Failure> {
        self.explain_request(on, request).await
    }

    async fn key_sets(&self, issuer: Option<&str>) -> Result<Vec<KeySet>, Failure> {
        self.published_keys(issuer)
    }

    async fn rotate_keys(
        &self,
        on: &Connection,
        issuer: &str,
        how: Rotation,
    ) -> Result<KeySet, Failure> {
        self.rotate_signing_key(on, issuer, how).await
    }

    async fn suppose(
        &self,
        on: &Connection,
        name: &CredentialName,
        supposed: Supposed,
    ) -> Result<Explained, Failure> {
        self.suppose_request(on, name, supposed).await
    }

    async fn lock(&self, on: &Connection, passphrase: SecretBuf) -> Result<(), Failure> {
        self.lock_agent(on, passphrase).await
    }

    async fn unlock(&self, on: &Connection, passphrase: SecretBuf) -> Result<(), Failure> {
        self.unlock_agent(on, passphrase).await
    }

    async fn reload(&self, on: &Connection) -> Result<Reloaded, Failure> {
        self.reload_agent(on).await
    }

    async fn status(&self, on: &Connection) -> Result<StatusReport, Failure> {
        self.report(on).await
    }
}
