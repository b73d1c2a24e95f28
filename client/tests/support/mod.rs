//! A fake agent: real gRPC over a real Unix socket, and no attestation, policy
//! or log behind it. It keeps what it was asked.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "test support")]

use jsi_proto::v1::admin_server::{Admin, AdminServer};
use jsi_proto::v1::agent_server::{Agent, AgentServer};
use jsi_proto::v1::*;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// What the fake saw and what it is to do.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) requests: Vec<RequestCredentialRequest>,
    pub(crate) released: Vec<String>,
    pub(crate) put: Vec<PutSecretRequest>,
    pub(crate) passphrase: Vec<u8>,
    pub(crate) selector: Option<LeaseSelector>,
    pub(crate) refuse_reload: bool,
    pub(crate) policy_dir: String,
    pub(crate) fields: Vec<(String, Vec<u8>, bool)>,
    pub(crate) listed: Vec<String>,
    /// It is of a later version, and says what this one has no word for.
    pub(crate) newer: bool,
}

/// A running fake; stops when dropped.
pub(crate) struct Fake {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fake {
    /// Serves `agent.sock` and `admin.sock` in a directory of its own.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let state = State {
            fields: vec![
                ("user".into(), b"orders".to_vec(), false),
                ("password".into(), b"s3cr'et \"x\"".to_vec(), true),
            ],
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let service = Service(state.clone());
        let _in = runtime.enter();
        let agent = tokio::net::UnixListener::bind(dir.path().join("agent.sock")).unwrap();
        let admin = tokio::net::UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        runtime.spawn(serve(agent, AgentServer::new(service.clone())));
        runtime.spawn(serve(admin, AdminServer::new(service)));
        drop(_in);
        Self { dir, state, runtime: Some(runtime) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// The command, with this fake as its agent.
    pub(crate) fn jsi(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jsi"));
        command.args(arguments).env("JSI_AUTH_SOCK", self.socket()).env_remove("JSI_ADMIN_SOCK");
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.jsi(arguments).stdin(std::process::Stdio::null()).output().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a command printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) async fn serve<S>(listener: tokio::net::UnixListener, service: S)
where
    S: tonic::codegen::Service<
            tonic::codegen::http::Request<tonic::body::Body>,
            Response = tonic::codegen::http::Response<tonic::body::Body>,
        > + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let incoming = UnixListenerStream::new(listener);
    let _ = tonic::transport::Server::builder().serve_with_incoming(service, incoming).await;
}

#[derive(Clone, Default)]
pub(crate) struct Service(Arc<Mutex<State>>);

fn refusal(code: Code, reason: Reason, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = HashMap::from([("request_id".to_owned(), "abcdefghijklm".to_owned())]);
    details.set_error_info(jsi_proto::reason_code(reason), jsi_proto::DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

fn lease(credential: &str, id: &str) -> Lease {
    Lease {
        id: id.to_owned(),
        credential: credential.to_owned(),
        state: LeaseState::Active.into(),
        remaining: Some(prost_types::Duration { seconds: 890, nanos: 0 }),
        credential_class: CredentialClass::Static.into(),
        binding: "process 1 (/bin/sh)".to_owned(),
        holder_exe: "/bin/sh".to_owned(),
        holder_pid: 1,
        ..Default::default()
    }
}

/// A lease with values that no version of today knows.
fn of_tomorrow() -> Lease {
    Lease {
        state: 99,
        credential_class: 99,
        revocation: 99,
        end_reason: 99,
        delivery: 99,
        ..lease("db/orders", "db/orders/a")
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

#[tonic::async_trait]
impl Agent for Service {
    type RequestCredentialStream = Stream<SecretMessage>;
    type WatchLeasesStream = Stream<LeaseEvent>;

    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        let process = Process {
            pid: 7,
            uid: 1000,
            exe: Some(Executable {
                path: "/usr/bin/bash".into(),
                digest: "ab".repeat(32),
                mode: 0o755,
                links: 1,
                ..Default::default()
            }),
            assurance: 1,
            shortfalls: vec![Shortfall { level: 2, reason: "not looked at".into() }],
            ..Default::default()
        };
        let attestation = Attestation {
            caller: Some(process.clone()),
            requester: Some(process),
            assurance: 1,
            via: "direct".into(),
            ..Default::default()
        };
        Ok(Response::new(WhoAmIResponse {
            attestation: Some(attestation),
            agent_version: "0".into(),
        }))
    }

    async fn jwt_keys(&self, _: Request<JwtKeysRequest>) -> Answer<JwtKeysResponse> {
        Ok(Response::new(JwtKeysResponse::default()))
    }

    async fn list_credentials(
        &self,
        _: Request<ListCredentialsRequest>,
    ) -> Answer<ListCredentialsResponse> {
        let listed = self.0.lock().unwrap().listed.clone();
        let named = |name| Credential { name, ..Default::default() };
        let credentials = listed.into_iter().map(named).collect();
        Ok(Response::new(ListCredentialsResponse { credentials }))
    }

    async fn request_credential(
        &self,
        request: Request<RequestCredentialRequest>,
    ) -> Answer<Self::RequestCredentialStream> {
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state.requests.push(request.clone());
        match request.credential.as_str() {
            "no/denied" => {
                return Err(refusal(
                    Code::PermissionDenied,
                    Reason::DeniedByPolicy,
                    "policy does not permit it",
                ));
            }
            "no/such" => {
                return Err(refusal(Code::NotFound, Reason::UnknownCredential, "there is none"));
            }
            "no/locked" => return Err(refusal(Code::FailedPrecondition, Reason::Locked, "locked")),
            "no/newer" => {
                let mut details = ErrorDetails::new();
                details.set_error_info("OF_TOMORROW", jsi_proto::DOMAIN, HashMap::new());
                let message = "for a reason of tomorrow";
                return Err(Status::with_error_details(Code::PermissionDenied, message, details));
            }
            "no/limit" => {
                return Err(refusal(Code::ResourceExhausted, Reason::LimitReached, "too many"));
            }
            _ => {}
        }
        let fields: Vec<_> = state
            .fields
            .iter()
            .filter(|(name, ..)| request.fields.is_empty() || request.fields.contains(name))
            .cloned()
            .collect();
        let id = format!("{}/{:026}", request.credential, state.requests.len());
        let mut messages = vec![Ok(SecretMessage {
            padding: jsi_proto::padding(),
            lease: Some(lease(&request.credential, &id)),
            request_id: "abcdefghijklm".into(),
            pieces: Vec::new(),
        })];
        for (name, value, is_default) in fields {
            let pieces: Vec<_> = value.chunks(jsi_proto::MAX_PIECE).collect();
            for (at, piece) in pieces.iter().enumerate() {
                messages.push(Ok(SecretMessage {
                    padding: jsi_proto::padding(),
                    pieces: vec![FieldPiece {
                        name: name.clone(),
                        sensitive: is_default,
                        is_default,
                        value: piece.to_vec(),
                        more: at + 1 < pieces.len(),
                    }],
                    ..Default::default()
                }));
            }
        }
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn renew_lease(&self, request: Request<RenewLeaseRequest>) -> Answer<RenewLeaseResponse> {
        let lease = Some(lease("db/orders", &request.into_inner().lease_id));
        Ok(Response::new(RenewLeaseResponse { lease }))
    }

    async fn release_lease(
        &self,
        request: Request<ReleaseLeaseRequest>,
    ) -> Answer<ReleaseLeaseResponse> {
        let id = request.into_inner().lease_id;
        if id == "unknown" {
            return Err(refusal(Code::NotFound, Reason::UnknownLease, "no such lease"));
        }
        self.0.lock().unwrap().released.push(id.clone());
        Ok(Response::new(ReleaseLeaseResponse { lease: Some(lease("db/orders", &id)) }))
    }

    async fn get_lease(&self, request: Request<GetLeaseRequest>) -> Answer<GetLeaseResponse> {
        let lease = Some(lease("db/orders", &request.into_inner().lease_id));
        Ok(Response::new(GetLeaseResponse { lease }))
    }

    async fn list_leases(&self, _: Request<ListLeasesRequest>) -> Answer<ListLeasesResponse> {
        let mut leases = vec![lease("db/orders", "db/orders/a")];
        if self.0.lock().unwrap().newer {
            leases = vec![of_tomorrow()];
        }
        Ok(Response::new(ListLeasesResponse { leases }))
    }

    async fn watch_leases(&self, _: Request<WatchLeasesRequest>) -> Answer<Stream<LeaseEvent>> {
        let mut events = Vec::new();
        if self.0.lock().unwrap().newer {
            events.push(Ok(LeaseEvent { kind: 99, lease: None }));
            events.push(Ok(LeaseEvent { kind: 99, lease: Some(of_tomorrow()) }));
        }
        events.push(Ok(LeaseEvent { kind: lease_event::Kind::Synced.into(), lease: None }));
        Ok(Response::new(tokio_stream::iter(events)))
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn rotate_jwt_keys(
        &self,
        request: Request<RotateJwtKeysRequest>,
    ) -> Answer<RotateJwtKeysResponse> {
        let issuer = JwtIssuer { name: request.into_inner().issuer, ..Default::default() };
        Ok(Response::new(RotateJwtKeysResponse { issuer: Some(issuer) }))
    }

    async fn put_secret(
        &self,
        request: Request<Streaming<PutSecretRequest>>,
    ) -> Answer<PutSecretResponse> {
        let mut stream = request.into_inner();
        let mut all = Vec::new();
        while let Some(message) = stream.message().await? {
            all.push(message);
        }
        let secret = SecretInfo { name: all[0].name.clone(), ..Default::default() };
        self.0.lock().unwrap().put = all;
        Ok(Response::new(PutSecretResponse { secret: Some(secret), replaced: false }))
    }

    // As an agent that is older than these calls.
    async fn rotate_secret(
        &self,
        _: Request<Streaming<RotateSecretRequest>>,
    ) -> Answer<RotateSecretResponse> {
        Err(Status::unimplemented(""))
    }

    type ImportSecretsStream = Stream<ImportSecretsResponse>;

    async fn import_secrets(
        &self,
        _: Request<Streaming<ImportSecretsRequest>>,
    ) -> Answer<Self::ImportSecretsStream> {
        Err(Status::unimplemented(""))
    }

    type ExportSecretsStream = Stream<ExportSecretsResponse>;

    async fn export_secrets(
        &self,
        _: Request<ExportSecretsRequest>,
    ) -> Answer<Self::ExportSecretsStream> {
        Err(Status::unimplemented(""))
    }

    type BackupStream = Stream<BackupResponse>;

    async fn backup(&self, _: Request<BackupRequest>) -> Answer<Self::BackupStream> {
        Err(Status::unimplemented(""))
    }

    async fn restore(&self, _: Request<Streaming<RestoreRequest>>) -> Answer<RestoreResponse> {
        Err(Status::unimplemented(""))
    }

    async fn remove_secret(&self, _: Request<RemoveSecretRequest>) -> Answer<RemoveSecretResponse> {
        Ok(Response::new(RemoveSecretResponse { leases_ended: 2 }))
    }

    async fn list_secrets(&self, _: Request<ListSecretsRequest>) -> Answer<ListSecretsResponse> {
        Ok(Response::new(ListSecretsResponse::default()))
    }

    async fn revoke_leases(
        &self,
        request: Request<RevokeLeasesRequest>,
    ) -> Answer<RevokeLeasesResponse> {
        self.0.lock().unwrap().selector = request.into_inner().selector;
        Ok(Response::new(RevokeLeasesResponse { leases: vec![lease("a", "a/x")] }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        let request_id = request.into_inner().request_id;
        Ok(Response::new(ExplainResponse { request_id, ..Default::default() }))
    }

    async fn lock(&self, _: Request<LockRequest>) -> Answer<LockResponse> {
        Ok(Response::new(LockResponse {}))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Answer<UnlockResponse> {
        self.0.lock().unwrap().passphrase = request.into_inner().passphrase;
        Ok(Response::new(UnlockResponse {}))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Answer<ReloadResponse> {
        if self.0.lock().unwrap().refuse_reload {
            return Err(refusal(
                Code::FailedPrecondition,
                Reason::InvalidConfiguration,
                "the policy is invalid",
            ));
        }
        Ok(Response::new(ReloadResponse { policies: 1, credentials: 1, warnings: vec![] }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let state = self.0.lock().unwrap();
        Ok(Response::new(StatusResponse {
            policy_dir: state.policy_dir.clone(),
            mode: "user".into(),
            locked: state.passphrase.is_empty(),
            ..Default::default()
        }))
    }
}
