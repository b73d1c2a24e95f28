//! What a permit's annotations mean to those who use it.

use crate::{host_with_a_secret, live};
use jsi_tests::{Client, Host, PEERS, Peer, needs_root, permit_with};
use serde_json::Value;

/// A host agent whose first peer may have `db/orders` within these limits.
fn host_with_limits(annotations: &str) -> (Host, String) {
    let (host, secret) = host_with_a_secret();
    let shell = host.world.bin("shell");
    let permit = permit_with(annotations, PEERS[0].uid, "db/orders", &shell);
    host.world.write_policy("orders", &permit);
    host.admin(["reload"]).run().succeeded();
    (host, secret)
}

/// The leases as an operator sees them.
fn listed(host: &Host) -> Vec<Value> {
    let listing = host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
    listing.json().as_array().unwrap().clone()
}

#[test]
fn uses_are_counted_and_a_spent_lease_is_not_delivered_again() {
    needs_root!();
    let (host, secret) = host_with_limits("@max_uses(\"2\")");
    let get = "jsi get db/orders; ";
    let script = format!("{get} {get} echo TWICE; read x; {get} echo THRICE; read x");
    let mut holder = host.shell(PEERS[0], &script).talk();
    for _ in 0..2 {
        holder.expect(&secret);
    }
    holder.expect("TWICE");
    let both = listed(&host);
    assert_eq!(both.len(), 1, "two deliveries of one lease: {both:?}");
    assert_eq!(both[0]["uses_left"], 0, "{both:?}");
    let spent = both[0]["id"].as_str().unwrap().to_owned();

    // The third is not the spent one's: it is another lease, decided anew.
    holder.say("");
    holder.expect(&secret);
    holder.expect("THRICE");
    let after = listed(&host);
    assert_eq!(after.len(), 2, "{after:?}");
    let other = after.iter().find(|lease| lease["id"] != spent).unwrap();
    assert_eq!(other["uses_left"], 1, "{after:?}");
    let records = host.records();
    let counted = |r: &&Value| r["kind"] == "delivered" && r["lease"] == spent;
    assert_eq!(records.iter().filter(counted).count(), 1, "the second delivery is in the log");

    holder.kill();
    host.await_record("ended", &spent);
}

#[test]
fn what_is_not_held_is_given_once_and_never_read_again() {
    needs_root!();
    let (host, secret) = host_with_limits("@hold(\"none\")");
    let script = "jsi get db/orders; jsi get db/orders; echo TWICE; read x";
    let mut holder = host.shell(PEERS[0], script).talk();
    holder.expect(&secret);
    holder.expect(&secret);
    holder.expect("TWICE");
    assert_eq!(live(&host).len(), 2, "each is a lease of its own");
    let again = host.records().iter().any(|record| record["kind"] == "delivered");
    assert!(!again, "none was delivered again");
}

#[test]
fn a_bind_is_taken_by_default_and_no_other_is_granted() {
    needs_root!();
    let (host, secret) = host_with_limits("@bind(\"none\")");
    // Without a word: bound to nothing, as policy says.
    let get = |flags: &str| host.shell(PEERS[0], &format!("jsi get {flags} db/orders")).run();
    get("").succeeded().printed(&secret);
    let held = listed(&host);
    assert_eq!(held.len(), 1, "its shell is gone and it lives: {held:?}");
    assert_eq!(held[0]["binding"], "nothing", "{held:?}");
    get("--bind none").succeeded().printed(&secret);
    assert_eq!(listed(&host).len(), 1, "the same program and uid: the same lease");
    get("--bind requester").coded(3).without(&secret);
    get("--bind session").coded(3).without(&secret);
    get("--bind parent").coded(3).without(&secret);
    host.shell(PEERS[0], "jsi exec -e X=db/orders -- /usr/bin/printenv X")
        .run()
        .coded(125)
        .without(&secret);
    // Another uid is not the same requester, whatever it is bound to.
    let theirs = host.shell(PEERS[1], "jsi leases -o json").run().succeeded();
    assert_eq!(theirs.json(), serde_json::json!([]), "{theirs}");

    let (host, secret) = host_with_limits("@bind(\"process\")");
    let refused = host.shell(PEERS[0], "jsi get --bind none db/orders").run();
    refused.coded(3).without(&secret);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn a_lease_bound_to_a_connection_ends_with_it() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    // The test is its own requester: a program that speaks gRPC by itself.
    let policy = "@bind(\"connection\")\npermit(principal in User::\"0\", \
                  action in Action::\"use\", resource == Credential::\"db/orders\");";
    host.world.write_policy("root", policy);
    host.admin(["reload"]).run().succeeded();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (id, other) = runtime.block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        let first = client.take("db/orders").await.unwrap();
        assert_eq!(first.lease.binding, "connection");
        let again = client.take("db/orders").await.unwrap();
        assert_eq!(again.lease.id, first.lease.id, "the same connection: the same lease");
        let second = Client::connect(&host.world.socket()).await.unwrap();
        let other = second.take("db/orders").await.unwrap();
        assert_ne!(other.lease.id, first.lease.id, "another connection: another lease");
        drop(client);
        let ended = tokio::task::block_in_place(|| host.await_record("ended", &first.lease.id));
        assert_eq!(ended["reason"], "connection_closed");
        assert_eq!(live(&host), std::slice::from_ref(&other.lease.id));
        (first.lease.id, other.lease.id)
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    assert_eq!(host.await_record("ended", &other)["reason"], "connection_closed");
    assert_ne!(id, other);
}

#[test]
fn what_needs_approval_is_refused_where_nobody_can_be_asked() {
    needs_root!();
    let (host, secret) = host_with_limits("@approval(\"operator\")");
    let refused = host.shell(PEERS[0], "jsi get db/orders").run().coded(3).without(&secret);
    assert!(refused.stderr.contains("approv"), "{refused}");
    assert!(live(&host).is_empty());
    let denied = host.await_record("denied", "db/orders");
    assert_eq!(denied["code"], "APPROVAL_UNAVAILABLE", "{denied}");
}

#[test]
fn a_time_longer_than_policy_allows_is_cut_and_said() {
    needs_root!();
    let (host, _) = host_with_limits("@max_ttl(\"2m\")");
    let script = "jsi get --ttl 1h -o json db/orders | cat; jsi leases -o json >&2; read x";
    let out = host.shell(PEERS[0], script).run();
    let leases: Value = serde_json::from_str(&out.stderr).unwrap_or_else(|_| panic!("{out}"));
    let left = leases[0]["remaining_s"].as_i64().unwrap();
    assert!((1..=120).contains(&left), "{out}");
    assert!(leases[0]["warnings"].to_string().contains("cut"), "{out}");
}

#[test]
fn the_strictest_of_all_permits_that_count_holds() {
    needs_root!();
    let (host, secret) = host_with_limits("@max_uses(\"5\")");
    let Peer { uid } = PEERS[0];
    let shell = host.world.bin("shell");
    let strict = permit_with("@max_uses(\"1\") @max_ttl(\"1m\")", uid, "db/orders", &shell);
    host.world.write_policy("strict", &strict);
    host.admin(["reload"]).run().succeeded();
    let mut holder = host.shell(PEERS[0], "jsi get db/orders; read x").talk();
    holder.expect(&secret);
    let held = listed(&host);
    assert_eq!(held[0]["uses_left"], 0, "{held:?}");
    assert!(held[0]["remaining_s"].as_i64().unwrap() <= 60, "{held:?}");
}
