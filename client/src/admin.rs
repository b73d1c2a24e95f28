//! What operators ask of the agent.

use crate::connect::{self, Connection};
use crate::discovery::{Socket, admin_socket};
use crate::error::Error;
use crate::trust::Trust;
use jsi_proto::v1::admin_client::AdminClient;
use jsi_proto::v1::{
    ExplainRequest, ExplainResponse, FieldPiece, Hypothesis, JwtIssuer, Lease, LeaseSelector,
    ListSecretsRequest, LockRequest, PutSecretRequest, PutSecretResponse, ReloadRequest,
    ReloadResponse, RemoveSecretRequest, RevokeLeasesRequest, RotateJwtKeysRequest, SecretInfo,
    StatusRequest, StatusResponse, UnlockRequest,
};
use zeroize::Zeroizing;

/// A connection to the admin socket.
pub struct Admin {
    server_uid: u32,
    pub(crate) client: AdminClient<Connection>,
}

/// A secret on its way into the store. Its values are wiped when it is
/// dropped; it has no `Debug`.
#[derive(Default)]
pub struct NewSecret {
    /// The credential's name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// Replace one that exists.
    pub replace: bool,
    pub(crate) fields: Vec<NewField>,
}

pub(crate) struct NewField {
    pub(crate) name: String,
    pub(crate) sensitive: bool,
    pub(crate) is_default: bool,
    pub(crate) value: Zeroizing<Vec<u8>>,
}

impl NewSecret {
    /// A secret without fields yet.
    #[must_use]
    pub fn new(name: &str, owner: &str, purpose: &str) -> Self {
        let (name, owner, purpose) = (name.to_owned(), owner.to_owned(), purpose.to_owned());
        Self { name, owner, purpose, ..Self::default() }
    }

    /// Adds a field.
    pub fn field(
        &mut self,
        name: &str,
        value: Zeroizing<Vec<u8>>,
        sensitive: bool,
        is_default: bool,
    ) {
        self.fields.push(NewField { name: name.to_owned(), sensitive, is_default, value });
    }

    /// The messages in which it travels, each with padding in front and with at
    /// most [`jsi_proto::MAX_PIECE`] bytes of values.
    fn messages(&self) -> Vec<PutSecretRequest> {
        let message = |pieces| {
            let padding = jsi_proto::padding();
            PutSecretRequest { padding, pieces, ..Default::default() }
        };
        let mut messages: Vec<_> = pieces(&self.fields).into_iter().map(message).collect();
        if let Some(first) = messages.first_mut() {
            first.name.clone_from(&self.name);
            first.owner.clone_from(&self.owner);
            first.purpose.clone_from(&self.purpose);
            first.replace = self.replace;
        }
        messages
    }
}

/// Fields in pieces, as many together as one message takes; there is always a first
/// message.
pub(crate) fn pieces(fields: &[NewField]) -> Vec<Vec<FieldPiece>> {
    let mut messages = vec![Vec::new()];
    // What a message may still take; names and flags count as well, so that many
    // empty fields do not make it long.
    let mut room = jsi_proto::MAX_PIECE;
    for field in fields {
        let overhead = field.name.len() + 16;
        let mut rest: &[u8] = &field.value;
        loop {
            if room < overhead + rest.len().min(1024) {
                messages.push(Vec::new());
                room = jsi_proto::MAX_PIECE;
            }
            let (now, later) = rest.split_at(rest.len().min(room - overhead));
            if let Some(message) = messages.last_mut() {
                message.push(FieldPiece {
                    name: field.name.clone(),
                    sensitive: field.sensitive,
                    is_default: field.is_default,
                    value: now.to_vec(),
                    more: !later.is_empty(),
                });
            }
            room -= overhead + now.len();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    messages
}

impl Admin {
    /// Connects to the admin socket that the environment names; see [`admin_socket`].
    ///
    /// # Errors
    /// As [`crate::Agent::connect`].
    pub async fn connect() -> Result<Self, Error> {
        Self::connect_to(&admin_socket(), &Trust::host()).await
    }

    /// Connects to an admin socket, by a rule of trust.
    ///
    /// # Errors
    /// As [`crate::Agent::connect`].
    pub async fn connect_to(socket: &Socket, trust: &Trust) -> Result<Self, Error> {
        let connection = connect::open(socket, trust).await?;
        let server_uid = connection.server_uid();
        let client = AdminClient::with_origin(connection, connect::origin());
        Ok(Self { server_uid, client })
    }

    /// The server's uid.
    #[must_use]
    pub fn server_uid(&self) -> u32 {
        self.server_uid
    }

    /// Stores a secret. Takes the connection, whose buffers then have held it.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn put_secret(mut self, secret: NewSecret) -> Result<PutSecretResponse, Error> {
        let messages = tokio_stream::iter(secret.messages());
        drop(secret);
        Ok(self.client.put_secret(messages).await?.into_inner())
    }

    /// Removes a secret and ends its leases; answers how many.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn remove_secret(&mut self, name: &str) -> Result<u32, Error> {
        let request = RemoveSecretRequest { name: name.to_owned() };
        Ok(self.client.remove_secret(request).await?.into_inner().leases_ended)
    }

    /// The stored secrets, without their values.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn secrets(&mut self, prefix: &str) -> Result<Vec<SecretInfo>, Error> {
        let request = ListSecretsRequest { prefix: prefix.to_owned() };
        Ok(self.client.list_secrets(request).await?.into_inner().secrets)
    }

    /// Ends leases; answers which.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn revoke(
        &mut self,
        selector: LeaseSelector,
        note: &str,
    ) -> Result<Vec<Lease>, Error> {
        let request = RevokeLeasesRequest { selector: Some(selector), note: note.to_owned() };
        Ok(self.client.revoke_leases(request).await?.into_inner().leases)
    }

    /// Brings the next signing key of an issuer of tokens into use: `now`, else
    /// once it has been published for as long as configured; `withdraw` publishes
    /// no earlier key any more.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn rotate_jwt_keys(
        &mut self,
        issuer: &str,
        now: bool,
        withdraw: bool,
    ) -> Result<JwtIssuer, Error> {
        let request = RotateJwtKeysRequest { issuer: issuer.to_owned(), now, withdraw };
        let answer = self.client.rotate_jwt_keys(request).await?.into_inner();
        answer.issuer.ok_or(Error::Protocol("the answer has no issuer"))
    }

    /// How a request was decided.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn explain(&mut self, request_id: &str) -> Result<ExplainResponse, Error> {
        let request = ExplainRequest { request_id: request_id.to_owned(), hypothesis: None };
        Ok(self.client.explain(request).await?.into_inner())
    }

    /// How a request that nobody makes would be decided.
    ///
    /// # Errors
    /// As the agent answers; [`Reason::UnknownCredential`](jsi_proto::v1::Reason)
    /// where there is none of that name.
    pub async fn suppose(&mut self, hypothesis: Hypothesis) -> Result<ExplainResponse, Error> {
        let request = ExplainRequest { hypothesis: Some(hypothesis), ..Default::default() };
        Ok(self.client.explain(request).await?.into_inner())
    }

    /// Stops issue, renewal and reads; leases still end. With a passphrase only
    /// that one unlocks again. Takes the connection, whose buffers then have
    /// held it.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn lock(mut self, passphrase: Option<Zeroizing<Vec<u8>>>) -> Result<(), Error> {
        let request = passphrase.map_or_else(LockRequest::default, |passphrase| LockRequest {
            padding: jsi_proto::padding(),
            passphrase: passphrase.to_vec(),
        });
        self.client.lock(request).await?;
        Ok(())
    }

    /// Undoes [`Admin::lock`]. Takes the connection, whose buffers then have
    /// held the passphrase.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn unlock(mut self, passphrase: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let request =
            UnlockRequest { padding: jsi_proto::padding(), passphrase: passphrase.to_vec() };
        self.client.unlock(request).await?;
        Ok(())
    }

    /// Reads configuration and policy again, both or neither.
    ///
    /// # Errors
    /// As the agent answers; the old ones stay in force then.
    pub async fn reload(&mut self) -> Result<ReloadResponse, Error> {
        Ok(self.client.reload(ReloadRequest {}).await?.into_inner())
    }

    /// How the agent is.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn status(&mut self) -> Result<StatusResponse, Error> {
        Ok(self.client.status(StatusRequest {}).await?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(message: &PutSecretRequest) -> usize {
        let values: usize = message.pieces.iter().map(|p| p.value.len() + p.name.len() + 16).sum();
        message.padding.len() + message.name.len() + values
    }

    #[test]
    fn a_long_secret_travels_in_short_padded_messages_and_arrives_whole() {
        let mut secret = NewSecret { name: "a/b".to_owned(), ..Default::default() };
        let long: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        secret.field("user", Zeroizing::new(b"orders".to_vec()), false, false);
        secret.field("key", Zeroizing::new(long.clone()), true, true);
        secret.field("empty", Zeroizing::new(Vec::new()), true, false);
        let messages = secret.messages();
        assert!(messages.iter().all(|m| m.padding.len() == jsi_proto::PADDING_LEN));
        assert!(messages.iter().all(|m| size(m) < jsi_proto::MAX_SECRET_MESSAGE));
        assert_eq!(messages.iter().filter(|m| !m.name.is_empty()).count(), 1);
        let pieces: Vec<_> = messages.iter().flat_map(|m| &m.pieces).collect();
        let key: Vec<u8> =
            pieces.iter().filter(|p| p.name == "key").flat_map(|p| p.value.clone()).collect();
        assert_eq!(key, long);
        let last = pieces.iter().rev().find(|p| p.name == "key").unwrap();
        assert!(!last.more);
        assert!(pieces.iter().any(|p| p.name == "empty" && p.value.is_empty() && !p.more));
    }

    #[test]
    fn many_small_fields_do_not_make_a_message_long() {
        let mut secret = NewSecret::default();
        for i in 0..32 {
            secret.field(&format!("{i:064}"), Zeroizing::new(vec![1; 600]), true, i == 0);
        }
        let messages = secret.messages();
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|m| size(m) < jsi_proto::MAX_SECRET_MESSAGE));
    }
}
