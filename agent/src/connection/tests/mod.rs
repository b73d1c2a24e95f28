//! The whole stage: real sockets, real processes, a real tonic server.

mod bounds;
mod challenge;
mod measure;
mod senders;

use super::limits::AcceptLimits;
use super::*;
use crate::config::Limits;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::transport::{Channel as Client, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Images {
    opened: AtomicUsize,
    forgotten: AtomicUsize,
    slow: Option<Duration>,
}

impl Witness for Images {
    fn open<'a>(&'a self, _: Peer, _: BorrowedFd<'a>) -> Answer<'a, ImageId> {
        Box::pin(async {
            if let Some(span) = self.slow {
                tokio::time::sleep(span).await;
            }
            Ok(ImageId(self.opened.fetch_add(1, Ordering::SeqCst) as u64))
        })
    }

    fn forget(&self, _: ImageId) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Checker {
    served: AtomicUsize,
}

#[tonic::async_trait]
impl Health for Checker {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    /// The service named `last` is the last that is answered on its connection.
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let connection = request.extensions().get::<Arc<Connection>>().unwrap();
        connection.answered().await.map_err(|refusal| match refusal {
            Refusal::Limit(text) => Status::resource_exhausted(text),
            other => Status::permission_denied(other.to_string()),
        })?;
        if request.get_ref().service == "last" {
            connection.close_soon();
        }
        self.served.fetch_add(1, Ordering::SeqCst);
        let status = i32::try_from(connection.id).unwrap();
        Ok(Response::new(HealthCheckResponse { status }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

/// A directory with a socket in it, and what was refused there.
struct Place {
    dir: tempfile::TempDir,
    images: Arc<Images>,
    limits: Arc<AcceptLimits>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    checker: Arc<Checker>,
}

impl Place {
    fn new(limits: Limits) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            images: Arc::default(),
            limits: AcceptLimits::new(&limits),
            refusals: Arc::default(),
            checker: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn sessions(
        &self,
        listener: StdListener,
    ) -> impl tokio_stream::Stream<Item = std::io::Result<Session>> + Send + use<> {
        let (images, limits) = (Arc::clone(&self.images), Arc::clone(&self.limits));
        let refusals = Arc::clone(&self.refusals);
        let refused: Refused = Arc::new(move |_, why| refusals.lock().unwrap().push(why.clone()));
        accept_loop(listener, None, Channel::Agent, images, limits, refused)
    }

    /// Serves with tonic; the socket's file lives as long as the answer.
    fn serve(&self) -> SocketFile {
        let BoundSocket { listener, file } = bind(&self.path(), 0o600, None).unwrap();
        let sessions = self.sessions(listener);
        let service = HealthServer::from_arc(Arc::clone(&self.checker));
        tokio::spawn(Server::builder().serve_with_incoming(service, sessions));
        file
    }

    fn refusals(&self) -> Vec<Refusal> {
        self.refusals.lock().unwrap().clone()
    }

    /// A connected client and its session, which nobody serves.
    async fn session(&self) -> (StdStream, Session, SocketFile) {
        let BoundSocket { listener, file } = bind(&self.path(), 0o600, None).unwrap();
        let client = StdStream::connect(self.path()).unwrap();
        let mut sessions = Box::pin(self.sessions(listener));
        let session = timeout(PATIENCE, sessions.next()).await.unwrap().unwrap().unwrap();
        (client, session, file)
    }
}

async fn connect(path: &Path) -> HealthClient<Client> {
    let path = path.to_owned();
    let endpoint = Endpoint::from_static("http://localhost");
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    HealthClient::new(endpoint.connect_with_connector_lazy(connector))
}

async fn check(client: &mut HealthClient<Client>, service: &str) -> Result<i32, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = timeout(PATIENCE, client.check(request)).await.unwrap()?;
    Ok(answer.into_inner().status)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
