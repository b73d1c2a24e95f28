//! WatchLeases, as a program that speaks gRPC sees it.

use crate::host_with_a_secret;
use jsi_proto::v1::lease_event::Kind;
use jsi_proto::v1::{LeaseEvent, RenewLeaseRequest, WatchLeasesRequest};
use jsi_tests::{Client, Host, PEERS, needs_root};
use std::time::Duration;
use tonic::{Code, Streaming};

/// An agent whose credential the test, which is root's, may use too.
fn host() -> Host {
    let (host, _) = host_with_a_secret();
    let policy = "permit(principal in User::\"0\", action in Action::\"use\", \
                  resource == Credential::\"db/orders\");";
    host.world.write_policy("root", policy);
    host.admin(["reload"]).run().succeeded();
    host
}

async fn next(watch: &mut Streaming<LeaseEvent>) -> (Kind, String) {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.message()).await;
    let event = event.expect("an event comes").unwrap().expect("the watch goes on");
    (event.kind(), event.lease.map(|lease| lease.id).unwrap_or_default())
}

async fn watch(client: &Client, request: WatchLeasesRequest) -> Streaming<LeaseEvent> {
    client.agent().watch_leases(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_sees_its_own_leases_come_change_and_go() {
    needs_root!();
    let host = host();
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let first = client.take("db/orders").await.unwrap().lease.id;
    let mut events = watch(&client, WatchLeasesRequest::default()).await;
    assert_eq!(next(&mut events).await, (Kind::Present, first.clone()));
    assert_eq!(next(&mut events).await, (Kind::Synced, String::new()));

    // Another's leases are not seen, whatever becomes of them.
    let mut other = host.shell(PEERS[0], "jsi get db/orders >/dev/null; echo HELD; read x").talk();
    other.expect("HELD");
    other.kill();

    let renew = RenewLeaseRequest { lease_id: first.clone(), increment: None };
    client.agent().renew_lease(renew).await.unwrap();
    assert_eq!(next(&mut events).await, (Kind::Renewed, first.clone()));
    client.release(&first).await.unwrap();
    let (kind, id) = next(&mut events).await;
    assert_eq!(id, first);
    if kind == Kind::Ending {
        assert_eq!(next(&mut events).await, (Kind::Ended, first.clone()));
    } else {
        assert_eq!(kind, Kind::Ended);
    }
    let second = client.take("db/orders").await.unwrap().lease.id;
    assert_ne!(second, first);
    assert_eq!(next(&mut events).await, (Kind::Granted, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybodys_leases_are_watched_on_the_admin_socket_only() {
    needs_root!();
    let host = host();
    let everybody = WatchLeasesRequest { all: true, ..WatchLeasesRequest::default() };
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let refused = client.agent().watch_leases(everybody.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert_eq!(jsi_tests::Failure::from(refused).reason, "ADMIN_ONLY");

    let operator = Client::connect(&host.world.admin_socket()).await.unwrap();
    let mut events = watch(&operator, everybody).await;
    assert_eq!(next(&mut events).await.0, Kind::Synced);
    let mut holder = host.shell(PEERS[0], "jsi get db/orders >/dev/null; echo HELD; read x").talk();
    let (kind, id) = next(&mut events).await;
    assert_eq!(kind, Kind::Granted);
    assert!(id.starts_with("db/orders/"), "{id}");
    holder.expect("HELD");
    holder.kill();
    loop {
        let (kind, ended) = next(&mut events).await;
        assert_eq!(ended, id);
        if kind == Kind::Ended {
            break;
        }
        assert_eq!(kind, Kind::Ending);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_agent() {
    needs_root!();
    let mut host = host();
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let mut events = watch(&client, WatchLeasesRequest::default()).await;
    assert_eq!(next(&mut events).await.0, Kind::Synced);
    let stopped = tokio::task::block_in_place(|| host.stop());
    assert!(stopped.success());
    let end = tokio::time::timeout(Duration::from_secs(10), events.message()).await;
    let end = end.expect("the watch is not left open");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}
