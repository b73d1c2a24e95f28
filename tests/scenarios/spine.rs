//! One credential, one command, the whole way.

use crate::{host_with_a_secret, live};
use jsi_tests::{PEERS, Setup, needs_root, random_secret};

#[test]
fn a_secret_goes_the_whole_way_from_put_to_revoke() {
    needs_root!();
    let mut host = Setup::host().install();
    host.start();
    let secret = random_secret();
    let me = PEERS[0];

    // Nothing is there yet, and the answer says so.
    host.shell(me, "jsi get db/orders").run().coded(4).says("db/orders");
    host.put("db/orders", &secret);
    let listed = host.admin(["secret", "ls"]).run().succeeded().without(&secret);
    assert!(listed.stdout.contains("db/orders"), "{listed}");

    // Not yet permitted: the denial names its request and the next step.
    let denied = host.shell(me, "jsi get db/orders").run().coded(3).says("jsi explain");
    let request = denied.stderr.split("jsi explain ").nth(1).unwrap();
    let request = request.split_whitespace().next().unwrap().trim_matches(|c| "`'\"".contains(c));
    let explained = host.admin(["explain", request]).run().succeeded().without(&secret);
    assert!(explained.stdout.contains("denied"), "{explained}");
    assert!(explained.stdout.contains(&host.world.bin("shell").display().to_string()));

    // Permitted by `jsi allow`.
    let shell = host.world.bin("shell").display().to_string();
    let uid = me.uid.to_string();
    host.admin(["allow", "db/orders", "--uid", &uid, "--exe", &shell]).run().succeeded();
    let config = host.world.config().display().to_string();
    host.admin(["policy", "check", "--config", &config]).run().succeeded();
    host.shell(me, "jsi get db/orders").run().succeeded().printed(&secret);

    // To a command, by environment and by descriptor.
    let by_environment = "jsi exec -e PGPASSWORD=db/orders -- /usr/bin/printenv PGPASSWORD";
    host.shell(me, by_environment).run().succeeded().printed(&secret);
    let by_descriptor = "jsi exec --fd TOKEN=db/orders -- /bin/sh -c 'cat $TOKEN'";
    host.shell(me, by_descriptor).run().succeeded().printed(&secret);

    // Renewed, listed, released by whoever holds it.
    let life = "set -e; jsi get db/orders >/dev/null; \
                id=$(jsi leases -o json | grep -o 'db/orders/[a-z2-7]*' | head -1); \
                jsi renew $id >&2; jsi leases >&2; jsi release $id >&2; echo $id";
    let lived = host.shell(me, life).run().succeeded().without(&secret);
    let id = lived.stdout.trim().to_owned();
    assert!(!live(&host).contains(&id), "it was released");
    let ended = host.await_record("ended", &id);
    assert_eq!(ended["reason"], "released");

    // Revoked by an operator, while its holder lives.
    let mut holder = host.shell(me, "jsi get db/orders >/dev/null; echo HELD; read x").talk();
    holder.expect("HELD");
    let id = live(&host).remove(0);
    host.admin(["revoke", "--prefix", &id]).run().succeeded();
    assert_eq!(host.await_record("ended", &id)["reason"], "revoked");
    assert!(live(&host).is_empty());

    // And the log proves it.
    host.admin(["audit", "verify"]).run().succeeded().without(&secret);
    let shown = host.admin(["audit", "show", &id]).run().succeeded().without(&secret);
    assert!(shown.stdout.contains(&id), "{shown}");
}

#[test]
fn whoami_prints_a_policy_that_permits_who_asked() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let me = PEERS[1];
    host.shell(me, "jsi get db/orders").run().coded(3);
    let policy = host.shell(me, "jsi whoami --policy db/orders").run().succeeded();
    host.world.write_policy("from-whoami", &policy.stdout);
    host.admin(["reload"]).run().succeeded();
    host.shell(me, "jsi get db/orders").run().succeeded().printed(&secret);
    let shown = host.shell(me, "jsi whoami -o json").run().succeeded();
    assert_eq!(shown.json()["attestation"]["requester"]["uid"], me.uid, "{shown}");
}

#[test]
fn a_secret_has_fields_and_each_is_asked_for_by_name() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let me = PEERS[0];
    let absent = host.shell(me, "jsi get 'db/orders#absent'").run().coded(4).without(&secret);
    assert!(absent.stderr.contains("absent"), "{absent}");
    for (format, part) in [("json", "\""), ("env", "="), ("dotenv", "=")] {
        let out = host.shell(me, &format!("jsi get db/orders -o {format} | cat")).run();
        let out = out.succeeded();
        assert!(out.stdout.contains(&secret) && out.stdout.contains(part), "{out}");
    }
}

#[test]
fn a_secret_does_not_go_into_a_regular_file_unasked() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let out = host.shell(PEERS[0], "jsi get db/orders > out").run().coded(2).says("--allow-file");
    let file = host.world.home(PEERS[0]).join("out");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "", "{out}");
    host.shell(PEERS[0], "jsi get db/orders --allow-file > out").run().succeeded();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), secret);
}

#[test]
fn a_target_does_not_inherit_what_would_steer_it() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let script = "export LD_PRELOAD= LD_LIBRARY_PATH=/tmp BASH_ENV=/tmp/x PYTHONPATH=/tmp; \
                  jsi exec -e X=db/orders -- /usr/bin/env";
    let out = host.shell(PEERS[0], script).run().succeeded();
    for name in ["LD_LIBRARY_PATH", "BASH_ENV", "PYTHONPATH"] {
        assert!(!out.stdout.contains(name), "{name} went through:\n{out}");
    }
}

#[test]
fn exec_answers_with_the_commands_own_exit_code_or_its_own() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let run = |command: &str| {
        host.shell(PEERS[0], &format!("jsi exec -e X=db/orders -- {command}")).run()
    };
    run("/bin/sh -c 'exit 42'").coded(42);
    run("/no/such/program").coded(127);
    run("/etc/passwd").coded(126);
    host.shell(PEERS[1], "jsi exec -e X=db/orders -- /bin/true").run().coded(125);
}

#[test]
fn the_client_is_static_pie_and_the_agent_is_dynamic() {
    // ELF: type DYN (position independent); an interpreter only where dynamic.
    let world = Setup::user(PEERS[0].uid).install();
    let jsi = std::fs::read(world.world.bin("jsi")).unwrap();
    let agent = std::fs::read(world.world.bin("jsi-agent")).unwrap();
    let interpreter = |elf: &[u8]| {
        let le = |at: usize, n: usize| {
            elf[at..at + n].iter().rev().fold(0usize, |v, b| v << 8 | usize::from(*b))
        };
        let (table, size, count) = (le(32, 8), le(54, 2), le(56, 2));
        (0..count).any(|i| le(table + i * size, 4) == 3)
    };
    for elf in [&jsi, &agent] {
        assert_eq!(&elf[..4], b"\x7fELF");
        assert_eq!(elf[16], 3, "position independent");
    }
    assert!(!interpreter(&jsi), "jsi is static");
    assert!(interpreter(&agent), "jsi-agent resolves names, so it is dynamic");
}
