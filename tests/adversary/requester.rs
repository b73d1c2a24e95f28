//! Attacks on "on whose behalf": by ancestry, and by another's lease ID.

use jsi_tests::{PEERS, Peer, Setup, Stage, needs_root, permit, random_secret};

/// A container, made by root: its processes run as the first peer, and the
/// first of them is pid 1 there.
fn in_a_container(stage: &Stage, command: &[&str]) -> jsi_tests::Program {
    let uid = PEERS[0].uid.to_string();
    let unshare = stage.host.program(Peer { uid: 0 }, "/usr/bin/unshare");
    let become_peer = ["/usr/bin/setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
    unshare.args(["-pf", "--kill-child"]).args(become_peer).args(command)
}

#[test]
fn pid_1_of_a_container_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    let stage = Stage::new();
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let orphan = [&*stage.hostile(), "orphan", &jsi, "db/orders", &stage.trusted()];
    let mut attack = in_a_container(&stage, &orphan).talk();
    attack.expect("ORPHAN OF 1");
    stage.refuses(&attack.rest());
    stage.host.await_record("denied", "pid 1 of its namespace");

    // The same program there, not as pid 1, that really starts jsi, is served.
    let shell = format!("{} run {jsi} get db/orders; exit $?", stage.trusted());
    let twin = in_a_container(&stage, &["/bin/sh", "-c", &shell]);
    twin.run().succeeded().printed(&stage.secret);
}

/// The same in a user namespace of its own, where it can make the client
/// believe whom it likes.
#[test]
fn pid_1_of_a_user_namespace_is_not_the_requester_of_an_orphan_it_adopted() {
    needs_root!();
    let stage = Stage::new();
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let script = format!(
        "echo owner = 65534 >own.toml && mount --bind own.toml /etc/jsi/client.toml && \
         exec {} orphan {jsi} db/orders {}",
        stage.hostile(),
        stage.trusted()
    );
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let inside = ["-Urmpf", "--kill-child", "/bin/sh", "-c", &script];
    let mut attack = unshare.args(inside).talk();
    attack.expect("ORPHAN OF 1");
    let said = attack.rest();
    assert!(!said.contains("not trusted"), "the client itself would not ask:\n{said}");
    stage.refuses(&said);

    // The trusted program that really starts jsi is served.
    let twin = stage.host.program(PEERS[0], stage.trusted());
    twin.args(["run", &jsi, "get", "db/orders"]).run().succeeded().printed(&stage.secret);
}

#[test]
fn an_orphan_of_a_double_fork_has_no_trusted_requester() {
    needs_root!();
    let stage = Stage::new();
    let jsi = stage.host.world.bin("jsi").display().to_string();
    let mut attack = stage
        .host
        .program(PEERS[0], stage.hostile())
        .args(["orphan", &jsi, "db/orders", &stage.trusted()])
        .talk();
    let orphan = attack.line();
    assert!(orphan.starts_with("ORPHAN OF "), "{orphan}");
    assert_ne!(orphan, format!("ORPHAN OF {}", attack.pid()), "it was not adopted");
    let said = attack.rest();
    stage.refuses(&said);
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
