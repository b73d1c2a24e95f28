//! Secrets that come in from dotenv and JSON files.

use jsi_tests::{Host, Outcome, PEERS, Setup, needs_root, permit, random_secret};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A host agent whose first peer may have `credential`.
pub(crate) fn host(credential: &'static str) -> Host {
    Setup::host()
        .start(|world| vec![("one", permit(PEERS[0].uid, credential, &world.bin("shell")))])
}

/// A file of root's own, outside what the agent has.
pub(crate) fn file(host: &Host, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let dir = host.world.path().join("source");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) fn import(host: &Host, source: &Path, more: &[&str]) -> Outcome {
    let command = ["secret", "import", "--owner", "ops", "-o", "json"];
    host.admin(command).args([source]).args(more).run()
}

/// `outcome` of each source, in order.
fn outcomes(out: &Outcome) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let json = out.json();
    let items = json["items"].as_array().unwrap().iter();
    items.map(|item| (text(&item["source"]), text(&item["name"]), text(&item["outcome"]))).collect()
}

fn all(outcomes: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let own = |(a, b, c): &(&str, &str, &str)| ((*a).into(), (*b).into(), (*c).into());
    outcomes.iter().map(own).collect()
}

/// No file below the world but the source has it in the clear.
#[track_caller]
pub(crate) fn nowhere(host: &Host, secret: &str, but: &Path) {
    let mut dirs = vec![host.world.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && path != but {
                dirs.push(path);
            } else if kind.is_file() && path != but {
                let bytes = fs::read(&path).unwrap();
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "it stands in {}", path.display());
            }
        }
    }
}

#[test]
fn a_dotenv_file_comes_in_and_leaves_nothing_readable_behind() {
    needs_root!();
    let host = host("app/database-url");
    let (url, key) = (random_secret(), random_secret());
    let text = format!(
        "\u{feff}# ours\r\nexport DATABASE_URL=\"postgres://{url}@db/x\"\r\nAPI_KEY='{key}\r\nsecond'\r\n\
         EMPTY=\r\nTWICE=1\r\nTWICE=2\r\nREFERS=${{jsi:db/orders}}\r\nHOME_OF=\"$HOME/x\"\r\n"
    );
    let source = file(&host, "app.env", text);
    let expected = [
        ("DATABASE_URL", "app/database-url", "imported"),
        ("API_KEY", "app/api-key", "imported"),
        ("EMPTY", "app/empty", "skipped"),
        ("TWICE", "app/twice", "failed"),
        ("REFERS", "app/refers", "skipped"),
        ("HOME_OF", "app/home-of", "imported"),
    ];
    let run = |more: &[&str]| {
        let more: Vec<&str> = ["--prefix", "app"].iter().chain(more).copied().collect();
        import(&host, &source, &more).without(&url).without(&key)
    };
    let dry = run(&["--dry-run"]).coded(1);
    assert_eq!(outcomes(&dry), all(&expected), "{dry}");
    assert_eq!(
        host.admin(["secret", "ls", "-o", "json"]).run().succeeded().json(),
        serde_json::json!([])
    );

    let out = run(&[]).coded(1).says("not expanded").says("shred -u");
    assert!(out.stdout.contains("lines 6 and 7"), "{out}");
    assert_eq!(outcomes(&out), all(&expected), "{out}");
    let json = out.json();
    assert_eq!(json["items"][1]["bytes"], key.len() + "\nsecond".len());
    let got = host.shell(PEERS[0], "jsi get app/database-url").run();
    got.succeeded().printed(&format!("postgres://{url}@db/x"));

    // Again, and nothing changes; then over it.
    let again = run(&["--exclude", "TWICE"]).succeeded();
    assert_eq!(outcomes(&again)[0].2, "skipped");
    let over = run(&["--only", "DATABASE_*", "--replace"]).succeeded();
    assert_eq!(outcomes(&over), all(&[("DATABASE_URL", "app/database-url", "replaced")]));

    host.await_record("admin", "3 stored, 0 replaced");
    host.await_record("secret_put", "app/api-key");
    for secret in [&url, &key] {
        nowhere(&host, secret, &source);
    }
}

#[test]
fn a_file_is_deleted_only_where_all_of_it_came_in() {
    needs_root!();
    let host = host("a");
    let source = file(&host, "x.env", "A=1\nB=\n");
    import(&host, &source, &["--delete-source"]).succeeded().says("was kept");
    assert_eq!(fs::read_to_string(&source).unwrap(), "A=1\nB=\n");
    let source = file(&host, "x.env", "C=1\n");
    // Another name of the same file shows what was left in it.
    let other = source.with_file_name("other");
    fs::hard_link(&source, &other).unwrap();
    let out = import(&host, &source, &["--delete-source"]).succeeded();
    assert_eq!(out.json()["source_deleted"], true);
    assert!(!source.exists());
    assert_eq!(fs::read(&other).unwrap(), [0; 4]);
    import(&host, host.world.path(), &["--delete-source", "--format", "pass"]).coded(2);
}

#[test]
fn what_others_can_read_is_warned_of_and_a_pipe_is_not_waited_for() {
    needs_root!();
    let host = host("a");
    let source = file(&host, "x.env", "A=1\n");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o644)).unwrap();
    import(&host, &source, &["--dry-run"]).succeeded().says("others can read").says("chmod 600");
    let link = source.with_file_name("link.env");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    import(&host, &link, &["--dry-run"]).succeeded().says("symbolic link");
    let pipe = source.with_file_name("pipe.env");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    import(&host, &pipe, &[]).coded(1).says("standard input");
    import(&host, Path::new("/nowhere/x.env"), &[]).coded(4);
    import(&host, &file(&host, "what", "A=1"), &[]).coded(2).says("--format");
}

#[test]
fn json_comes_in_with_its_fields_and_its_bytes() {
    needs_root!();
    let host = host("db/orders");
    let secret = random_secret();
    let text = format!(
        r#"{{"db/orders": {{"user": "app", "password": {{"value": "{secret}", "default": true}},
             "key": {{"base64": "AAH/"}}}}, "port": 5432, "deep": {{"a": {{"b": "{secret}"}}}}}}"#
    );
    let command = ["secret", "import", "--owner", "ops", "-o", "json", "--format", "json", "-"];
    let out = host.admin(command).input(&text).run().coded(1).without(&secret);
    assert_eq!(
        outcomes(&out),
        all(&[
            ("db/orders", "db/orders", "imported"),
            ("port", "port", "imported"),
            ("deep", "deep", "failed")
        ])
    );
    out.says("1 failed");
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    let key = host.shell(PEERS[0], "jsi get -n db/orders#key | od -An -tx1").run().succeeded();
    assert_eq!(key.stdout.trim(), "00 01 ff");
    nowhere(&host, &secret, Path::new("/"));
}

/// What a user of ten thousand secrets needs: it comes to an end, and every one is
/// there.
#[test]
fn ten_thousand_secrets_come_in_at_once() {
    needs_root!();
    let host = host("a");
    let text: String = (0..10_000).map(|n| format!("NAME_{n}=value-{n}\n")).collect();
    let source = file(&host, "many.env", text);
    let out = import(&host, &source, &["--prefix", "many"]).succeeded();
    assert_eq!(out.json()["imported"], 10_000);
    let listed = host.admin(["secret", "ls", "many", "-o", "json"]).run().succeeded();
    assert_eq!(listed.json().as_array().unwrap().len(), 10_000);
}

#[test]
fn one_that_is_too_long_fails_and_the_others_come_in() {
    needs_root!();
    let host = host("a");
    let long = "x".repeat(1024 * 1024 + 1);
    let source = file(&host, "x.env", format!("A=1\nLONG={long}\nB=2\n"));
    let out = import(&host, &source, &[]).coded(1);
    let found = outcomes(&out).into_iter().map(|(_, _, outcome)| outcome).collect::<Vec<_>>();
    assert_eq!(found, ["imported", "failed", "imported"]);
    // As does a name that the store's files cannot have.
    let source = file(&host, "x.json", r#"{"x.age/y": "1", "c": "2", "C": "3", "d": "4"}"#);
    let out = import(&host, &source, &[]).coded(1);
    let found = outcomes(&out).into_iter().map(|(_, _, outcome)| outcome).collect::<Vec<_>>();
    assert_eq!(found, ["failed", "failed", "failed", "imported"], "{out}");
}
