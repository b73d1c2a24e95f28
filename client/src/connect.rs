//! One HTTP/2 connection over a Unix socket, without tonic's channel: that
//! would bring a worker task, balancing and reconnection that a short command
//! pays for and does not use.

use crate::bootstrap;
use crate::discovery::{Origin, Socket};
use crate::error::Error;
use crate::trust::Trust;
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::Service;

/// How long to wait for a place in a full backlog, in seconds.
const CONNECT_TIMEOUT_S: i64 = 5;

/// A connection that gRPC clients can be made of. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Body>,
    server_uid: u32,
}

/// Opens a connection to a server that is trusted.
///
/// Connecting itself blocks the thread: at once where there is a server, and
/// at most [`CONNECT_TIMEOUT_S`] where its backlog is full. Tries once more
/// where the server hangs up at once: see [`crate::Agent`]'s calls.
pub(crate) async fn open(at: &Socket, trust: &Trust) -> Result<Connection, Error> {
    match open_once(at, trust).await {
        Err(Error::Broken(_)) => open_once(at, trust).await,
        answer => answer,
    }
}

async fn open_once(at: &Socket, trust: &Trust) -> Result<Connection, Error> {
    let unreachable = |source| Error::Unreachable { socket: at.clone(), source };
    let stream = match at.origin {
        Origin::Descriptor(number) => {
            let stream = bootstrap::dial(at, number)?;
            stream.set_nonblocking(true).map_err(unreachable)?;
            stream
        }
        _ => {
            trust.check_directory(&at.path)?;
            dial(at).map_err(unreachable)?
        }
    };
    let server_uid = getsockopt(&stream, sockopt::PeerCredentials)
        .map_err(|errno| unreachable(errno.into()))?
        .uid();
    trust.check_server(&at.path, server_uid)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(unreachable)?;
    let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| Error::Broken(error.to_string()))?;
    tokio::spawn(connection);
    Ok(Connection { requests, server_uid })
}

fn dial(at: &Socket) -> io::Result<std::os::unix::net::UnixStream> {
    let address = UnixAddr::new(&at.path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(CONNECT_TIMEOUT_S, 0))?;
    crate::group::showing(|| Ok(connect(fd.as_raw_fd(), &address)?))?;
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// What stands in the requests' `:authority`; a Unix socket has no name.
pub(crate) fn origin() -> Uri {
    Uri::from_static("http://jsi")
}

impl Connection {
    /// The server's uid, by SO_PEERCRED.
    pub(crate) fn server_uid(&self) -> u32 {
        self.server_uid
    }
}

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
