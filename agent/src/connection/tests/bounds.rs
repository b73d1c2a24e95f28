//! Limits on connections, and on peers that do not read.

use super::*;

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
