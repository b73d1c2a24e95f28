//! Each chunk of bytes names who sent it.

use super::*;

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
