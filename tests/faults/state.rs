//! Store and log that were cut short, edited, or have no room.

use crate::{host_with_a_secret, me, user};
use jsi_tests::{Host, PEERS, Setup, needs_root, permit, random_secret};
use nix::mount::{MsFlags, mount};
use std::fs;
use std::path::PathBuf;

fn stored(host: &Host) -> PathBuf {
    let mut files = Vec::new();
    let mut dirs = vec![host.world.store_dir()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "age") {
                files.push(path);
            }
        }
    }
    assert_eq!(files.len(), 1, "one stored secret: {files:?}");
    files.remove(0)
}

fn damaged(change: impl FnOnce(&mut Vec<u8>)) {
    let (host, secret) = host_with_a_secret(user());
    let file = stored(&host);
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let out = host.shell(me(), "jsi get db/orders").run().without(&secret);
    assert_ne!(out.code, 0, "{out}");
    out.says("db/orders");
    // Others are served, and the secret can be put again.
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    host.admin(put).input(&secret).run().succeeded();
    host.shell(me(), "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn a_stored_secret_that_was_cut_short_is_not_delivered() {
    damaged(|bytes| bytes.truncate(bytes.len() - 7));
}

#[test]
fn a_stored_secret_that_was_tampered_with_is_not_delivered() {
    damaged(|bytes| {
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
    });
}

#[test]
fn an_emptied_store_file_is_not_delivered() {
    damaged(Vec::clear);
}

#[test]
fn a_log_cut_in_the_middle_of_a_record_is_mended_and_says_so() {
    let (mut host, secret) = host_with_a_secret(user());
    host.shell(me(), "jsi get db/orders").run().succeeded();
    host.stop();
    let segment = host.world.segments().pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.truncate(bytes.len() - 30);
    fs::write(&segment, bytes).unwrap();
    host.start();
    host.await_record("recovered", "");
    host.shell(me(), "jsi get db/orders").run().succeeded().printed(&secret);
    host.admin(["audit", "verify"]).run().succeeded();
}

#[test]
fn nothing_is_issued_on_an_edited_log() {
    let (mut host, secret) = host_with_a_secret(user());
    host.shell(me(), "jsi get db/orders").run().succeeded();
    host.stop();
    let segment = host.world.segments().remove(0);
    let text = fs::read_to_string(&segment).unwrap();
    let edited = text.replacen("\"kind\":\"granted\"", "\"kind\":\"grantee\"", 1);
    assert_ne!(edited, text);
    fs::write(&segment, edited).unwrap();
    // Either it refuses to start, or it starts and issues nothing; it says why.
    let (code, said) = host.start_refused();
    assert_ne!(code, 0);
    assert!(said.contains("record"), "{said}");
    assert!(!said.contains(&secret));
}

#[test]
fn nothing_is_issued_when_the_disk_is_full() {
    needs_root!();
    let host = Setup::host().install();
    let log = host.world.log_dir();
    let options = Some("size=256k,mode=700");
    mount(Some("jsi-tests"), &log, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    host.world.give(&log);
    let mut host = host;
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &shell));
    host.start();
    let secret = random_secret();
    host.put("db/orders", &secret);
    let get = |host: &Host| host.shell(PEERS[0], "jsi get db/orders").run();
    get(&host).succeeded().printed(&secret);
    let mut filled = fs::File::create(log.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filled, &[0; 1024]).is_ok() {}
    drop(filled);
    // Room inside the last page may be left: in the end nothing is delivered.
    let refused =
        jsi_tests::until("the full disk shows", std::time::Duration::from_secs(20), || {
            Some(get(&host)).filter(|out| out.code != 0)
        });
    let refused = refused.without(&secret).says("log");
    assert_eq!(refused.code, 1, "{refused}");
    get(&host).coded(1).without(&secret);
    let status = host.admin(["status"]).run();
    assert!(format!("{status}").contains("log"), "{status}");

    // With room again and a new start it goes on, and nothing is lost.
    host.stop();
    fs::remove_file(log.join("filler")).unwrap();
    host.start();
    get(&host).succeeded().printed(&secret);
    host.admin(["audit", "verify"]).run().succeeded();
}
