//! A bare gRPC client: what a program that links no jsi library would use.

use hyper_util::rt::TokioIo;
use jsi_proto::v1::admin_client::AdminClient;
use jsi_proto::v1::agent_client::AgentClient;
use jsi_proto::v1::{
    FieldPiece, Lease, PutSecretRequest, ReleaseLeaseRequest, RequestCredentialRequest,
};
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

/// One connection.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

/// What a request brought.
pub struct Delivered {
    /// The lease.
    pub lease: Lease,
    /// Every field's bytes, one behind the other.
    pub secret: Vec<u8>,
    /// Names the decision.
    pub request_id: String,
}

/// A refusal as a program sees it.
#[derive(Debug)]
pub struct Failure {
    /// gRPC status code.
    pub code: tonic::Code,
    /// Stable reason; empty: none was given.
    pub reason: String,
    /// In words.
    pub message: String,
    /// BadRequest's fields.
    pub fields: Vec<String>,
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        Self {
            code: status.code(),
            reason: details.error_info().map(|i| i.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            fields: details.bad_request().map_or_else(Vec::new, |bad| {
                bad.field_violations.iter().map(|v| v.field.clone()).collect()
            }),
        }
    }
}

impl Client {
    /// Connects at once.
    ///
    /// # Errors
    /// The agent is not there or does not speak.
    pub async fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let socket: PathBuf = socket.to_owned();
        let dial = tower::service_fn(move |_| {
            let socket = socket.clone();
            // Where the backlog is full the kernel says EAGAIN (connect(2)) instead of
            // letting a socket that does not block wait: so it is tried again.
            async move {
                loop {
                    match tokio::net::UnixStream::connect(&socket).await {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                        }
                        connected => break connected.map(TokioIo::new),
                    }
                }
            }
        });
        let channel = Endpoint::from_static("http://agent").connect_with_connector(dial).await?;
        Ok(Self { channel })
    }

    /// The agent's calls.
    #[must_use]
    pub fn agent(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel.clone())
    }

    /// The operators' calls.
    #[must_use]
    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// The channel itself.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Asks for a credential and reads it to its end.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn request(&self, request: RequestCredentialRequest) -> Result<Delivered, Failure> {
        let mut stream = self.agent().request_credential(request).await?.into_inner();
        let mut delivered: Option<Delivered> = None;
        while let Some(message) = stream.message().await? {
            if let Some(lease) = message.lease {
                let request_id = message.request_id;
                delivered = Some(Delivered { lease, secret: Vec::new(), request_id });
            }
            let so_far = delivered.as_mut().expect("the first message carries the lease");
            message.pieces.iter().for_each(|p| so_far.secret.extend_from_slice(&p.value));
        }
        Ok(delivered.expect("at least one message"))
    }

    /// Asks for a credential by its name alone.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn take(&self, credential: &str) -> Result<Delivered, Failure> {
        self.request(RequestCredentialRequest {
            credential: credential.into(),
            ..RequestCredentialRequest::default()
        })
        .await
    }

    /// Gives a lease up.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn release(&self, lease_id: &str) -> Result<Lease, Failure> {
        let request = ReleaseLeaseRequest { lease_id: lease_id.into() };
        let answer = self.agent().release_lease(request).await?.into_inner();
        Ok(answer.lease.expect("the answer carries the lease"))
    }

    /// Stores a secret of one field, in messages of at most 8 KiB.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn put(&self, name: &str, value: &[u8]) -> Result<(), Failure> {
        let chunks: Vec<&[u8]> = value.chunks(jsi_proto::MAX_PIECE).collect();
        let count = chunks.len();
        let messages: Vec<_> = chunks
            .into_iter()
            .enumerate()
            .map(|(i, chunk)| PutSecretRequest {
                padding: jsi_proto::padding(),
                name: if i == 0 { name.into() } else { String::new() },
                owner: if i == 0 { "tests".into() } else { String::new() },
                purpose: if i == 0 { "to be asked for".into() } else { String::new() },
                replace: i == 0,
                pieces: vec![FieldPiece {
                    name: "value".into(),
                    sensitive: true,
                    is_default: true,
                    value: chunk.to_vec(),
                    more: i + 1 < count,
                }],
            })
            .collect();
        self.admin().put_secret(tokio_stream::iter(messages)).await?;
        Ok(())
    }
}
