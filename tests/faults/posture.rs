//! Rows of `contrib/doc/failure.md` that no other file shows: what clients,
//! holders and operators see, and what goes on working.

use crate::{host_with_a_secret, me, uid, user};
use jsi_tests::{PEERS, Setup, lease_ids, needs_root, permit, permit_with, random_secret, until};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Duration;

/// Takes a lease, says so, and keeps it until its input ends.
const HOLD: &str = "jsi get db/orders >/dev/null; echo HELD; read x";

#[test]
fn without_an_agent_a_client_says_where_it_looked() {
    let (mut host, _) = host_with_a_secret(user());
    let mut holder = host
        .shell(me(), "jsi exec -e X=db/orders -- /bin/sh -c 'echo UP; read x; echo STILL'")
        .talk();
    holder.expect("UP");
    host.crash();
    let socket = host.world.socket().display().to_string();
    host.shell(me(), "jsi get db/orders").run().coded(5).says(&socket).says("JSI_AUTH_SOCK");
    host.shell(me(), "jsi exec -e X=db/orders -- /bin/true").run().coded(125).says(&socket);
    // A command that has what it needs does not notice.
    holder.say("");
    holder.expect("STILL");
}

#[test]
fn while_the_agent_hangs_nothing_is_granted_and_deadlines_that_passed_count() {
    needs_root!();
    let stage = jsi_tests::Stage::with(Setup::host().agent("default_ttl", "\"1s\""));
    let hold = stage.run(&stage.trusted(), "get", &[]);
    stage.served(&hold);
    let id = lease_ids(
        &stage.host.admin(["leases", "--all", "--ended"]).run().succeeded().stdout,
        "db/orders",
    )
    .remove(0);
    let granted = || stage.host.records().iter().filter(|r| r["kind"] == "granted").count();
    let before = granted();
    let mut waiting = stage.while_stopped(|| {
        let waiting = stage
            .host
            .shell(
                PEERS[0],
                &format!(
                    "{} get {} db/orders >/dev/null; echo SERVED",
                    stage.trusted(),
                    stage.socket()
                ),
            )
            .talk();
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(granted(), before, "nothing is granted meanwhile");
        waiting
    });
    waiting.expect("SERVED");
    stage.host.await_record("ended", &id);
}

#[test]
fn while_the_log_is_full_a_holder_keeps_its_lease_and_renews_nothing() {
    needs_root!();
    let mut host = Setup::host().install();
    let log = host.world.log_dir();
    let options = Some("size=256k,mode=700");
    mount(Some("jsi-tests"), &log, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    host.world.give(&log);
    host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &host.world.bin("shell")));
    host.start();
    host.put("db/orders", &random_secret());
    let script = "jsi get db/orders >/dev/null; echo HELD; read id; \
                  jsi renew $id; echo renew $?; jsi leases | grep -c $id; read x";
    let mut holder = host.shell(PEERS[0], script).talk();
    holder.expect("HELD");
    let id = crate::live(&host).remove(0);
    let mut filled = fs::File::create(log.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filled, &[0; 1024]).is_ok() {}
    drop(filled);
    until("the full disk shows", Duration::from_secs(20), || {
        let refused = host.shell(PEERS[0], "jsi get db/orders").run();
        (refused.code == 1).then_some(())
    });
    holder.say(&id);
    holder.expect("renew 1");
    holder.expect("1");
    let status = host.admin(["status", "-o", "json"]).run().succeeded();
    assert!(status.json()["log_fault"].as_str().is_some_and(|why| !why.is_empty()), "{status}");
}

#[test]
fn while_the_store_is_gone_leases_live_on_and_nothing_new_is_read() {
    let (host, secret) = host_with_a_secret(user());
    let script = "jsi get db/orders >/dev/null; echo HELD; read id; \
                  jsi renew $id >/dev/null; echo renew $?; read x";
    let mut holder = host.shell(me(), script).talk();
    holder.expect("HELD");
    let id = crate::live(&host).remove(0);
    let (store, away) = (host.world.store_dir(), host.world.path().join("away"));
    fs::rename(&store, &away).unwrap();
    let refused = host.shell(me(), "jsi get --new db/orders").run().without(&secret);
    assert!([1, 4].contains(&refused.code), "{refused}");
    let refused = refused.says("db/orders");
    drop(refused);
    holder.say(&id);
    holder.expect("renew 0");
    fs::rename(&away, &store).unwrap();
    host.shell(me(), "jsi get --new db/orders").run().succeeded().printed(&secret);
}

#[test]
fn a_refused_renewal_leaves_the_lease_until_its_time_is_over() {
    let host = user().start(|world| {
        vec![("orders", permit_with("@max_ttl(\"4s\")", uid(), "db/orders", &world.bin("shell")))]
    });
    host.put("db/orders", &random_secret());
    let script = "jsi get db/orders >/dev/null; echo HELD; read id; \
                  jsi renew $id 2>/dev/null; echo renew $?; jsi leases | grep -c $id; read x";
    let mut holder = host.shell(me(), script).talk();
    holder.expect("HELD");
    let id = crate::live(&host).remove(0);
    let other = permit(uid(), "db/orders", &host.world.bin("another"));
    host.world.write_policy("orders", &other);
    host.admin(["reload"]).run().succeeded();
    holder.say(&id);
    holder.expect("renew 3");
    holder.expect("1");
    assert_eq!(host.await_record("ended", &id)["reason"], "expired");
    assert!(holder.is_running(), "the holder itself lives on");
}

#[test]
fn deadlines_stand_on_the_clock_that_counts_suspended_time() {
    // What a suspend does cannot be had in a test: that the deadlines' timer is
    // one of CLOCK_BOOTTIME (7 in proc_pid_fdinfo(5)) and armed can.
    let (host, _) = host_with_a_secret(user());
    let mut holder = host.shell(me(), HOLD).talk();
    holder.expect("HELD");
    let fds = format!("/proc/{}/fdinfo", host.pids().broker);
    let timers: Vec<String> = fs::read_dir(fds)
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
        .filter(|info| info.contains("clockid:"))
        .collect();
    assert!(!timers.is_empty(), "there is a timer");
    for info in &timers {
        assert!(info.contains("clockid: 7"), "another clock:\n{info}");
    }
    let armed = |info: &&String| !info.contains("it_value: (0, 0)");
    assert!(timers.iter().any(|info| armed(&info)), "none is armed: {timers:?}");
}

#[test]
fn another_boot_ends_every_lease() {
    needs_root!();
    let mut host = Setup::host()
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    let mut holder = host.shell(PEERS[0], HOLD).talk();
    holder.expect("HELD");
    let id = crate::live(&host).remove(0);
    host.signal(Signal::SIGKILL);
    host.wait();
    // The boot's ID is another, in this test's own mount namespace.
    let boot = host.world.path().join("boot_id");
    fs::write(&boot, "00000000-1111-4222-8333-444444444444\n").unwrap();
    let place = "/proc/sys/kernel/random/boot_id";
    mount(Some(&boot), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    host.start();
    assert_eq!(host.await_record("ended", &id)["reason"], "rebooted");
    assert!(crate::live(&host).is_empty());
    assert!(holder.is_running(), "its process lives, and still it has no lease");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}
