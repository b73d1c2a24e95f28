//! How a secret reaches a command.

use crate::host_with_a_secret;
use jsi_tests::{PEERS, needs_root, random_secret};

#[test]
fn a_descriptor_is_a_sealed_file_that_the_command_reads() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let run = |command: &str| {
        let script = format!("jsi exec --fd TOKEN=db/orders -- /bin/sh -c '{command}'");
        host.shell(PEERS[0], &script).run()
    };
    run("cat \"$TOKEN\"").succeeded().printed(&secret);
    // Nothing of it stands in the environment or in the arguments.
    run("cat /proc/$$/environ /proc/$$/cmdline").succeeded().without(&secret);
    // It is read from its beginning however often, and cannot be changed.
    let twice = run("cat \"$TOKEN\" \"$TOKEN\"").succeeded();
    assert_eq!(twice.stdout, secret.repeat(2), "{twice}");
    let written = run("echo changed > \"$TOKEN\"");
    assert_ne!(written.code, 0, "{written}");
    let granted = host.await_record("granted", "db/orders");
    assert_eq!(granted["lease"]["delivery"], "descriptor", "{granted}");
}

#[test]
fn fields_go_to_variables_and_descriptors_by_name() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let password = random_secret();
    let fields = format!("{{\"user\": \"orders\", \"password\": \"{password}\"}}");
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    let json = ["--fields-from", "json", "--default", "password", "--plain", "user"];
    host.admin([&put[..], &json[..]].concat()).input(&fields).run().succeeded();
    let script = "jsi exec -e PGUSER=db/orders#user --fd PASSWORD=db/orders#password -- \
                  /bin/sh -c 'echo $PGUSER; cat $PASSWORD'";
    let out = host.shell(PEERS[0], script).run().succeeded();
    assert_eq!(out.stdout, format!("orders\n{password}"), "{out}");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&password);
    host.shell(PEERS[0], "jsi get db/orders#user").run().succeeded().printed("orders");
}

#[test]
fn an_environment_can_be_forbidden_and_is_labelled() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let forbid = "@id(\"no-environment\")\nforbid(principal, action == Action::\"request\", \
                  resource == Credential::\"db/orders\") when \
                  { context.delivery == \"environment\" };";
    let by_environment = "jsi exec -e X=db/orders -- /bin/sh -c 'jsi leases >/dev/null'";
    host.shell(PEERS[0], by_environment).run().succeeded();
    let shown = host.admin(["audit", "tail"]).run().succeeded();
    assert!(shown.stdout.contains("environment"), "{shown}");
    host.world.write_policy("no-environment", forbid);
    host.admin(["reload"]).run().succeeded();
    host.shell(PEERS[0], by_environment).run().coded(125).without(&secret);
    let by_descriptor = "jsi exec --fd X=db/orders -- /bin/sh -c 'cat $X'";
    host.shell(PEERS[0], by_descriptor).run().succeeded().printed(&secret);
}
