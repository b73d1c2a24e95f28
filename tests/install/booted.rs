//! Under a real systemd, as pid 1: sockets that it holds, units that it names,
//! and what a restart does to those who ask.

use crate::machine::Machine;
use crate::{PERMIT, package};
use jsi_tests::{needs_root, not_run};

const INSTALL: &str = "/mnt/contrib/install --bin-dir /mnt/bin --prefix /usr";

/// `/bin/sh` as uid nobody, which is what the tests' units run.
fn permit() -> String {
    PERMIT.replace("20001", "65534")
}

/// Lets the asking unit get more than it had, and gives how often it has asked
/// since it was started and what else than the secret it ever got.
fn asked(machine: &Machine, before: usize) -> (usize, Vec<String>) {
    let enough = before + 3;
    machine.does(&format!(
        "for i in $(seq 400); do test $(wc -l </run/asker/got) -ge {enough} && break; sleep 0.05; done"
    ));
    let got = machine.does("cat /run/asker/got");
    assert!(got.lines().count() >= enough, "it asks and is not answered: {got}");
    let wrong = got.lines().filter(|line| *line != "0 s3cret-of-the-tests").map(str::to_owned);
    (got.lines().count(), wrong.collect())
}

fn lease(machine: &Machine) -> String {
    let said = machine.does("jsi leases --all -o json | grep -o 'db/orders/[a-z2-7]*' | sort -u");
    said.trim().to_owned()
}

/// The three processes, as the kernel has them: uid, capabilities, dumps.
fn check_processes(machine: &Machine) {
    let said = machine.does(
        "for pid in $(jsi status | sed -n 's/^pids *broker \\([0-9]*\\), attestor \\([0-9]*\\), launcher \\([0-9]*\\)$/\\1 \\2 \\3/p'); do
           echo $(cat /proc/$pid/comm) $(sed -n 's/^CapEff:\\s*0*\\(.\\)/\\1/p; s/^CapBnd:\\s*0*\\(.\\)/\\1/p' /proc/$pid/status) \
                $(stat -c %U /proc/$pid) $(awk '/Max core/ { print $5, $6 }' /proc/$pid/limits)
         done",
    );
    let lines: Vec<&str> = said.lines().collect();
    // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE: bits 2, 19, 40.
    let three = format!("{:x}", 1_u64 << 2 | 1 << 19 | 1 << 40);
    assert_eq!(lines.len(), 3, "{said}");
    for line in &lines {
        assert!(line.contains(" jsi 0 0") || line.contains(" root 0 0"), "{said}");
    }
    assert!(lines[1].starts_with("jsi-attestor") && lines[1].contains(&three), "{said}");
    assert!(lines[0].contains(" 0 ") && lines[2].contains(" 0 "), "{said}");
}

#[test]
fn the_host_unit_serves_knows_units_and_is_exchanged_without_a_failed_request() {
    needs_root!();
    let Some(machine) = Machine::booted(None) else { return };
    let said = machine.does(INSTALL);
    assert!(said.contains("The first request starts it"), "{said}");
    machine.does("systemctl is-active jsi-agent.socket jsi-agent-admin.socket");
    assert_eq!(machine.run("systemctl is-active jsi-agent.service").text.trim(), "inactive");
    let modes = machine.does("stat -c '%a %U:%G %n' /run/jsi /run/jsi/*");
    let wanted = "755 root:root /run/jsi\n660 root:jsi /run/jsi/admin.sock\n666 root:root /run/jsi/agent.sock\n666 root:root /run/jsi/bootstrap.sock\n";
    assert_eq!(modes, wanted);

    // The first request starts it; the unit of the one who asks is known.
    machine.does("systemctl start teller");
    let who = machine.does("cat /run/teller/who");
    let who: serde_json::Value = serde_json::from_str(&who).unwrap();
    let requester = &who["attestation"]["requester"];
    assert_eq!(requester["unit"], "teller.service", "{who}");
    // systemd tells it to the unit itself in the environment, which is no evidence.
    let run = machine.does("cat /run/teller/run");
    assert_eq!(requester["invocation"], run.trim(), "{who}");
    assert_eq!(requester["namespaces"]["host_mnt"], true, "the agent's own is another: {who}");
    assert_eq!(who["attestation"]["caller"]["exe"]["mode"], "2755", "{who}");
    assert_eq!(who["attestation"]["advisory"], false, "{who}");
    machine.does("systemctl is-active jsi-agent.service");
    check_processes(&machine);

    // Somebody asks all the time, through a reload, a restart and an upgrade.
    machine.does(&permit());
    machine.does("systemctl start asker");
    let (before, wrong) = asked(&machine, 0);
    assert_eq!(wrong, [""; 0]);
    let held = lease(&machine);
    let main = "systemctl show -P MainPID jsi-agent.service";
    let first = machine.does(main);
    machine.does("systemctl reload jsi-agent.service");
    assert_eq!(machine.does(main), first, "a reload keeps the process");
    machine.does("systemctl restart jsi-agent.service");
    let second = machine.does(main);
    assert_ne!(second, first);
    machine.does(
        "mkdir /opt/next; cp /mnt/bin/jsi /mnt/bin/jsi-agent /opt/next/
         for name in jsi jsi-agent; do echo next >>/opt/next/$name; done",
    );
    let said = machine.does(&format!("{INSTALL} --bin-dir /opt/next --upgrade"));
    assert!(said.contains("restarted jsi-agent.service"), "{said}");
    assert_ne!(machine.does(main), second);
    let (after, wrong) = asked(&machine, before);
    assert_eq!(wrong, [""; 0], "no request of {after} failed");
    assert_eq!(lease(&machine), held, "the same lease all the time");

    // A stop revokes; an uninstall stops.
    let said = machine.does(&format!("{INSTALL} --uninstall; systemctl stop asker"));
    assert!(said.contains("What remains"), "{said}");
    machine.does(
        "! systemctl is-active jsi-agent.socket jsi-agent.service; test ! -e /run/jsi/agent.sock",
    );
    machine.does("cat /var/lib/jsi/log/*.jsonl | grep '\"ended\"' | grep -q agent_stopping");
}

/// A user's manager starts a user agent, and the client is the host's: set-
/// group-ID, so that the agent, of the same uid, cannot look into it.
#[test]
fn a_users_unit_serves_the_installed_client() {
    needs_root!();
    let Some(machine) = Machine::booted(None) else { return };
    machine.does(&format!("{INSTALL} --no-start; useradd --create-home --shell /bin/sh alice"));
    let begun = machine.run("systemctl start user@$(id -u alice).service");
    if begun.code != 0 {
        not_run(module_path!(), line!(), &format!("no user manager starts here: {begun}"));
        return;
    }
    machine.does(
        "cat >/run/as-alice <<'END'\nuid=$(id -u alice)\n\
         exec setpriv --reuid alice --regid alice --init-groups env -i PATH=/usr/bin HOME=/home/alice \
         XDG_RUNTIME_DIR=/run/user/$uid /bin/sh -c \"$1\nexit \\$?\"\nEND",
    );
    let alice = |script: &str| {
        let quoted = script.replace('\'', "'\\''");
        machine.does(&format!("cd /home/alice; bash /run/as-alice '{quoted}'"))
    };
    alice("jsi-agent init --no-passphrase >/dev/null");
    alice("systemctl --user enable --now jsi-agent.socket jsi-agent-admin.socket 2>&1");
    let modes =
        alice("cd $XDG_RUNTIME_DIR && stat -c '%a %U %n' jsi jsi/agent.sock jsi/admin.sock");
    assert_eq!(modes, "700 alice jsi\n600 alice jsi/agent.sock\n600 alice jsi/admin.sock\n");
    alice(
        "printf s3cret | jsi secret put db/orders --owner alice --purpose 'to be asked for' 2>&1",
    );
    alice("jsi allow db/orders --exe /usr/bin/dash --ttl 15m 2>&1");
    assert_eq!(alice("jsi get db/orders"), "s3cret\n");
    let who = alice("jsi whoami");
    assert!(who.contains("genuine client") && who.contains("advisory"), "{who}");
    assert!(who.contains("may not be looked at"), "the client is not to be looked into: {who}");
    alice(
        "systemctl --user restart jsi-agent.service; systemctl --user is-active jsi-agent.service",
    );
    assert_eq!(alice("jsi get db/orders"), "s3cret\n");
}

#[test]
fn the_package_under_systemd_keeps_leases_over_an_upgrade_and_leaves_nothing() {
    needs_root!();
    let Some(packages) = package::packages() else { return };
    let Some(machine) = Machine::booted(Some(packages)) else { return };
    // Nothing is started where the administrator's policy says so.
    machine.does(
        "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d",
    );
    machine.does("dpkg --install /mnt/debs/jsi_1.deb");
    let state =
        machine.run("systemctl is-enabled jsi-agent.socket; systemctl is-active jsi-agent.socket");
    assert_eq!(state.text, "enabled\ninactive\n", "{state}");
    machine.does("rm /usr/sbin/policy-rc.d; dpkg-reconfigure jsi 2>/dev/null || dpkg --install /mnt/debs/jsi_1.deb");
    machine.does("systemctl is-active jsi-agent.socket jsi-agent-admin.socket");

    machine.does(&permit());
    machine.does("systemctl start asker");
    let (before, wrong) = asked(&machine, 0);
    assert_eq!(wrong, [""; 0]);
    let held = lease(&machine);
    let main = "systemctl show -P MainPID jsi-agent.service";
    let first = machine.does(main);
    machine.does("dpkg --install /mnt/debs/jsi_2.deb");
    assert_ne!(machine.does(main), first, "the new agent runs");
    let (after, wrong) = asked(&machine, before);
    assert_eq!(wrong, [""; 0], "no request of {after} failed");
    assert_eq!(lease(&machine), held, "the same lease all the time");

    machine.does("systemctl stop asker; dpkg --remove jsi");
    machine.does("! systemctl is-active jsi-agent.socket jsi-agent.service");
    machine.does("dpkg --purge jsi; ! getent passwd jsi; test ! -e /var/lib/jsi -a ! -e /etc/jsi");
    machine.does(
        "test -z \"$(find /etc/systemd /run/systemd/system /var/lib/systemd -name '*jsi*')\"",
    );
}
