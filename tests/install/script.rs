//! contrib/install: what it makes, what it refuses, and what is left when it is
//! interrupted, repeated and undone.

use crate::machine::{Machine, difference};
use crate::{PERMIT, end_agent};
use jsi_tests::needs_root;

const INSTALL: &str = "/mnt/contrib/install --bin-dir /mnt/bin";

#[test]
fn what_is_installed_serves_and_an_uninstall_leaves_nothing() {
    needs_root!();
    let machine = Machine::plain();
    let before = machine.listing();
    let said = machine.does(INSTALL);
    assert!(said.contains("made      user jsi") && said.contains("jsi secret put"), "{said}");
    let modes = machine.does(
        "stat -c '%a %U:%G %n' /usr/local/bin/jsi /usr/local/bin/jsi-agent /etc/jsi \
         /etc/jsi/policy.d /etc/jsi/agent.toml /etc/jsi/client.toml /var/lib/jsi \
         /var/lib/jsi/store /var/lib/jsi/log /var/lib/jsi/identity",
    );
    let wanted = "2755 root:_jsi /usr/local/bin/jsi\n755 root:root /usr/local/bin/jsi-agent\n\
                  755 root:root /etc/jsi\n755 root:root /etc/jsi/policy.d\n\
                  644 root:root /etc/jsi/agent.toml\n644 root:root /etc/jsi/client.toml\n\
                  700 jsi:jsi /var/lib/jsi\n700 jsi:jsi /var/lib/jsi/store\n\
                  700 jsi:jsi /var/lib/jsi/log\n600 jsi:jsi /var/lib/jsi/identity\n";
    assert_eq!(modes, wanted);

    // A request with the set-group-ID client, of another uid than the agent's.
    machine.does("jsi-agent >/dev/null; jsi status >/dev/null");
    machine.does(PERMIT);
    let got = machine.as_user("jsi get db/orders");
    assert!(got.code == 0 && got.text.trim() == "s3cret-of-the-tests", "{got}");
    let who = machine.as_user("jsi whoami");
    assert!(who.text.contains("mode 2755") && who.text.contains("genuine client"), "{who}");

    // Again: nothing is made and nothing is changed.
    let installed = machine.listing();
    let again = machine.does(INSTALL);
    for verb in ["made ", "placed ", "noted "] {
        assert!(!again.contains(verb), "{again}");
    }
    assert_eq!(difference(&installed, &machine.listing()), [""; 0]);

    machine.run(&format!("{INSTALL} --uninstall")).refused(1, "the agent runs; end it first");
    machine.does(&end_agent("TERM"));
    let said = machine.does(&format!("{INSTALL} --uninstall"));
    assert!(said.contains("What remains: /etc/jsi"), "{said}");
    machine.does("test ! -e /usr/local/bin/jsi && test -s /var/lib/jsi/identity && id jsi");
    // What was kept is taken up again, and purged only when that is said.
    machine.does(INSTALL);
    machine.does("jsi-agent >/dev/null; jsi status | grep -q 'policies *1 '");
    machine.does(&end_agent("TERM"));
    machine.does(&format!("{INSTALL} --uninstall && {INSTALL} --uninstall --purge"));
    assert_eq!(difference(&before, &machine.listing()), [""; 0]);
    machine.does("! getent passwd jsi && ! getent group jsi && ! getent group _jsi");
}

#[test]
fn a_dry_run_changes_nothing() {
    needs_root!();
    let machine = Machine::plain();
    let before = machine.listing();
    let said = machine.does(&format!("{INSTALL} --dry-run"));
    assert!(said.contains("would     useradd --system"), "{said}");
    machine.does(INSTALL);
    let installed = machine.listing();
    machine
        .does(&format!("{INSTALL} --upgrade --dry-run && {INSTALL} --uninstall --purge --dry-run"));
    assert_eq!(difference(&installed, &machine.listing()), [""; 0]);
    machine.does(&format!("{INSTALL} --uninstall --purge"));
    assert_eq!(difference(&before, &machine.listing()), [""; 0]);
}

/// Killed while it puts the nth file in its place.
#[test]
fn one_that_is_killed_half_way_can_be_repeated_and_can_be_undone() {
    needs_root!();
    let machine = Machine::plain();
    machine.does(
        "mkdir /opt/deadly; cat >/opt/deadly/mv <<'END'\n#!/bin/bash\n\
         read -r left </opt/deadly/left; echo $((left - 1)) >/opt/deadly/left\n\
         if [ $left = 0 ]; then kill -KILL $PPID; exit 1; fi\nexec /bin/mv \"$@\"\nEND\n\
         chmod +x /opt/deadly/mv; echo -1 >/opt/deadly/left",
    );
    let before = machine.listing();
    for (nth, repeated) in [(0, false), (1, true), (2, false), (6, true)] {
        let killed = format!("echo {nth} >/opt/deadly/left; PATH=/opt/deadly:$PATH {INSTALL}");
        let said = machine.run(&killed);
        assert_eq!(said.code, 137, "it was killed: {said}");
        machine.does("echo -1 >/opt/deadly/left");
        if repeated {
            machine.does(INSTALL);
            machine.does("test $(stat -c %a:%G /usr/local/bin/jsi) = 2755:_jsi; jsi --version");
        }
        machine.does(&format!("{INSTALL} --uninstall --purge"));
        assert_eq!(difference(&before, &machine.listing()), [""; 0], "killed at {nth}");
    }
}

#[test]
fn a_read_only_or_full_file_system_is_said_and_leaves_no_half_file() {
    needs_root!();
    let machine = Machine::plain();
    let before = machine.listing();
    machine.does(
        "mount --bind /usr/local/bin /usr/local/bin && mount -o remount,bind,ro /usr/local/bin",
    );
    machine.run(INSTALL).refused(1, "cannot write /usr/local/bin: Read-only file system");
    machine.does("umount /usr/local/bin");
    assert_eq!(difference(&before, &machine.listing()), [""; 0], "nothing was begun");

    machine.does("mount -t tmpfs -o size=1m,mode=755 full /usr/local");
    let said = machine.run(INSTALL);
    said.refused(1, "No space left on device").refused(1, "run the same again");
    machine.does("test -z \"$(find /usr/local -type f)\"");
    machine.does("mount -o remount,size=1g /usr/local");
    machine.does(INSTALL);
    machine.does("jsi --version && jsi-agent --version");
    machine.does(&format!("{INSTALL} --uninstall --purge; umount /usr/local"));
    assert_eq!(difference(&before, &machine.listing()), [""; 0]);
}

#[test]
fn it_refuses_what_would_make_the_client_worth_nothing() {
    needs_root!();
    let machine = Machine::plain();
    let before = machine.listing();
    machine.does("groupadd --system _jsi; usermod -aG _jsi nobody");
    machine.run(INSTALL).refused(1, "has members (nobody)");
    machine.does("gpasswd -d nobody _jsi; mkdir -p /opt/open/bin; chmod 0777 /opt/open");
    machine
        .run(&format!("{INSTALL} --prefix /opt/open"))
        .refused(1, "/opt/open may be written by others than root");
    machine.does("echo another >/usr/local/bin/jsi");
    machine.run(INSTALL).refused(1, "this script did not put there");
    machine.run(&format!("{INSTALL} --nonsense")).refused(2, "unknown argument");
    machine.run(&format!("{INSTALL} --purge")).refused(2, "belongs to --uninstall");
    machine.run("/mnt/contrib/install --bin-dir /mnt").refused(1, "run contrib/build first");
    let as_user = machine.as_user("/mnt/contrib/install --bin-dir /mnt/bin");
    as_user.refused(1, "only root can install");
    machine.does("rm -r /usr/local/bin/jsi /opt/open");
    // A group that was there before is not its own to remove.
    let said = machine.does(&format!("{INSTALL} && {INSTALL} --uninstall --purge"));
    assert!(said.contains("kept      group _jsi"), "{said}");
    machine.does("groupdel _jsi");
    assert_eq!(difference(&before, &machine.listing()), [""; 0]);
}

#[test]
fn what_was_changed_after_installing_is_kept() {
    needs_root!();
    let machine = Machine::plain();
    machine.does(&format!("{INSTALL} --prefix /opt/jsi"));
    let unit = "/etc/systemd/system/jsi-agent.service";
    machine.does(&format!("grep -q 'ExecStart=/opt/jsi/bin/jsi-agent' {unit}"));
    machine.does("grep -q '^genuine_clients = .*/opt/jsi/bin/jsi' /etc/jsi/agent.toml");
    machine.does(&format!("echo '# mine' >>{unit}; echo '# mine' >>/etc/jsi/client.toml"));
    let said = machine.does(&format!("{INSTALL} --prefix /opt/jsi"));
    assert!(said.contains(&format!("kept      {unit}, which was changed here")), "{said}");
    machine.does(&format!("tail -n 1 {unit} | grep -q mine && test -f {unit}.new"));
    let said = machine.does(&format!("{INSTALL} --uninstall"));
    assert!(said.contains(&format!("kept      {unit}, which was changed here")), "{said}");
    machine.does("test ! -e /opt/jsi/bin/jsi && grep -q mine /etc/jsi/client.toml");
}

#[test]
fn an_upgrade_keeps_the_lease_of_a_shell_that_lives() {
    needs_root!();
    let machine = Machine::plain();
    machine.does(INSTALL);
    machine.does("jsi-agent >/dev/null");
    machine.does(PERMIT);
    // A shell that holds a lease, and runs what is written to it.
    machine.does(
        "mkfifo /run/say; (exec setpriv --reuid 20001 --regid 20001 --clear-groups /bin/sh -c '
           while read -r line; do eval \"$line\"; echo \"END $?\"; done' </run/say >/run/said 2>&1) &
         exec 8>/run/say; sleep 0.2; (exec sleep 600 >&8 2>/dev/null) & disown -a
         echo 'jsi get db/orders >/dev/null' >&8
         for i in $(seq 100); do grep -q 'END 0' /run/said && break; sleep 0.1; done
         cat /run/said; grep -q 'END 0' /run/said",
    );
    let lease =
        machine.does("jsi leases --all -o json | grep -o 'db/orders/[a-z2-7]*' | head -n 1");
    let lease = lease.trim();
    machine.does(
        "mkdir /opt/next; cp /mnt/bin/jsi /mnt/bin/jsi-agent /opt/next/
         for name in jsi jsi-agent; do echo next >>/opt/next/$name; done",
    );
    let old = machine.does("sha256sum </usr/local/bin/jsi");
    let said = machine.does(&format!("{INSTALL} --bin-dir /opt/next --upgrade"));
    assert!(said.contains("kill -USR2 "), "it says how to exchange the agent: {said}");
    let kept = machine.does("cat /etc/jsi/clients.sha256");
    assert!(kept.contains(&old[..64]), "{kept}");
    // The old agent still serves, the new client included.
    let got = machine.as_user("jsi get db/orders");
    assert_eq!(got.text.trim(), "s3cret-of-the-tests", "{got}");
    machine.does(&end_agent("USR2"));
    machine.does("jsi-agent >/dev/null");
    let live = machine.does("jsi leases --all -o json");
    assert!(live.contains(lease), "{lease} lives on: {live}");
    machine.does(&format!(
        "echo 'jsi renew {lease} --ttl 10m >/dev/null' >/run/say
         for i in $(seq 100); do test $(grep -c END /run/said) = 2 && break; sleep 0.1; done
         tail -n 1 /run/said | grep -q 'END 0'"
    ));
    machine.does("jsi audit verify");
}
