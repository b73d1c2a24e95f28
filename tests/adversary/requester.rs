//! Attacks on "on whose behalf": by ancestry, and by another's lease ID.

use crate::Stage;
use jsi_tests::{PEERS, Setup, needs_root, permit, random_secret};
use std::time::Duration;

#[test]
fn pid_1_of_a_namespace_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.host.world.home(PEERS[0]).join("orphan.said");
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let mut attack = unshare
        .args(["-Urpf", "--kill-child", &stage.hostile(), "orphan", &jsi, "db/orders"])
        .args([stage.trusted(), out.display().to_string()])
        .talk();
    let said = words_of_the_orphan(&out);
    attack.kill();
    stage.refuses(&said);

    // The trusted program that really starts jsi is served.
    let twin = stage.host.program(PEERS[0], stage.trusted());
    twin.args(["run", &jsi, "get", "db/orders"]).run().succeeded().printed(&stage.secret);
}

#[test]
fn an_orphan_of_a_double_fork_has_no_trusted_requester() {
    needs_root!();
    let stage = Stage::new();
    let out = stage.host.world.home(PEERS[0]).join("orphan.said");
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let mut attack = stage
        .host
        .program(PEERS[0], stage.hostile())
        .args(["orphan", &jsi, "db/orders", &stage.trusted(), &out.display().to_string()])
        .talk();
    let said = words_of_the_orphan(&out);
    attack.kill();
    stage.refuses(&said);
}

fn words_of_the_orphan(path: &std::path::Path) -> String {
    jsi_tests::until("the orphan is answered", Duration::from_secs(15), || {
        std::fs::read_to_string(path).ok().filter(|said| !said.is_empty())
    })
}

#[test]
fn another_uid_can_do_nothing_with_a_lease_id() {
    needs_root!();
    let host = Setup::host().start(|world| {
        let shell = world.bin("shell");
        let policy = PEERS.map(|peer| permit(peer.uid, "db/orders", &shell)).concat();
        vec![("orders", policy)]
    });
    let secret = random_secret();
    host.put("db/orders", &secret);
    let mut owner = host
        .shell(PEERS[0], "jsi get db/orders >/dev/null; jsi leases -o json; echo; echo END; read x")
        .talk();
    let mut listing = String::new();
    loop {
        let line = owner.line();
        if line == "END" {
            break;
        }
        listing.push_str(&line);
    }
    let id = jsi_tests::lease_ids(&listing, "db/orders").remove(0);
    let other = |script: &str| host.shell(PEERS[1], &script.replace("ID", &id)).run();
    other("jsi renew ID").coded(4).without(&secret);
    other("jsi release ID").coded(4).without(&secret);
    let seen = other("jsi leases -o json").succeeded();
    assert!(!seen.stdout.contains(&id), "{seen}");

    // Another program of the same uid has no right to it either.
    let stranger = host.world.install(std::path::Path::new("/bin/dash"), "stranger");
    let script = format!("jsi release {id}; exit $?");
    host.program(PEERS[0], stranger).args(["-c", &script]).run().coded(4);

    // The twin: whoever holds it releases it.
    let live = host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
    assert!(live.stdout.contains(&id), "{live}");
    owner.say("");
    owner.end();
    let own = "jsi get db/orders >/dev/null; \
               jsi release $(jsi leases -o json | grep -o 'db/orders/[a-z2-7]*' | head -1)";
    host.shell(PEERS[0], own).run().succeeded();
}
