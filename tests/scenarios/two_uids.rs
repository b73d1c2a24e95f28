//! Two uids on one host agent: each gets only what policy gives it.

use jsi_tests::{PEERS, Setup, needs_root, permit, random_secret};

#[test]
fn each_uid_gets_only_what_policy_gives_it() {
    needs_root!();
    let host = Setup::host().start(|world| {
        let shell = world.bin("shell");
        vec![
            ("first", permit(PEERS[0].uid, "team/first", &shell)),
            ("second", permit(PEERS[1].uid, "team/second", &shell)),
        ]
    });
    let names = ["team/first", "team/second"];
    let secrets = names.map(|_| random_secret());
    for (name, secret) in names.iter().zip(&secrets) {
        host.put(name, secret);
    }
    for (i, peer) in PEERS.into_iter().enumerate() {
        let (own, other) = (names[i], names[1 - i]);
        let get = |name: &str| host.shell(peer, &format!("jsi get {name}")).run();
        get(own).succeeded().printed(&secrets[i]);
        get(other).coded(3).without(&secrets[1 - i]);
        // Neither does it see the other's leases, nor administer anything.
        let leases = host.shell(peer, "jsi leases -o json").run().succeeded();
        assert!(!leases.stdout.contains(other), "{leases}");
        let admin = host.world.admin_socket();
        let status = host.shell(peer, "jsi status").env("JSI_ADMIN_SOCK", admin).run();
        assert_ne!(status.code, 0, "{status}");
    }
}
