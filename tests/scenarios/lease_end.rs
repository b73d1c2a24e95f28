//! What ends a lease besides its time.

use crate::{host_with_a_secret, live};
use jsi_tests::{PEERS, needs_root, permit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_killed_command_ends_its_lease_at_once() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let script = "jsi exec -e X=db/orders -- /bin/sleep 60";
    let mut shell = host.shell(PEERS[0], script).talk();
    let granted = host.await_record("granted", "db/orders");
    let lease = granted["lease"]["id"].as_str().unwrap().to_owned();
    let bound = granted["lease"]["binding"]["pid"].as_i64().unwrap();
    let command = Pid::from_raw(i32::try_from(bound).unwrap());
    jsi_tests::until("jsi has become the command", Duration::from_secs(5), || {
        let exe = std::fs::read_link(format!("/proc/{bound}/exe")).ok()?;
        exe.ends_with("sleep").then_some(())
    });
    assert_eq!(live(&host), std::slice::from_ref(&lease));
    kill(command, Signal::SIGKILL).unwrap();
    jsi_tests::within(
        "a killed command's lease is ended and logged",
        Duration::from_millis(100),
        || jsi_tests::find(&host.records(), "ended", &lease).is_some(),
    );
    assert_eq!(host.await_record("ended", &lease)["reason"], "process_exited");
    assert!(live(&host).is_empty());
    shell.end();
}

#[test]
fn a_command_that_ends_by_itself_ends_its_lease() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let print = "jsi exec -e X=db/orders -- /usr/bin/printenv X";
    host.shell(PEERS[0], print).run().succeeded().printed(&secret);
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "process_exited");
}

#[test]
fn a_shells_lease_lives_on_its_next_line_and_ends_with_it() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let bash = host.world.install(Path::new("/bin/bash"), "bash");
    host.world.write_policy("bash", &permit(PEERS[0].uid, "db/orders", &bash));
    host.admin(["reload"]).run().succeeded();
    let mut shell = host.program(PEERS[0], &bash).args(["--norc", "-s"]).talk();
    shell.say("PGPASSWORD=$(jsi get db/orders | tr -d '\\n')");
    shell.say("echo \"<$PGPASSWORD>\"");
    shell.expect(&format!("<{secret}>"));
    let held = live(&host);
    assert_eq!(held.len(), 1, "the next line still holds it");
    let granted = host.await_record("granted", &held[0]);
    assert_eq!(granted["lease"]["binding"]["pid"], shell.pid(), "bound to the shell that asked");

    // Asked again, it is the same lease; --new asks for another.
    shell.say("jsi get db/orders >/dev/null; echo again");
    shell.expect("again");
    assert_eq!(live(&host), held);
    shell.say("jsi get --new db/orders >/dev/null; echo new");
    shell.expect("new");
    assert_eq!(live(&host).len(), 2);

    shell.say("exit");
    shell.end();
    for lease in &held {
        assert_eq!(host.await_record("ended", lease)["reason"], "process_exited");
    }
}

#[test]
fn a_lease_ends_when_its_time_is_over() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut holder =
        host.shell(PEERS[0], "jsi get --ttl 1s db/orders >/dev/null; echo HELD; read x").talk();
    holder.expect("HELD");
    let id = live(&host).remove(0);
    assert_eq!(host.await_record("ended", &id)["reason"], "expired");
}
