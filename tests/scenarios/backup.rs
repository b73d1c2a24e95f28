//! New values, ciphertext that leaves, and the whole store in a file and back.

use crate::import::{host, nowhere};
use crate::rotation;
use jsi_proto::v1::WatchLeasesRequest;
use jsi_proto::v1::lease_event::Kind;
use jsi_tests::{Client, Host, PEERS, Setup, needs_root, random_secret};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory of root's own.
fn dir(host: &Host) -> PathBuf {
    let dir = host.world.path().join("backups");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn put_fields(host: &Host, name: &str, json: &str) {
    let put =
        ["secret", "put", name, "--owner", "dba", "--purpose", "why", "--fields-from", "json"];
    host.admin(put)
        .args(["--default", "password", "--plain", "user"])
        .input(json)
        .run()
        .succeeded();
}

#[test]
fn a_rotation_keeps_what_it_does_not_replace_and_is_in_the_log() {
    needs_root!();
    let host = host("db/orders");
    let (old, new) = (random_secret(), random_secret());
    put_fields(&host, "db/orders", &format!(r#"{{"user": "app", "password": "{old}"}}"#));
    let get =
        |field: &str| host.shell(PEERS[0], &format!("jsi get db/orders{field}")).run().succeeded();
    let rotate = |more: &[&str]| host.admin(["secret", "rotate", "db/orders"]).args(more);

    let plan = rotate(&["--dry-run", "-o", "json"]).run().succeeded().json();
    assert_eq!((&plan["fields"][0], &plan["leases_told"]), (&"password".into(), &0.into()));
    get("").printed(&old);
    rotate(&[]).input(format!("{new}\n")).run().succeeded().says("version 2").without(&new);
    get("").printed(&new);
    get("#user").printed("app");
    let listed = host.admin(["secret", "ls", "-o", "json"]).run().succeeded().json();
    assert_eq!(listed[0]["owner"], "dba");
    assert_eq!(listed[0]["purpose"], "why");
    assert_eq!(listed[0]["version"], 2);

    let made = rotate(&["--generate=40", "--charset", "hex", "-o", "json"]).run().succeeded();
    let generated = get("").stdout.trim().to_owned();
    assert_eq!(generated.len(), 40);
    assert!(generated.bytes().all(|b| b.is_ascii_hexdigit()), "{generated}");
    assert_eq!(made.without(&generated).json()["secret"]["version"], 3);
    rotate(&["--field", "user=-"]).input("other").run().succeeded();
    get("#user").printed("other");

    rotate(&["--field", "token=-"]).input("x").run().coded(4).says("has password, user");
    rotate(&[]).input("").run().coded(2).says("empty");
    rotate(&["--generate", "--charset", "x"]).run().coded(2);
    host.admin(["secret", "rotate", "no/such"]).input("x").run().coded(4);
    let record = host.await_record("secret_rotated", "\"version\":2");
    assert_eq!(record["fields"], serde_json::json!(["password"]));
    assert_eq!(record["by"]["uid"], 0);
    for secret in [&old, &new, &generated] {
        nowhere(&host, secret, Path::new("/"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_are_told_of_a_rotation_or_lose_their_leases() {
    needs_root!();
    let host = rotation::host();
    let client = Client::connect(&host.world.socket()).await.unwrap();
    let first = client.take("db/orders").await.unwrap().lease.id;
    let request = WatchLeasesRequest::default();
    let mut events = client.agent().watch_leases(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let admin = |words: &[&str], input: &str| {
        let program = host.admin(words.iter().copied()).input(input);
        tokio::task::block_in_place(|| program.run().succeeded())
    };
    let rotate = ["secret", "rotate", "db/orders", "-o", "json"];
    let done = admin(&rotate, "second").json();
    assert_eq!((&done["leases_told"], &done["leases_ended"]), (&1.into(), &0.into()));
    assert_eq!(client.take("db/orders").await.unwrap().secret, b"second");
    let import = ["secret", "import", "--owner", "o", "--format", "json", "--replace", "-"];
    admin(&import, r#"{"db/orders": "third"}"#);
    assert_eq!(client.take("db/orders").await.unwrap().secret, b"third");
    let revoke = [&rotate[..], &["--revoke"]].concat();
    assert_eq!(admin(&revoke, "fourth").json()["leases_ended"], 1);
    while seen.last() != Some(&Kind::Ended) {
        let event = tokio::time::timeout(std::time::Duration::from_secs(10), events.message());
        seen.push(event.await.unwrap().unwrap().unwrap().kind());
    }
    assert_eq!(seen.iter().filter(|kind| **kind == Kind::Rotated).count(), 3, "{seen:?}");
    let anew = client.take("db/orders").await.unwrap();
    assert_ne!(anew.lease.id, first);
    assert_eq!(anew.secret, b"fourth");
}

#[test]
fn what_is_exported_is_ciphertext_that_age_opens() {
    needs_root!();
    let host = host("db/orders");
    let secret = random_secret();
    host.put("db/orders", &secret);
    host.put("x", &random_secret());
    let dir = dir(&host);
    let open = |file: &Path| {
        let mut age = Command::new("age");
        let out = age.arg("-d").arg("-i").arg(host.world.identity()).arg(file).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    let value = |json: &serde_json::Value| json["fields"][0]["value"].clone();
    let export = |words: &[&str]| host.admin(["secret", "export"]).args(words);
    for armor in [&[][..], &["--armor"]] {
        let file = dir.join(format!("one{}.age", armor.len()));
        let words = [&["db/orders", "--to", file.to_str().unwrap()], armor].concat();
        export(&words).run().succeeded().without(&secret);
        assert_eq!(value(&open(&file)), secret.as_str());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        export(&words).run().coded(1).says("exists");
    }
    let text = export(&["db/orders", "--armor"]).run().succeeded();
    assert!(text.stdout.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    let into = dir.join("all");
    export(&["--all", "--into", into.to_str().unwrap()]).run().succeeded();
    assert_eq!(value(&open(&into.join("db/orders.age"))), secret.as_str());
    assert!(into.join("x.age").is_file());
    export(&["--all"]).run().coded(2).says("--into");
    export(&["no/such", "--to", "/tmp/no-such-jsi.age"]).run().coded(4);
    // Locked it is the same: nothing is opened.
    host.admin(["lock"]).run().succeeded();
    export(&["x", "--armor"]).run().succeeded();
    host.await_record("admin", "\"act\":\"export\"");
    nowhere(&host, &secret, Path::new("/"));
}

#[test]
fn a_terminal_is_not_given_a_binary_file() {
    needs_root!();
    let host = Setup::user(PEERS[0].uid).start(|_| Vec::new());
    host.put("x", "1");
    let admin = host.world.admin_socket();
    let run = |command: &str| {
        let command = format!("JSI_ADMIN_SOCK={} {command}", admin.display());
        host.terminal(PEERS[0], &command).run()
    };
    let refused = run("jsi secret export x").coded(2);
    assert!(refused.stdout.contains("--armor"), "{refused}");
    run("jsi backup -").coded(2);
    let armored = run("jsi secret export x --armor").succeeded();
    assert!(armored.stdout.contains("BEGIN AGE ENCRYPTED FILE"), "{armored}");
}

#[test]
fn a_backup_is_made_while_the_agent_runs_and_comes_back_whole() {
    needs_root!();
    let host = host("db/orders");
    let secret = random_secret();
    host.put("db/orders", &secret);
    host.put("app/key", &random_secret());
    let file = dir(&host).join("b.tar");
    let path = file.to_str().unwrap();
    let made = host.admin(["backup", path, "-o", "json"]).run().succeeded().says("NOT in it");
    let made = made.says("worthless").json();
    assert_eq!((&made["secrets"], &made["identity_included"]), (&2.into(), &false.into()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    host.admin(["backup", path]).run().coded(1).says("replaces no file");
    // tar opens it; the identity is not in it, nor anything in the clear.
    let listing = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let names: Vec<_> = listing.lines().collect();
    let expected = [
        "manifest.json",
        "manifest.seal",
        "store/app/key.age",
        "store/app/key.json",
        "store/db/orders.age",
        "store/db/orders.json",
        "agent.toml",
        "policy.d/one.cedar",
    ];
    assert_eq!(names, expected);
    let identity = fs::read_to_string(host.world.identity()).unwrap();
    let key = identity.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap();
    let bytes = fs::read(&file).unwrap();
    for hidden in [key, &secret] {
        assert!(!bytes.windows(hidden.len()).any(|part| part == hidden.as_bytes()));
    }

    let restore = |words: &[&str]| host.admin(["restore", path, "-o", "json"]).args(words).run();
    restore(&[]).coded(2).says("--replace");
    host.admin(["secret", "rotate", "db/orders", "--generate"]).run().succeeded();
    host.admin(["secret", "rm", "app/key"]).run().succeeded();
    host.put("new/one", "x");
    let held = "jsi get db/orders >/dev/null; jsi get db/orders >/dev/null; echo HELD; read x; jsi get db/orders";
    let mut holder = host.shell(PEERS[0], held).talk();
    holder.expect("HELD");
    let plan = restore(&["--dry-run", "--verify"]).succeeded().json();
    let now = host.admin(["secret", "ls", "-o", "json"]).run().succeeded().json();
    assert_eq!(now.as_array().unwrap().len(), 2);
    let done = restore(&["--replace", "--verify"]).succeeded().json();
    for done in [&plan, &done] {
        assert_eq!(done["added"], serde_json::json!(["app/key"]));
        assert_eq!(done["changed"], serde_json::json!(["db/orders"]));
        assert_eq!(done["removed"], serde_json::json!(["new/one"]));
        assert_eq!((&done["sealed"], &done["opened"]), (&true.into(), &2.into()));
    }
    assert_eq!((&plan["leases_told"], &done["leases_told"]), (&0.into(), &1.into()));
    holder.say("");
    holder.expect(&secret);
    host.await_record("admin", "1 added, 1 changed, 1 removed");
    let left = fs::read_dir(host.world.store_dir()).unwrap().flatten();
    assert!(
        left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with('.'))
    );

    // Through a pipe, on another machine's store: the same identity, an empty store.
    let out = host.admin(["restore", "-", "--replace"]).input(&bytes).run().succeeded();
    out.says("the same: 2");
}

#[test]
fn a_backup_that_is_not_whole_or_not_ours_changes_nothing() {
    needs_root!();
    let host = host("db/orders");
    let secret = random_secret();
    host.put("db/orders", &secret);
    let file = dir(&host).join("b.tar");
    host.admin(["backup", file.to_str().unwrap()]).run().succeeded();
    let bytes = fs::read(&file).unwrap();
    let restore = |bytes: &[u8], more: &[&str]| {
        host.admin(["restore", "-", "--replace"]).args(more).input(bytes).run()
    };
    restore(&bytes[..bytes.len() / 2], &[]).coded(2).says("cut short").says("nothing has changed");
    restore(b"", &[]).coded(2).says("no jsi backup");
    restore(&bytes, &["--unsealed"]).succeeded();
    host.admin(["restore", "/nowhere/b.tar"]).run().coded(4);
    host.admin(["restore", "/tmp"]).run().coded(1).says("directory");

    let theirs = self::host("db/orders");
    theirs.put("db/orders", "theirs");
    let foreign = dir(&theirs).join("b.tar");
    theirs.admin(["backup", foreign.to_str().unwrap()]).run().succeeded();
    let foreign = fs::read(&foreign).unwrap();
    restore(&foreign, &[]).coded(2).says("not sealed under this agent's identity");
    restore(&foreign, &["--unsealed", "--verify"]).coded(2).says("do not open");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    host.await_record("admin", "refused: ");
}

#[test]
fn none_of_it_is_for_those_who_are_not_operators() {
    needs_root!();
    let host = host("db/orders");
    host.put("db/orders", "x");
    for command in [
        "jsi secret export db/orders",
        "jsi backup -",
        "jsi restore /dev/null",
        "echo x | jsi secret rotate db/orders",
        "echo A=1 | jsi secret import --format dotenv --owner o -",
    ] {
        let out = host.shell(PEERS[0], &format!("{command} | cat; exit 0")).run();
        let out = out.says("admin socket");
        assert!(out.stdout.is_empty(), "{out}");
        // Nor on the socket that is everybody's.
        let agent = host.world.socket();
        let out = host.shell(PEERS[0], &format!("JSI_ADMIN_SOCK={} {command}", agent.display()));
        assert_ne!(out.run().code, 0, "{command}");
    }
    let listed = host.admin(["secret", "ls", "-o", "json"]).run().succeeded().json();
    assert_eq!(listed[0]["version"], 1);
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_that_stops_holds_up_no_other() {
    needs_root!();
    let host = host("db/orders");
    for n in 0..40 {
        host.admin(["secret", "put", &format!("big/{n}"), "--owner", "o", "--purpose", "p"])
            .input(vec![b'x'; 200_000])
            .run()
            .succeeded();
    }
    let mut slow = host.admin(["backup", "-"]).into_command();
    let mut slow = slow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    jsi_tests::until("the backup is under way", std::time::Duration::from_secs(10), || {
        let left = fs::read_dir(host.world.store_dir()).unwrap().flatten();
        let under_way = |name: std::ffi::OsString| name.to_string_lossy().starts_with(".backup.");
        left.map(|entry| entry.file_name()).any(under_way).then_some(())
    });
    // Others are served, and the store can be written.
    host.put("db/orders", "x");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed("x");
    host.admin(["backup", "/tmp/jsi-second.tar"]).run().coded(7).says("under way already");
    slow.kill().unwrap();
    slow.wait().unwrap();
    let file = dir(&host).join("b.tar");
    jsi_tests::until("the next has its turn", std::time::Duration::from_secs(10), || {
        (host.admin(["backup", file.to_str().unwrap()]).run().code == 0).then_some(())
    });
}
