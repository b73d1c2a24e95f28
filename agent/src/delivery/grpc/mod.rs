//! gRPC `jsi.v1` over the sockets, with health and, when asked for, reflection.

mod admin;
mod agent;
mod convert;
mod explained;
mod failure;
mod gate;
mod hypothesis;
mod parse;
mod secrets;
mod stream;

pub use explained::explained;
pub use hypothesis::hypothesis;

use crate::config::Limits;
use crate::connection::{Connection, Session};
use crate::delivery::Backend;
use jsi_proto::v1::Reason;
use jsi_proto::v1::admin_server::AdminServer;
use jsi_proto::v1::agent_server::AgentServer;
use std::sync::Arc;
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic::{Request, Status};

/// What is served on one socket.
pub struct Endpoint<B> {
    /// The pipeline.
    pub backend: Arc<B>,
    /// Limits in force.
    pub limits: Limits,
    /// Serve gRPC reflection.
    pub reflection: bool,
    /// Serve `Admin` too.
    pub admin: bool,
}

/// Streams of one connection at once: enough for any client, few enough that
/// one connection cannot hold the agent's memory.
const STREAMS_PER_CONNECTION: u32 = 128;

/// Bytes of request headers: no call of ours needs more.
const HEADER_BYTES: u32 = 16 * 1024;

/// Serves until `stop` resolves and the calls under way have ended.
///
/// # Errors
/// When the server cannot go on.
pub async fn serve<B: Backend>(
    endpoint: Endpoint<B>,
    sessions: impl Stream<Item = std::io::Result<Session>> + Send + 'static,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let Endpoint { backend, limits, reflection, admin } = endpoint;
    let rate = Arc::new(gate::uid_rate(limits.requests_per_second));
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<AgentServer<agent::AgentService<B>>>().await;
    let agent_service = AgentServer::new(agent::AgentService::new(Arc::clone(&backend), &limits))
        .max_decoding_message_size(limits.message_bytes);
    let admin_service = admin.then(|| {
        AdminServer::new(admin::AdminService::new(backend, limits.secret_bytes))
            .max_decoding_message_size(limits.message_bytes)
    });
    let reflection = reflection
        .then(|| {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(jsi_proto::DESCRIPTORS)
                .build_v1()
                .ok()
        })
        .flatten();
    Server::builder()
        .layer(gate::GateLayer::new(rate))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES)
        .add_service(health)
        .add_service(agent_service)
        .add_optional_service(admin_service)
        .add_optional_service(reflection)
        .serve_with_incoming_shutdown(sessions, stop)
        .await
}

/// The connection that a request came in on.
fn connection<T>(request: &Request<T>) -> Result<Arc<Connection>, Status> {
    request.extensions().get::<Arc<Connection>>().cloned().ok_or_else(|| {
        failure::status(crate::delivery::Failure::new(
            Reason::Internal,
            "a request without a connection",
        ))
    })
}
