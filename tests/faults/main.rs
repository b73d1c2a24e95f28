//! Bad input of every kind: each gives a clear error to the right party,
//! nothing is lost, no secret appears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod bulk;
mod files;
mod limits;
mod policies;
mod posture;
mod processes;
mod requests;
mod sockets;
mod state;

use jsi_tests::{Host, PEERS, Setup, permit, random_secret};

/// A user agent with one secret that its uid's shell may have.
fn host_with_a_secret(setup: Setup) -> (Host, String) {
    let host =
        setup.start(|world| vec![("orders", permit(uid(), "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret)
}

/// Whose agent it is.
fn uid() -> u32 {
    if jsi_tests::is_root() { PEERS[0].uid } else { nix::unistd::geteuid().as_raw() }
}

fn user() -> Setup {
    Setup::user(uid())
}

fn me() -> jsi_tests::Peer {
    jsi_tests::Peer { uid: uid() }
}

/// IDs of the live leases, as an operator sees them.
fn live(host: &Host) -> Vec<String> {
    let listing = host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
    jsi_tests::lease_ids(&listing.stdout, "db/orders")
}
