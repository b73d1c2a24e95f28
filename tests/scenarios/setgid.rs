//! `jsi` as packages install it: set-group-ID `_jsi`, so that nothing of the
//! same uid looks into it.

use jsi_tests::{Host, Mode, PEERS, Setup, needs_root, permit, random_secret};
use std::os::unix::fs::{PermissionsExt, chown};

/// An agent with such a client, and `db/orders` for the first peer's shell.
fn with_setgid_client(setup: Setup) -> (Host, String, u32) {
    let mut host = setup.install();
    let gid = host.world.install_setgid_client();
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &shell));
    host.start();
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret, gid)
}

fn both() -> [Setup; 2] {
    [Setup::host(), Setup::user(PEERS[0].uid)]
}

#[test]
fn a_shell_gets_its_credential_through_it_from_a_host_and_from_a_user_agent() {
    needs_root!();
    for setup in both() {
        let (host, secret, _) = with_setgid_client(setup);
        let get = host.shell(PEERS[0], "jsi get db/orders").run();
        get.succeeded().printed(&secret);
        let who = host.shell(PEERS[0], "jsi whoami -o json").run().succeeded().json();
        let who = &who["attestation"];
        let shell = host.world.bin("shell").display().to_string();
        assert_eq!(who["requester"]["exe"]["path"], shell, "{who}");
        // Whoever started it could be anybody's; it itself is out of reach.
        assert_eq!((&who["assurance"], &who["requester"]["assurance"]), (&1.into(), &1.into()));
        let own = if matches!(host.world.mode(), Mode::Host) { 3 } else { 1 };
        assert_eq!(who["caller"]["assurance"], own, "{who}");
        let advisory = matches!(host.world.mode(), Mode::User(_));
        assert_eq!(who["advisory"], advisory, "{who}");
        assert_eq!(who["via"], "genuine client", "{who}");
        // And what it leases is renewed and given up through it as well.
        let text = "jsi get db/orders >/dev/null; \
                    id=$(jsi leases -o json | grep -o 'db/orders/[a-z2-7]*' | head -1); \
                    jsi renew $id --ttl 5m >&2 && jsi release $id >&2 && jsi leases -o json";
        host.shell(PEERS[0], text).run().succeeded().printed("[]");
    }
}

#[test]
fn its_group_is_not_inherited_by_the_command_that_it_becomes() {
    needs_root!();
    for setup in both() {
        let (host, secret, gid) = with_setgid_client(setup);
        let text = "jsi exec -e X=db/orders -- /bin/sh -c \
                    'echo $X; id -G; grep ^Gid: /proc/self/status; ls -l /proc/self/fd'";
        let out = host.shell(PEERS[0], text).run().succeeded();
        assert!(out.stdout.starts_with(&secret), "{out}");
        let own = PEERS[0].uid;
        assert!(out.stdout.contains(&format!("Gid:\t{own}\t{own}\t{own}\t{own}\n")), "{out}");
        assert!(!out.stdout.contains(&gid.to_string()), "{out}");
        assert!(!out.stdout.contains("socket:"), "the connection was inherited: {out}");
    }
}

#[test]
fn its_group_is_not_inherited_by_the_agents_own_commands() {
    needs_root!();
    let (host, _, gid) = with_setgid_client(Setup::host());
    // What `jsi audit` becomes: here a shell that tells its groups.
    let told = host.world.home(PEERS[0]).join("jsi-agent");
    std::fs::write(&told, "#!/bin/sh\ngrep ^Gid: /proc/self/status\n").unwrap();
    host.world.install(&told, "jsi-agent");
    for command in ["audit verify", "policy check"] {
        let out = host.shell(PEERS[0], &format!("jsi {command}")).run().succeeded();
        assert!(out.stdout.starts_with("Gid:"), "{out}");
        assert!(!out.stdout.contains(&gid.to_string()), "{command}: {out}");
    }
}

#[test]
fn its_group_opens_no_file_for_whoever_runs_it() {
    needs_root!();
    let (host, _, gid) = with_setgid_client(Setup::host());
    // What only the group may read or enter.
    let file = host.world.install(std::path::Path::new("/bin/true"), "of-the-group");
    chown(&file, Some(0), Some(gid)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
    let file = file.display();
    let sum = std::process::Command::new("sha256sum").arg("/bin/true").output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap()[..64].to_owned();

    let digest = format!("jsi allow db/orders --exe {file} --digest --dry-run");
    let out = host.shell(PEERS[0], &digest).run();
    assert!(out.code != 0 && !out.stdout.contains(&sum), "{out}");
    let exec = format!("jsi exec -e X=db/orders -- {file}");
    let out = host.shell(PEERS[0], &exec).run().coded(126);
    assert!(out.stderr.contains("ermission denied"), "{out}");
    assert!(jsi_tests::find(&host.records(), "granted", "").is_none(), "{out}");

    // The twin: root may.
    let out =
        host.admin(["allow", "db/orders", "--exe", &file.to_string(), "--digest", "--dry-run"]);
    assert!(out.run().succeeded().stdout.contains(&sum));
}

/// Where the kernel does not honour the bit, it is a client like any other.
#[test]
fn it_works_where_the_kernel_gives_it_no_group() {
    needs_root!();
    for setup in both() {
        let (host, secret, _) = with_setgid_client(setup);
        // In a user namespace root's files have no owner that the client knows,
        // so that it trusts no host agent there.
        let user = matches!(host.world.mode(), Mode::User(_));
        let namespace = user.then_some("unshare --user --map-current-user");
        for around in std::iter::once("setpriv --no-new-privs").chain(namespace) {
            let text = format!("{around} /bin/sh -c 'jsi get db/orders; exit $?'");
            // Its requester is another shell, which policy does not name.
            let out = host.shell(PEERS[0], &text).run();
            assert_eq!(out.code, 3, "{around}: {out}");
            let shell = host.world.bin("shell").display().to_string();
            let text = format!("{around} {shell} -c 'jsi get db/orders; exit $?'");
            let out = host.shell(PEERS[0], &text).run();
            assert_eq!(out.code, 0, "{around}: {out}");
            assert_eq!(out.stdout.trim(), secret, "{around}: {out}");
        }
    }
}

#[test]
fn one_that_is_traced_has_no_group_and_no_assurance() {
    needs_root!();
    if !std::path::Path::new("/usr/bin/strace").exists() {
        jsi_tests::not_run(module_path!(), line!(), "install strace");
        return;
    }
    for setup in both() {
        let (host, secret, _) = with_setgid_client(setup);
        let traced = "strace -f -o /dev/null jsi get db/orders";
        host.shell(PEERS[0], traced).run().coded(3).without(&secret);
        host.await_record("denied", "");
        host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    }
}
