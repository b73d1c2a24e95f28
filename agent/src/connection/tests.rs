//! The whole stage: real sockets, real processes, a real tonic server.

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
        accept_loop(listener, Channel::Agent, images, limits, refused)
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

#[tokio::test]
async fn a_client_that_answers_the_challenge_is_served_and_its_image_is_forgotten_after() {
    let place = Place::new(Limits::default());
    let _file = place.serve();
    let mut client = connect(&place.path()).await;
    for _ in 0..50 {
        check(&mut client, "").await.unwrap();
    }
    assert_eq!(place.limits.open(), 1);
    drop(client);
    until("forgotten", || place.images.forgotten.load(Ordering::SeqCst) == 1).await;
    until("given back", || place.limits.open() == 0).await;
    assert_eq!(place.images.opened.load(Ordering::SeqCst), 1);
    assert_eq!(place.refusals(), []);
}

#[tokio::test]
async fn a_client_that_never_answers_the_challenge_is_not_served() {
    let timeout = Duration::from_millis(200);
    let place = Place::new(Limits { challenge_timeout: timeout, ..Limits::default() });
    let _file = place.serve();
    let path = place.path();
    let read = tokio::task::spawn_blocking(move || {
        let mut client = StdStream::connect(path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(PREFACE).unwrap();
        client.write_all(SETTINGS).unwrap();
        // POST /grpc.health.v1.Health/Check, by the static table and literals.
        let path = b"/grpc.health.v1.Health/Check";
        let mut block = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend(path);
        block.extend([0x01, 1, b'x']);
        client.write_all(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 4, 0, 0, 0, 1]).unwrap();
        client.write_all(&block).unwrap();
        client.write_all(&[0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap();
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all);
        all
    });
    let all = read.await.unwrap();
    let settings = 9 + usize::from(all[2]);
    assert_eq!(all[3], 4, "SETTINGS come first");
    assert_eq!(all[settings..settings + 9], [0, 0, 8, 6, 0, 0, 0, 0, 0], "then the PING");
    assert_eq!(place.checker.served.load(Ordering::SeqCst), 0);
    assert!(matches!(&place.refusals()[..], [Refusal::Unverified(_)]));
    until("given back", || place.limits.open() == 0).await;
}

#[tokio::test]
async fn an_idle_peer_does_not_stay_past_the_challenge() {
    let timeout = Duration::from_millis(100);
    let place = Place::new(Limits { challenge_timeout: timeout, ..Limits::default() });
    let _file = place.serve();
    let _idle = StdStream::connect(place.path()).unwrap();
    until("cut off", || place.refusals().len() == 1 && place.limits.open() == 0).await;
}

#[tokio::test]
async fn bytes_sent_before_accept_name_their_sender() {
    let place = Place::new(Limits::default());
    let BoundSocket { listener, file: _file } = bind(&place.path(), 0o600, None).unwrap();
    let mut client = StdStream::connect(place.path()).unwrap();
    client.write_all(PREFACE).unwrap();
    let mut sessions = Box::pin(place.sessions(listener));
    let mut session = sessions.next().await.unwrap().unwrap();
    let mut got = [0; 24];
    session.read_exact(&mut got).await.unwrap();
    assert_eq!(got, PREFACE);
}

#[tokio::test]
async fn a_child_that_inherited_the_connection_is_not_the_peer() {
    let place = Place::new(Limits::default());
    let (client, mut session, _file) = place.session().await;
    let status = Command::new("sh")
        .args(["-c", r"printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' >&0"])
        .stdin(Stdio::from(OwnedFd::from(client.try_clone().unwrap())))
        .status();
    assert!(status.unwrap().success());
    assert_refused(&place, &mut session, "is not the peer").await;
}

#[tokio::test]
async fn a_process_that_was_passed_the_connection_is_not_the_peer() {
    let place = Place::new(Limits::default());
    let (mut client, mut session, _file) = place.session().await;
    let (ours, theirs) = StdStream::pair().unwrap();
    let script = "import socket\n\
        link = socket.socket(fileno=0)\n\
        _, fds, _, _ = socket.recv_fds(link, 1, 1)\n\
        socket.socket(fileno=fds[0]).send(b' * HTTP/2.0')\n\
        link.close()\n";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    client.write_all(b"PRI").unwrap();
    let mut got = [0; 3];
    session.read_exact(&mut got).await.unwrap(); // the peer's own bytes are fine
    let fds = [client.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_refused(&place, &mut session, "is not the peer").await;
}

/// The session gives nothing, takes nothing, and says why.
async fn assert_refused(place: &Place, session: &mut Session, why: &str) {
    let mut buf = [0; 100];
    let read = timeout(PATIENCE, session.read(&mut buf)).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(session.read(&mut buf).await.is_err(), "once refused, always refused");
    assert!(session.write(b"a secret").await.is_err());
    let refusal = session.connection().answered().await.unwrap_err();
    assert!(refusal.to_string().contains(why), "{refusal}");
    assert_eq!(place.refusals(), [refusal]);
}

#[tokio::test]
async fn the_last_bytes_of_a_peer_that_has_ended_are_refused() {
    let place = Place::new(Limits::default());
    let BoundSocket { listener, file: _file } = bind(&place.path(), 0o600, None).unwrap();
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        sys.stdin.read(1)\n\
        s.send(b'PRI')\n";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .arg(place.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sessions = Box::pin(place.sessions(listener));
    let mut session = timeout(PATIENCE, sessions.next()).await.unwrap().unwrap().unwrap();
    assert!(!session.connection().has_ended());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(session.connection().has_ended());
    assert_refused(&place, &mut session, "ended").await;
}

#[tokio::test]
async fn a_message_with_descriptors_is_refused_and_leaks_none() {
    let place = Place::new(Limits::default());
    // An ordinary listener, so that the kernel lets descriptors through.
    let listener = StdListener::bind(place.path()).unwrap();
    crate::process::peer::name_senders(&listener).unwrap();
    let client = StdStream::connect(place.path()).unwrap();
    let mut sessions = Box::pin(place.sessions(listener));
    let mut session = sessions.next().await.unwrap().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let fds = [writer.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let bytes = [IoSlice::new(b"PRI")];
    sendmsg::<()>(client.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
    drop(writer);
    assert_refused(&place, &mut session, "descriptors").await;
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "no writer is left");
}

#[tokio::test]
async fn senders_are_named_on_an_inherited_listener_too() {
    let place = Place::new(Limits::default());
    let plain = StdListener::bind(place.path()).unwrap();
    let mut early = StdStream::connect(place.path()).unwrap();
    early.write_all(b"PRI").unwrap();
    let listener = inherited(OwnedFd::from(plain)).unwrap();
    assert!(crate::process::peer::names_senders(&listener).unwrap());
    let mut late = StdStream::connect(place.path()).unwrap();
    late.write_all(b"PRI").unwrap();
    let mut sessions = Box::pin(place.sessions(listener));
    let mut buf = [0; 24];
    for _ in 0..2 {
        let mut session = sessions.next().await.unwrap().unwrap();
        assert!(crate::process::peer::names_senders(session.socket()).unwrap());
        match session.read(&mut buf).await {
            Ok(n) => assert_eq!(&buf[..n], b"PRI"),
            // What came before it was set may lack its sender: only refused.
            Err(_) => assert!(place.refusals()[0].to_string().contains("credentials")),
        }
    }
    assert!(place.refusals().len() < 2, "the late one is served");
    println!("early bytes: {:?}", place.refusals());
}

#[test]
fn what_does_not_listen_is_not_inherited() {
    let (stream, _other) = StdStream::pair().unwrap();
    assert!(matches!(inherited(stream.into()), Err(BindError::NotAListener { .. })));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(inherited(file.into()), Err(BindError::NotAListener { .. })));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(inherited(tcp.into()), Err(BindError::NotAListener { .. })));
}

#[tokio::test]
async fn one_connection_over_the_limit_is_told_so_and_nothing_else_suffers() {
    let place = Place::new(Limits { connections: 1, ..Limits::default() });
    let _file = place.serve();
    let mut first = connect(&place.path()).await;
    check(&mut first, "").await.unwrap();
    let mut second = connect(&place.path()).await;
    let status = check(&mut second, "").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    check(&mut first, "").await.unwrap();
    drop(first);
    until("given back", || place.limits.open() == 0).await;
    check(&mut second, "").await.unwrap();
    assert!(matches!(&place.refusals()[..], [Refusal::Limit(_)]));
}

#[tokio::test]
async fn a_slow_attestor_holds_up_nobody_else_and_is_given_up_on() {
    let timeout = Duration::from_millis(300);
    let mut place = Place::new(Limits { challenge_timeout: timeout, ..Limits::default() });
    place.images = Arc::new(Images { slow: Some(PATIENCE), ..Images::default() });
    let _file = place.serve();
    let start = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(connect(&place.path()).await);
    }
    let calls = clients.iter_mut().map(|client| check(client, ""));
    for status in futures_util::future::join_all(calls).await {
        assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    }
    println!("three refused after {:?}", start.elapsed());
    assert!(place.refusals().iter().all(|refusal| *refusal == Refusal::NoAttestor));
}

#[tokio::test]
async fn a_connection_that_closes_soon_still_gets_its_answer() {
    let place = Place::new(Limits::default());
    let _file = place.serve();
    let mut client = connect(&place.path()).await;
    let first = check(&mut client, "").await.unwrap();
    assert_eq!(check(&mut client, "last").await.unwrap(), first);
    until("closed", || place.limits.open() == 0).await;
    let again = check(&mut client, "").await.unwrap();
    assert_ne!(again, first, "a new connection");
    assert_eq!(place.refusals(), []);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let timeout = Duration::from_millis(200);
    let place = Place::new(Limits { write_timeout: timeout, ..Limits::default() });
    let (client, mut session, _file) = place.session().await;
    session.served();
    let frame = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16384]].concat();
    let start = Instant::now();
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = session.write_all(&frame).await {
                break error;
            }
        }
    });
    assert_eq!(error.await.unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    println!("cut off after {:?}", start.elapsed());
    assert!(matches!(&place.refusals()[..], [Refusal::Limit(_)]));
    drop(client);
}

#[tokio::test]
async fn a_response_that_rests_unread_in_the_kernel_is_cut_off_too() {
    let timeout = Duration::from_millis(200);
    let place = Place::new(Limits { write_timeout: timeout, ..Limits::default() });
    let (mut client, mut session, _file) = place.session().await;
    session.served();
    client.write_all(PREFACE).unwrap();
    client.write_all(&[0, 0, 0, 1, 5, 0, 0, 0, 1]).unwrap(); // a stream is open
    session.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x']).await.unwrap();
    let mut buf = [0; 4096];
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(error) = session.read(&mut buf).await {
                break error;
            }
        }
    });
    assert_eq!(error.await.unwrap().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(matches!(&place.refusals()[..], [Refusal::Limit(_)]));
}

/// Run by hand, in the release profile: `-- --ignored --nocapture round_trips`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn round_trips_plain_and_wrapped() {
    let place = Place::new(Limits::default());
    let _file = place.serve();
    let plain = place.dir.path().join("plain");
    let listener = tokio::net::UnixListener::bind(&plain).unwrap();
    let service = HealthServer::new(Plain);
    let incoming = tokio_stream::StreamExt::map(
        tokio_stream::wrappers::ReceiverStream::new({
            let (send, receive) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = send.send(stream).await;
                }
            });
            receive
        }),
        Ok::<_, std::io::Error>,
    );
    tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
    let (mut a, mut b) = (connect(&plain).await, connect(&place.path()).await);
    let mut spent = [Duration::ZERO; 2];
    for turn in 0..10_000 {
        for (client, spent) in [&mut a, &mut b].into_iter().zip(&mut spent) {
            let start = Instant::now();
            check(client, "").await.unwrap();
            if turn > 500 {
                *spent += start.elapsed();
            }
        }
    }
    println!("plain {:?}, wrapped {:?}", spent[0] / 9_499, spent[1] / 9_499);
}

struct Plain;

#[tonic::async_trait]
impl Health for Plain {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}
