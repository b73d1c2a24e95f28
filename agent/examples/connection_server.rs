//! Serves grpc.health.v1 on a Unix socket through the connection stage alone,
//! so that real clients can be shown to answer the challenge
//! (`tests/peers/run`). Usage: `connection_server SOCKET`.
#![allow(clippy::print_stdout, reason = "says on stdout that it is ready, and what it refuses")]

use jsi_agent::config::Limits;
use jsi_agent::connection::{
    AcceptLimits, Answer, Channel, Connection, ImageId, Peer, Refused, Witness, accept_loop, bind,
};
use std::error::Error;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_stream::Empty;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

struct AnyImage;

impl Witness for AnyImage {
    fn open<'a>(&'a self, _: Peer, _: BorrowedFd<'a>) -> Answer<'a, ImageId> {
        Box::pin(async { Ok(ImageId(1)) })
    }

    fn forget(&self, _: ImageId) {}
}

struct Checker;

#[tonic::async_trait]
impl Health for Checker {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let connection = request
            .extensions()
            .get::<Arc<Connection>>()
            .ok_or_else(|| Status::internal("no connection"))?;
        connection.answered().await.map_err(|e| Status::permission_denied(e.to_string()))?;
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only Check is served here"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: SOCKET")?;
    let socket = bind(&path, 0o600, None)?;
    let refused: Refused = Arc::new(|peer, why| println!("refused pid {}: {why}", peer.pid));
    let limits = AcceptLimits::new(&Limits::default());
    let sessions =
        accept_loop(socket.listener, None, Channel::Agent, Arc::new(AnyImage), limits, refused);
    println!("ready");
    tonic::transport::Server::builder()
        .serve_with_incoming(HealthServer::new(Checker), sessions)
        .await?;
    Ok(())
}
