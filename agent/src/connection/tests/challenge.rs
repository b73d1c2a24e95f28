//! The challenge at connect.

use super::*;

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
