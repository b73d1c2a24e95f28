//! Signals, and starting again.

use crate::{host_with_a_secret, live};
use jsi_tests::{PEERS, needs_root, permit};
use nix::sys::signal::Signal;
use std::time::Duration;

const HOLD: &str = "jsi get db/orders >/dev/null; echo HELD; read x; jsi leases -o json; echo; \
                    echo END; read x; jsi get db/orders; read x";

#[test]
fn a_broken_policy_never_replaces_a_good_one() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let get = || host.shell(PEERS[0], "jsi get db/orders").run();
    host.world.write_policy("broken", "permit(principal, action,");
    let refused = host.admin(["reload"]).run();
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("broken"), "it names the file:\n{refused}");
    host.signal(Signal::SIGHUP);
    jsi_tests::until("SIGHUP is answered in the log", Duration::from_secs(5), || {
        host.world.said().contains("broken").then_some(())
    });
    get().succeeded().printed(&secret);

    std::fs::remove_file(host.world.policy_dir().join("broken.cedar")).unwrap();
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[1].uid, "db/orders", &shell));
    host.signal(Signal::SIGHUP);
    jsi_tests::until("the new policy is in force", Duration::from_secs(5), || {
        (get().code == 3).then_some(())
    });
    host.shell(PEERS[1], "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn sigusr1_ends_all_leases_and_the_agent_goes_on() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("HELD");
    let id = live(&host).remove(0);
    host.signal(Signal::SIGUSR1);
    host.await_record("ended", &id);
    assert!(live(&host).is_empty());
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn sigterm_revokes_then_exits() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("HELD");
    let id = live(&host).remove(0);
    assert!(host.stop().success());
    let records = host.records();
    let ended = jsi_tests::find(&records, "ended", &id).expect("the lease ended in the log");
    assert_eq!(ended["reason"], "agent_stopping");
    assert_eq!(records.last().unwrap()["kind"], "stopped");
    assert!(!host.world.socket().exists(), "the socket is gone");
    host.shell(PEERS[0], "jsi get db/orders").run().coded(5);
}

#[test]
fn after_a_crash_leases_of_the_living_survive_and_others_end() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let mut survivor = host.shell(PEERS[0], HOLD).talk();
    survivor.expect("HELD");
    let kept = live(&host).remove(0);
    let mut other = host.shell(PEERS[0], HOLD).talk();
    other.expect("HELD");
    let lost = live(&host).into_iter().find(|id| *id != kept).unwrap();
    host.crash();
    other.kill();
    host.start();
    assert_eq!(host.await_record("ended", &lost)["reason"], "process_exited");
    assert_eq!(live(&host), std::slice::from_ref(&kept));

    // Its holder still holds it, and it still ends with its holder.
    survivor.say("");
    let listed = survivor.until("END");
    assert!(listed.contains(&kept), "its holder lists it:\n{listed}");
    survivor.line();
    // Its secret was in the old agent's memory: it is opened again.
    survivor.say("");
    survivor.expect(&secret);
    assert_eq!(live(&host), std::slice::from_ref(&kept), "the same lease");
    survivor.kill();
    assert_eq!(host.await_record("ended", &kept)["reason"], "process_exited");
    host.admin(["audit", "verify"]).run().succeeded();
}
