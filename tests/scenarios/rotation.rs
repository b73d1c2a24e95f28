//! A stored secret that is replaced while leases on it live.

use crate::host_with_a_secret;
use jsi_proto::v1::lease_event::Kind;
use jsi_proto::v1::{LeaseEvent, WatchLeasesRequest};
use jsi_tests::{Client, Host, needs_root};
use std::time::Duration;
use tonic::Streaming;

/// An agent whose credential the test, which is root's, may use too.
pub(crate) fn host() -> Host {
    let (host, _) = host_with_a_secret();
    let policy = "permit(principal in User::\"0\", action in Action::\"use\", \
                  resource == Credential::\"db/orders\");";
    host.world.write_policy("root", policy);
    host.admin(["reload"]).run().succeeded();
    host
}

async fn next(watch: &mut Streaming<LeaseEvent>) -> LeaseEvent {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.message()).await;
    event.expect("an event comes").unwrap().expect("the watch goes on")
}

async fn watch(client: &Client) -> Streaming<LeaseEvent> {
    client.agent().watch_leases(WatchLeasesRequest::default()).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_told_that_its_secret_was_replaced_and_gets_the_new_one() {
    needs_root!();
    let host = host();
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let first = client.take("db/orders").await.unwrap();
    let mut events = watch(&client).await;
    assert_eq!(next(&mut events).await.kind(), Kind::Present);
    assert_eq!(next(&mut events).await.kind(), Kind::Synced);

    let put = ["secret", "put", "db/orders", "--replace", "--owner", "o", "--purpose", "p"];
    tokio::task::block_in_place(|| host.admin(put).input("quite another").run().succeeded());
    let told = next(&mut events).await;
    assert_eq!(told.kind(), Kind::Rotated);
    let lease = told.lease.unwrap();
    assert_eq!((lease.id.as_str(), lease.outdated), (first.lease.id.as_str(), true));
    // Whoever comes to watch later sees it too.
    let mut later = watch(&client).await;
    assert!(next(&mut later).await.lease.unwrap().outdated);

    let again = client.take("db/orders").await.unwrap();
    assert_eq!(again.lease.id, first.lease.id);
    assert!(again.lease.reused && !again.lease.outdated);
    assert_eq!(again.secret, b"quite another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_outlives_the_agent_is_still_known_to_be_outdated() {
    needs_root!();
    let mut host = host();
    let client = Client::connect(&host.world.socket()).await.unwrap();
    client.take("db/orders").await.unwrap();
    tokio::task::block_in_place(|| {
        let put = ["secret", "put", "db/orders", "--replace", "--owner", "o", "--purpose", "p"];
        host.admin(put).input("quite another").run().succeeded();
        host.crash();
        host.start();
    });
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let mut events = watch(&client).await;
    assert!(next(&mut events).await.lease.unwrap().outdated);
    assert_eq!(client.take("db/orders").await.unwrap().secret, b"quite another");
    let mut events = watch(&client).await;
    assert!(!next(&mut events).await.lease.unwrap().outdated);
}
