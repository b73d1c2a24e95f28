//! Plants a secret, delivers it thousands of times over connections that stay
//! open, and then, as root, counts its copies in every readable mapping of
//! every process of the agent. Zero is wanted.
//!
//! Each issuer and each delivery mode adds a row to [`ROWS`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]
#![allow(clippy::print_stdout, reason = "the table is the point")]

mod scan;
mod tokens;

use jsi_proto::v1::RequestCredentialRequest;
use jsi_tests::{Client, Host, Setup, needs_root, random_secret};
use scan::{Copies, Needle};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

/// One way to deliver.
struct Row {
    name: &'static str,
    secret_bytes: usize,
    connections: usize,
    /// Requests at once on one connection.
    streams: usize,
    /// On each connection, in all.
    deliveries: usize,
}

const ROWS: [Row; 11] = [
    row("store, 8 B, one by one", 8, 16, 1, 250),
    row("store, 8 B, 32 streams", 8, 8, 32, 512),
    row("store, 32 B, one by one", 32, 16, 1, 250),
    row("store, 32 B, 32 streams", 32, 8, 32, 512),
    row("store, 1 KiB, one by one", 1024, 16, 1, 125),
    row("store, 1 KiB, 32 streams", 1024, 8, 32, 256),
    // Two messages, the second of one byte.
    row("store, a piece and 1 B, 32 streams", jsi_proto::MAX_PIECE + 1, 8, 32, 128),
    row("store, 64 KiB, one by one", 64 * 1024, 8, 1, 16),
    row("store, 64 KiB, 32 streams", 64 * 1024, 4, 32, 64),
    row("store, 1 MiB, one by one", 1024 * 1024, 4, 1, 4),
    row("store, 1 MiB, 32 streams", 1024 * 1024, 1, 32, 32),
];

const fn row(
    name: &'static str,
    secret_bytes: usize,
    connections: usize,
    streams: usize,
    deliveries: usize,
) -> Row {
    Row { name, secret_bytes, connections, streams, deliveries }
}

fn secret_of(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend(random_secret().bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Lets root use a credential.
fn root_may(credential: &str) -> String {
    format!(
        "permit(principal in User::\"0\", action in Action::\"use\", \
         resource == Credential::\"{credential}\");"
    )
}

fn host() -> Host {
    Setup::host().start(|_| vec![("root", root_may("planted"))])
}

/// Copies in all three processes.
fn copies_in(host: &Host, needle: &Needle) -> Copies {
    let pids = host.pids();
    [pids.broker, pids.attestor, pids.launcher]
        .into_iter()
        .map(|pid| needle.copies_in(pid).expect("root reads the agent's memory"))
        .sum()
}

#[test]
fn no_copy_of_a_secret_is_left_after_release() {
    needs_root!();
    let mut left = Vec::new();
    println!("{:<34} {:>10} {:>14} {:>14}", "way", "deliveries", "while leased", "after release");
    for row in &ROWS {
        let host = host();
        let secret = secret_of(row.secret_bytes);
        let needle = Needle::new(&secret);
        let runtime = Runtime::new().unwrap();
        let (clients, leases) = runtime.block_on(deliver(&host, row, &secret));
        let leased = copies_in(&host, &needle);
        runtime.block_on(async {
            for (client, lease) in leases {
                clients[client].release(&lease).await.expect("released");
            }
        });
        // Whatever is wiped in the background has had its time.
        std::thread::sleep(Duration::from_millis(200));
        let after = copies_in(&host, &needle);
        let deliveries = row.connections * row.deliveries;
        println!("{:<34} {deliveries:>10} {leased:>14} {after:>14}", row.name);
        for (when, found) in [("while leased", leased), ("after release", after)] {
            if found != Copies::default() {
                left.push(format!("{} {when}: {found}", row.name));
            }
        }
        drop(clients);
    }
    assert!(left.is_empty(), "whole/partial copies left: {left:?}");
}

/// Deliveries over connections that are given back open, with the leases held.
async fn deliver(host: &Host, row: &Row, secret: &[u8]) -> (Vec<Client>, Vec<(usize, String)>) {
    let operator = Client::connect(&host.world.admin_socket()).await.expect("admin socket");
    operator.put("planted", secret).await.expect("stored");
    let mut clients = Vec::new();
    for _ in 0..row.connections {
        clients.push(Client::connect(&host.world.socket()).await.expect("connects"));
    }
    let mut leases = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let mut done = 0;
        while done < row.deliveries {
            let batch = row.streams.min(row.deliveries - done);
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..batch {
                let client = client.clone();
                let request = RequestCredentialRequest {
                    credential: "planted".into(),
                    // Most are deliveries of a lease held already, some of new ones.
                    new_lease: (done + i) % 8 == 0,
                    ..RequestCredentialRequest::default()
                };
                tasks.spawn(async move { client.request(request).await });
            }
            while let Some(delivered) = tasks.join_next().await {
                let delivered = delivered.unwrap().expect("delivered");
                assert!(delivered.secret == secret, "what was delivered is what was stored");
                leases.push((number, delivered.lease.id));
            }
            done += batch;
        }
    }
    leases.sort();
    leases.dedup_by(|a, b| a.1 == b.1);
    (clients, leases)
}

#[test]
fn no_copy_of_a_secret_is_left_after_it_was_put() {
    needs_root!();
    for length in [8, 32, 1024, jsi_proto::MAX_PIECE + 1, 64 * 1024, 1024 * 1024] {
        let host = host();
        let secret = secret_of(length);
        let needle = Needle::new(&secret);
        Runtime::new().unwrap().block_on(async {
            for _ in 0..20 {
                let operator = Client::connect(&host.world.admin_socket()).await.expect("connects");
                operator.put("planted", &secret).await.expect("stored");
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        let left = copies_in(&host, &needle);
        println!("PutSecret, {length} B, 20 times: {left}");
        assert_eq!(left, Copies::default(), "{length} B: whole/partial copies left");
    }
}

/// A deliberate leak: the same bytes as a note, which the agent keeps as it
/// came. What finds that in its heap would find a secret there too.
#[test]
fn a_secret_that_the_agent_keeps_in_the_open_is_found() {
    needs_root!();
    for length in [8, 32, 128] {
        let host = host();
        let secret = secret_of(length);
        let needle = Needle::new(&secret);
        let (while_held, after) = Runtime::new().unwrap().block_on(async {
            let operator = Client::connect(&host.world.admin_socket()).await.expect("connects");
            operator.put("planted", &secret).await.expect("stored");
            let client = Client::connect(&host.world.socket()).await.expect("connects");
            let request = RequestCredentialRequest {
                credential: "planted".into(),
                note: String::from_utf8(secret.clone()).unwrap(),
                ..RequestCredentialRequest::default()
            };
            let delivered = client.request(request).await.expect("delivered");
            let while_held = copies_in(&host, &needle);
            client.release(&delivered.lease.id).await.expect("released");
            (while_held, copies_in(&host, &needle))
        });
        println!("a leak on purpose, {length} B: {while_held}, after release {after}");
        assert!(while_held.whole >= 1, "{length} B: the leak was not seen: {while_held}");
    }
}

/// The scan finds what is there: otherwise its zeros mean nothing.
#[test]
fn a_copy_that_is_there_is_found() {
    let secret = secret_of(64);
    let needle = Needle::new(&secret);
    let mut sleeper = Command::new("/bin/sleep")
        .arg("30")
        .env("PLANTED", String::from_utf8(secret.clone()).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let found = jsi_tests::until("the secret shows", Duration::from_secs(5), || {
        needle.copies_in(sleeper.id()).ok().filter(|copies| copies.whole > 0)
    });
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(found.whole >= 1, "{found}");

    // A fragment alone is found too, and what was never there is not.
    let fragment = String::from_utf8(secret[16..48].to_vec()).unwrap();
    let mut sleeper = Command::new("/bin/sleep").arg("30").env("PART", fragment).spawn().unwrap();
    let part = jsi_tests::until("the fragment shows", Duration::from_secs(5), || {
        needle.copies_in(sleeper.id()).ok().filter(|copies| copies.partial > 0)
    });
    let absent = Needle::new(&secret_of(64)).copies_in(sleeper.id()).unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(part.whole, 0, "{part}");
    assert_eq!(absent, Copies::default());

    // And in this process, which holds it on purpose.
    let own = needle.copies_in(std::process::id()).unwrap();
    assert!(own.whole >= 1 && secret.len() == 64, "{own}");
}
