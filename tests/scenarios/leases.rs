//! Leases between shells: one's own and others'.

use crate::{host_with_a_secret, live};
use jsi_tests::{PEERS, Talk, needs_root};

/// A shell that runs each line that it is told, and says END after it.
fn shell(host: &jsi_tests::Host, peer: jsi_tests::Peer) -> Talk {
    let script = "while read -r line; do eval \"$line\" 2>&1; echo \"END $?\"; done";
    host.shell(peer, script).talk()
}

/// What it prints of a line, and the code.
fn run(shell: &mut Talk, line: &str) -> (String, i32) {
    shell.say(line);
    let mut said = String::new();
    loop {
        let next = shell.line();
        if let Some(code) = next.strip_prefix("END ") {
            return (said, code.parse().unwrap());
        }
        assert!(!next.is_empty() || shell.is_running(), "the shell ended:\n{said}");
        said += &next;
        said.push('\n');
    }
}

#[test]
fn a_lease_is_renewed_and_released_by_its_shell_and_by_no_other() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let mut holder = shell(&host, PEERS[0]);
    let mut stranger = shell(&host, PEERS[0]);
    assert_eq!(run(&mut holder, "jsi get --ttl 60s db/orders").0.trim(), secret);
    let id = live(&host).remove(0);

    // It sees it; another shell of the same uid and program does not, and
    // neither renews nor releases it.
    assert!(run(&mut holder, "jsi leases").0.contains(&id));
    assert!(!run(&mut stranger, "jsi leases").0.contains(&id));
    for act in ["renew", "release"] {
        let (said, code) = run(&mut stranger, &format!("jsi {act} {id}"));
        assert_eq!(code, 4, "{act}: {said}");
    }
    assert_eq!(live(&host), std::slice::from_ref(&id));

    // More time, and not more than there is.
    let (said, code) = run(&mut holder, &format!("jsi renew {id} --ttl 10m -o json 2>/dev/null"));
    assert_eq!(code, 0, "{said}");
    let lease: serde_json::Value = serde_json::from_str(&said).unwrap();
    let left = lease["remaining_s"].as_i64().unwrap();
    assert!((500..=600).contains(&left), "{said}");
    let renewed = host.await_record("renewed", &id);
    assert_eq!(renewed["lease"], *id);
    // In a subshell too: it is the same shell to its user.
    let (said, code) = run(&mut holder, &format!("(jsi renew {id} >/dev/null; exit $?)"));
    assert_eq!(code, 0, "{said}");

    // Given up: once, and again without harm; not to be renewed.
    assert_eq!(run(&mut holder, &format!("jsi release {id}")).1, 0);
    assert_eq!(host.await_record("ended", &id)["reason"], "released");
    assert_eq!(run(&mut holder, &format!("jsi release {id}")).1, 0);
    assert_ne!(run(&mut holder, &format!("jsi renew {id}")).1, 0);
    assert!(!run(&mut holder, "jsi leases").0.contains(&id));
    assert!(run(&mut holder, "jsi leases --ended").0.contains("released"));
}

#[test]
fn asked_again_it_is_the_same_lease_in_one_shell_and_another_in_another() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let mut first = shell(&host, PEERS[0]);
    let mut second = shell(&host, PEERS[0]);
    let get = |shell: &mut Talk, line: &str| {
        let (said, code) = run(shell, line);
        assert!(code == 0 && said.contains(&secret), "{line}: {said}");
    };
    get(&mut first, "jsi get db/orders");
    let held = live(&host);
    // By itself, in a substitution, in a pipe.
    for line in ["jsi get db/orders", "echo $(jsi get db/orders)", "jsi get db/orders | cat"] {
        get(&mut first, line);
        assert_eq!(live(&host), held, "{line}");
    }
    get(&mut first, "jsi get --new db/orders");
    assert_eq!(live(&host).len(), 2, "--new asks for another");
    get(&mut second, "jsi get db/orders");
    assert_eq!(live(&host).len(), 3, "another shell has another");

    // Each ends with its own shell.
    second.kill();
    let all = live(&host);
    jsi_tests::until("the second's ends", std::time::Duration::from_secs(10), || {
        (live(&host).len() == 2).then_some(())
    });
    let left = live(&host);
    assert!(left.contains(&held[0]) && left.iter().all(|id| all.contains(id)));
}

#[test]
fn two_commands_of_one_shell_hold_leases_of_their_own() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut holder = shell(&host, PEERS[0]);
    for _ in 0..2 {
        let (said, code) = run(&mut holder, "jsi exec -e X=db/orders -- /bin/sleep 60 & true");
        assert_eq!(code, 0, "{said}");
    }
    jsi_tests::until("both commands run", std::time::Duration::from_secs(10), || {
        (live(&host).len() == 2).then_some(())
    });
    let both = live(&host);
    let bound = |id: &str| {
        let granted = host.await_record("granted", id);
        i32::try_from(granted["lease"]["binding"]["pid"].as_i64().unwrap()).unwrap()
    };
    let pids = [bound(&both[0]), bound(&both[1])];
    assert_ne!(pids[0], pids[1]);
    let end = |pid| {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    end(pids[0]);
    assert_eq!(host.await_record("ended", &both[0])["reason"], "process_exited");
    assert_eq!(live(&host), std::slice::from_ref(&both[1]), "the other's is untouched");
    end(pids[1]);
    assert_eq!(host.await_record("ended", &both[1])["reason"], "process_exited");
}

#[test]
fn an_operator_revokes_by_name_by_uid_and_everything() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let program = host.world.bin("shell");
    let other = jsi_tests::permit(PEERS[1].uid, "db/orders", &program);
    host.world.write_policy("second", &other);
    host.put("db/customers", &jsi_tests::random_secret());
    let more = jsi_tests::permit(PEERS[0].uid, "db/customers", &program);
    host.world.write_policy("third", &more);
    host.admin(["reload"]).run().succeeded();
    let mut first = shell(&host, PEERS[0]);
    let mut second = shell(&host, PEERS[1]);
    let all = || {
        let listing = host.admin(["leases", "--all", "-o", "json"]).run().succeeded();
        listing.json().as_array().unwrap().len()
    };
    let mut fill = || {
        assert_eq!(run(&mut first, "jsi get db/orders").0.trim(), secret);
        assert_eq!(run(&mut first, "jsi get db/customers >/dev/null").1, 0);
        assert_eq!(run(&mut second, "jsi get db/orders").0.trim(), secret);
        assert_eq!(all(), 3);
    };
    let revoke = |arguments: &[&str]| {
        let revoked = host.admin([&["revoke"], arguments].concat()).run().succeeded();
        assert!(!revoked.stdout.contains(&secret));
    };
    fill();
    revoke(&["--prefix", "db/customers/"]);
    assert_eq!(all(), 2);
    fill();
    revoke(&["--uid", &PEERS[0].uid.to_string()]);
    assert_eq!(live(&host).len(), 1);
    fill();
    let id = live(&host).remove(0);
    revoke(&["--prefix", &id, "--note", "a drill"]);
    assert_eq!(host.await_record("ended", &id)["reason"], "revoked");
    assert_eq!(host.await_record("admin", "revoke")["act"], "revoke");
    fill();
    revoke(&["--all"]);
    assert_eq!(all(), 0);
    // Only on the admin socket, and never by accident.
    host.admin(["revoke"]).run().coded(2);
    let admin = host.world.admin_socket();
    let refused = host.shell(PEERS[0], "jsi revoke --all").env("JSI_ADMIN_SOCK", admin).run();
    assert_ne!(refused.code, 0, "{refused}");
}
