//! Putting another version in the place of one that runs.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, World, needs_root};
use nix::sys::signal::Signal;
use ring::digest::{SHA256, digest};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Another version of an installed program: it does the same, and its bytes
/// are others. Renamed into place, as package managers do.
fn replace(world: &World, name: &str) {
    let next = world.install(&world.bin(name), &format!("{name}.new"));
    std::fs::OpenOptions::new().append(true).open(&next).unwrap().write_all(b"next").unwrap();
    std::fs::rename(next, world.bin(name)).unwrap();
}

fn sha256(world: &World, name: &str) -> String {
    let bytes = std::fs::read(world.bin(name)).unwrap();
    digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Root's list of clients that were replaced and still count.
fn keep_former(host: &Host, text: &str) {
    let file = "/etc/jsi/clients.sha256"; // of this test's mount namespace
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    host.admin(["reload"]).run().succeeded();
}

const HOLD: &str = "exec 3<$(command -v jsi); echo READY; read x; while read -r line; do \
                    eval \"$line\"; echo \"END $?\"; done";

/// What a line that was said to a shell of [`HOLD`] prints, and its code.
fn run(shell: &mut jsi_tests::Talk, line: &str) -> (String, i32) {
    shell.say(line);
    let mut said = String::new();
    loop {
        let next = shell.line();
        if let Some(code) = next.strip_prefix("END ") {
            return (said, code.parse().unwrap());
        }
        said += &next;
    }
}

#[test]
fn a_client_that_was_replaced_goes_on_and_so_does_the_new_one() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("READY");
    holder.say("");
    // The old file, which has no name any more: as in a `jsi` that runs on.
    let old = "/proc/$$/fd/3 get db/orders 2>/dev/null";
    let former = sha256(&host.world, "jsi");
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret.clone(), 0));
    replace(&host.world, "jsi");
    assert_ne!(sha256(&host.world, "jsi"), former);
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret.clone(), 0), "the new client");
    assert_eq!(run(&mut holder, old), (secret.clone(), 0), "the old one, while it is remembered");

    // A reload asks root's list, and nothing else.
    host.admin(["reload"]).run().succeeded();
    assert_eq!(run(&mut holder, old), (String::new(), 3), "nobody vouches for it");
    keep_former(&host, &format!("# replaced\n{former}  jsi\n"));
    assert_eq!(run(&mut holder, old), (secret.clone(), 0), "root vouches for it");
    host.signal(Signal::SIGUSR2);
    assert!(host.wait().success());
    host.start();
    assert_eq!(run(&mut holder, old), (secret.clone(), 0), "after a restart too");
    keep_former(&host, "");
    assert_eq!(run(&mut holder, old), (String::new(), 3), "no longer");
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret, 0));
}

#[test]
fn a_list_of_former_clients_that_others_could_write_is_not_believed() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("READY");
    holder.say("");
    let former = sha256(&host.world, "jsi");
    replace(&host.world, "jsi");
    let file = std::path::Path::new("/etc/jsi/clients.sha256");
    keep_former(&host, &format!("{former}\n"));
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    host.admin(["reload"]).run().succeeded();
    let old = "/proc/$$/fd/3 get db/orders 2>/dev/null";
    assert_eq!(run(&mut holder, old), (String::new(), 3));
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    host.admin(["reload"]).run().succeeded();
    assert_eq!(run(&mut holder, old).1, 0, "the twin");
}

#[test]
fn an_agent_that_is_replaced_takes_over_the_leases_of_the_living() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("READY");
    holder.say("");
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret.clone(), 0));
    let lease = live(&host).remove(0);

    // The files are replaced first, and nobody notices.
    for name in ["jsi", "jsi-agent"] {
        replace(&host.world, name);
    }
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret.clone(), 0));

    // Somebody who asks all the time: it may find nobody there, and nothing else.
    let text = "until test -e done; do got=$(jsi get db/orders 2>said); code=$?; echo $code; \
                test $code = 0 || test $code = 5 || cat said; done; rm done";
    let mut asking = host.shell(PEERS[0], text).talk();
    asking.expect("0");
    host.signal(Signal::SIGUSR2);
    assert!(host.wait().success());
    assert_eq!(jsi_tests::find(&host.records(), "ended", &lease), None, "nothing was revoked");
    assert_eq!(host.records().last().unwrap()["kind"], "stopped");
    host.start();
    let done = host.world.home(PEERS[0]).join("done");
    asking.expect_eventually("0");
    std::fs::write(done, "").unwrap();
    let rest = asking.rest();
    assert!(rest.lines().all(|line| line == "0" || line == "5"), "{rest}");

    // The same lease, for its holder; it is renewed, and ends with it.
    assert_eq!(run(&mut holder, &format!("jsi renew {lease} --ttl 10m >&2")).1, 0);
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret, 0));
    assert!(live(&host).contains(&lease));
    holder.kill();
    assert_eq!(host.await_record("ended", &lease)["reason"], "process_exited");
    host.admin(["audit", "verify"]).run().succeeded();
}

/// Back to an older version: it does not guess at what it does not know.
#[test]
fn an_agent_refuses_a_log_of_a_newer_version_and_loses_nothing() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("READY");
    holder.say("");
    assert_eq!(run(&mut holder, "jsi get db/orders").1, 0);
    let lease = live(&host).remove(0);
    host.signal(Signal::SIGUSR2);
    assert!(host.wait().success());

    // One record as a later version might write it, its hash as it must be.
    let segment = host.world.segments().pop().unwrap();
    let before = std::fs::read(&segment).unwrap();
    let seq = host.records().len();
    let rec = format!("{{\"v\":4,\"seq\":{seq},\"root\":\"\",\"kind\":\"unheard_of\"}}");
    let leaf = digest(&SHA256, &[&[0], rec.as_bytes()].concat());
    let leaf: String = leaf.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let line = format!("{{\"leaf\":\"{leaf}\",\"rec\":{rec}}}\n");
    let newer = [&before[..], line.as_bytes()].concat();
    std::fs::write(&segment, &newer).unwrap();
    let (code, said) = host.start_refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("schema version 4 is newer than this agent's (3)"), "{said}");
    assert!(said.contains("use a newer agent"), "{said}");
    assert_eq!(std::fs::read(&segment).unwrap(), newer, "nothing of it was touched");
    assert_eq!(run(&mut holder, "jsi get db/orders 2>/dev/null"), (String::new(), 5));

    // The version that wrote it would go on; so does this one without that line.
    std::fs::write(&segment, before).unwrap();
    host.start();
    assert_eq!(live(&host), [lease]);
    assert_eq!(run(&mut holder, "jsi get db/orders"), (secret, 0));
}
