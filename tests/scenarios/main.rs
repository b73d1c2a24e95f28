//! What people do with jsi, with real parts: a real agent, real programs with
//! uids of their own, a real database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod audit;
mod backup;
mod broker_fd;
mod completions;
mod delivery;
mod doctor;
mod enforced;
mod files;
mod first_hour;
mod identities;
mod import;
mod import_tools;
mod lease_end;
mod leases;
mod limits;
mod locking;
mod manners;
mod manual;
mod no_trace;
mod peers;
mod policies;
mod postgres;
mod project;
mod rekey;
mod render;
mod rotation;
mod setgid;
mod signals;
mod spine;
mod startup;
mod supervisor;
mod terminal;
mod two_uids;
mod unlocking;
mod upgrade;
mod watch;
mod workload_identity;

use jsi_tests::{Host, PEERS, Setup, permit, random_secret};

/// A host agent whose first peer may have `db/orders` from the installed shell.
fn host_with_a_secret() -> (Host, String) {
    let host = Setup::host()
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret)
}

/// IDs of the live leases, as an operator sees them.
fn live(host: &Host) -> Vec<String> {
    let listing = host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
    jsi_tests::lease_ids(&listing.stdout, "db/orders")
}
