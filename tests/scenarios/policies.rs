//! From who somebody is to a policy, to why not, and back.

use crate::host_with_a_secret;
use jsi_tests::{PEERS, Setup, needs_root, random_secret};

/// A host agent with a secret and no policy.
fn host() -> (jsi_tests::Host, String) {
    let mut host = Setup::host().install();
    host.start();
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret)
}

#[test]
fn what_whoami_prints_or_a_denial_names_is_allowed_exactly() {
    needs_root!();
    let (host, secret) = host();
    let (me, other) = (PEERS[0], PEERS[1]);
    let who = host.shell(me, "jsi whoami -o json").run().succeeded();
    let allow = ["allow", "db/orders", "--from", "-", "--ttl", "15m"];
    let allowed = host.admin(allow).input(&who.stdout).run().succeeded();
    assert!(allowed.stderr.contains("wrote"), "{allowed}");
    host.shell(me, "jsi get db/orders").run().succeeded().printed(&secret);
    let denied = host.shell(other, "jsi get db/orders").run().coded(3).says("jsi explain");

    // The same again is no second policy.
    host.admin(allow).input(&who.stdout).run().coded(1).says("is there already");
    let again = ["allow", "db/orders", "--from", "-", "--ttl", "15m", "--id", "again"];
    host.admin(again).input(&who.stdout).run().coded(1).says("says the same already");

    // The other by the ID of its denial; then neither.
    let id = denied.stderr.split("jsi explain ").nth(1).unwrap().split_whitespace().next().unwrap();
    host.admin(["allow", "db/orders", "--from", id, "--id", "second"]).run().succeeded();
    host.shell(other, "jsi get db/orders").run().succeeded().printed(&secret);
    host.admin(["policy", "rm", "second"]).run().succeeded();
    host.shell(other, "jsi get db/orders").run().coded(3);
    host.admin(["policy", "rm", "second"]).run().coded(4).says("jsi policy ls");
    assert!(!host.world.policy_dir().join("second.cedar").exists());
}

#[test]
fn an_explanation_names_the_failed_condition_and_the_line_that_mends_it() {
    needs_root!();
    let (host, secret) = host();
    let me = PEERS[0];
    let uid = me.uid.to_string();
    host.admin(["allow", "db/orders", "--uid", &uid, "--exe", "/usr/bin/env"]).run().succeeded();
    let denied = host.shell(me, "jsi get db/orders").run().coded(3).without(&secret);
    assert!(!denied.stderr.contains("/usr/bin/env"), "the requester learns no policy: {denied}");
    let id = denied.stderr.split("jsi explain ").nth(1).unwrap().split_whitespace().next().unwrap();
    let explained = host.admin(["explain", id]).run().succeeded().without(&secret);
    let shell = host.world.bin("shell").display().to_string();
    for says in [
        "does not apply, and is the nearest".to_owned(),
        format!("saw    principal.exe is \"{shell}\""),
        "wanted \"/usr/bin/env\"".to_owned(),
    ] {
        assert!(explained.stdout.contains(&says), "{says:?} is not in\n{explained}");
    }
    // The line that it gives is a command, and it helps.
    let line = explained.stdout.lines().find(|line| line.contains("jsi allow")).unwrap();
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    host.admin(words).run().succeeded();
    host.shell(me, "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn what_would_be_decided_is_what_is_decided() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let (me, other) = (PEERS[0], PEERS[1]);
    let shell = host.world.bin("shell").display().to_string();
    for (peer, decision, code) in [(me, "permitted", 0), (other, "denied", 3)] {
        let uid = peer.uid.to_string();
        let ask = ["explain", "db/orders", "-o", "json", "--uid", &uid, "--exe", &shell];
        let supposed = host.admin(ask).run().succeeded().without(&secret);
        assert_eq!(supposed.json()["decision"], decision, "{supposed}");
        let offline = host.world.policy_dir().display().to_string();
        let offline = [&ask[..], &["--policy-dir", &offline]].concat();
        let offline = host.admin(offline).run().succeeded();
        assert_eq!(offline.json()["decision"], decision, "{offline}");
        assert_eq!(host.shell(peer, "jsi get db/orders").run().code, code);
    }
    let limits =
        host.admin(["explain", "db/orders", "--uid", &me.uid.to_string(), "--exe", &shell]);
    let limits = limits.run().succeeded();
    assert!(limits.stdout.contains("max_ttl 1d, from the credential"), "{limits}");
    host.admin(["explain", "db/order", "--uid", "1"])
        .run()
        .coded(4)
        .says("did you mean db/orders?");
    // Requesters are told nothing of it.
    let script = "jsi explain db/orders --uid 1";
    assert_ne!(host.shell(other, script).run().without("permit").code, 0);
}

#[test]
fn a_policy_that_cannot_be_is_refused_and_leaves_nothing_behind() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let before = std::fs::read_dir(host.world.policy_dir()).unwrap().count();
    host.admin(["allow", "db/order", "--unit", "a.service"]).run().coded(4).says("db/orders");
    // An @id that another file has: the agent refuses the set.
    host.world
        .write_policy("taken", "@id(\"mine\") permit(principal in User::\"1\", action, resource);");
    host.admin(["reload"]).run().succeeded();
    let refused = host.admin(["allow", "db/orders", "--unit", "a.service", "--id", "mine"]).run();
    refused.coded(1).says("was not kept; nothing has changed");
    assert_eq!(std::fs::read_dir(host.world.policy_dir()).unwrap().count(), before + 1);
    // A forbid still overrides, and that is said at once.
    host.world.write_policy(
        "never",
        "@id(\"never\") forbid(principal, action in Action::\"use\", resource);",
    );
    host.admin(["reload"]).run().succeeded();
    let allowed = host.admin(["allow", "db/orders", "--unit", "a.service"]).run().succeeded();
    allowed.says("still denied: forbidden by never");
}
