//! Secrets that come in from stores that real tools made: pass with gpg, passage's
//! layout with age, systemd credentials.

use crate::import::{file, host, import, nowhere};
use jsi_tests::{Host, PEERS, needs_root, random_secret};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

macro_rules! needs_tool {
    ($tool:literal) => {
        if !Path::new("/usr/bin").join($tool).exists() {
            jsi_tests::not_run(module_path!(), line!(), concat!($tool, " is not installed"));
            return;
        }
    };
}

/// Runs a tool to its end.
fn run(command: &mut Command, input: &str) -> Vec<u8> {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// A gpg home with a key of its own; its gpg-agent ends with it.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Self {
        // The agent's socket lies in it: its path must be short.
        let home = tempfile::Builder::new().prefix("jsi-gpg.").tempdir_in("/tmp").unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let gpg = Self { home };
        let mut make = gpg.command("gpg");
        make.args(["--batch", "--passphrase", "", "--quick-generate-key"]);
        run(make.args(["jsi-tests@example.org", "default", "default", "never"]), "");
        gpg
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", self.home.path()).env("HOME", self.home.path());
        command
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = self.command("gpgconf").args(["--kill", "all"]).status();
    }
}

/// Looks at every command line of the machine until it is dropped.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Watcher {
    fn of(secrets: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let look = move || {
            let mut looked = 0;
            while !stopped.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    for file in ["cmdline", "environ"] {
                        let Ok(bytes) = fs::read(entry.path().join(file)) else { continue };
                        let text = String::from_utf8_lossy(&bytes);
                        let found = secrets.iter().any(|secret| text.contains(secret));
                        assert!(!found, "a value stands in {file} of {:?}", entry.path());
                        looked += 1;
                    }
                }
            }
            looked
        };
        Self { stop, thread: Some(std::thread::spawn(look)) }
    }

    fn saw_nothing(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.thread.take().unwrap().join().unwrap() > 0);
    }
}

#[test]
fn a_password_store_of_pass_comes_in() {
    needs_root!();
    needs_tool!("pass");
    needs_tool!("gpg");
    let host = host("work/db/orders");
    let gpg = Gpg::new();
    let store = gpg.home.path().join("store");
    let pass = || {
        let mut pass = gpg.command("pass");
        pass.env("PASSWORD_STORE_DIR", &store);
        pass
    };
    run(pass().args(["init", "jsi-tests@example.org"]), "");
    let (secret, otp, single) = (random_secret(), random_secret(), random_secret());
    let entry =
        format!("{secret}\nUser: app\nurl: https://db\notpauth://totp/x?secret={otp}\nnote\n");
    run(pass().args(["insert", "--multiline", "work/DB/orders"]), &entry);
    run(pass().args(["insert", "--multiline", "single"]), &single);
    // One that nobody here can open, one that is no entry, one that leads away.
    fs::write(store.join("foreign.gpg"), "no gpg file").unwrap();
    fs::write(store.join("README"), "read me").unwrap();
    std::os::unix::fs::symlink(store.join("single.gpg"), store.join("link.gpg")).unwrap();

    let watcher = Watcher::of(vec![secret.clone(), otp.clone(), single.clone()]);
    let command = ["secret", "import", "--owner", "ops", "-o", "json", "--plain", "user"];
    let out = host
        .admin(command)
        .args([&store])
        .env("GNUPGHOME", gpg.home.path())
        .run()
        .coded(1)
        .without(&secret)
        .without(&otp)
        .without(&single);
    watcher.saw_nothing();
    let json = out.json();
    assert_eq!(json["format"], "pass");
    let outcome = |source: &str| {
        let items = json["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["source"] == source);
        item.unwrap_or_else(|| panic!("{source}: {out}")).clone()
    };
    let entry = outcome("work/DB/orders");
    assert_eq!((&entry["name"], &entry["outcome"]), (&"work/db/orders".into(), &"imported".into()));
    assert_eq!(entry["fields"], serde_json::json!(["password", "user", "url", "otp", "notes"]));
    assert_eq!(outcome("single")["fields"], serde_json::json!(["password"]));
    assert_eq!(outcome("foreign")["outcome"], "failed");
    assert!(outcome("foreign")["reason"].as_str().unwrap().starts_with("gpg: "), "{out}");
    assert_eq!(outcome("README")["outcome"], "skipped");
    assert_eq!(outcome("link.gpg")["outcome"], "skipped");

    let get = |field: &str| host.shell(PEERS[0], &format!("jsi get work/db/orders{field}")).run();
    get("").succeeded().printed(&secret);
    get("#otp").succeeded().printed(&format!("otpauth://totp/x?secret={otp}"));
    get("#notes").succeeded().printed("note");
    for secret in [&secret, &otp, &single] {
        nowhere(&host, secret, gpg.home.path());
    }
    // What is there already is not opened again: without a key it is all the same.
    let without = ["secret", "import", "--owner", "ops", "--only", "work/*"];
    host.admin(without).args([&store]).env("GNUPGHOME", "/nonexistent").run().succeeded();
}

#[test]
fn a_tool_that_is_missing_is_named_and_nothing_is_imported() {
    needs_root!();
    let host = host("a");
    let store = file(&host, "a.gpg", "x").parent().unwrap().to_owned();
    let out = host.admin(["secret", "import", "--owner", "o", "--format", "pass"]).args([&store]);
    out.env("PATH", "/nonexistent").run().coded(1).says("gpg").says("apt install gnupg");
}

fn passage(host: &Host) -> (PathBuf, PathBuf) {
    let identity = file(host, "identities", run(&mut Command::new("age-keygen"), ""));
    let shown = run(Command::new("age-keygen").arg("-y").arg(&identity), "");
    let recipient = String::from_utf8(shown).unwrap().trim().to_owned();
    let store = identity.with_file_name("store");
    fs::create_dir_all(store.join("work")).unwrap();
    fs::write(store.join(".age-recipients"), &recipient).unwrap();
    (store, identity)
}

#[test]
fn a_store_in_the_layout_of_passage_comes_in() {
    needs_root!();
    needs_tool!("age");
    let host = host("work/token");
    let (store, _) = passage(&host);
    let secret = random_secret();
    let recipients = store.join(".age-recipients");
    let seal = |name: &str, text: &str| {
        let mut age = Command::new("age");
        age.arg("-e").arg("-R").arg(&recipients).arg("-o").arg(store.join(name));
        run(&mut age, text);
    };
    seal("work/token.age", &format!("{secret}\nuser: app\n"));
    fs::write(store.join("broken.age"), "age-encryption.org/v1\nbroken").unwrap();
    // The store itself, and the directory that holds it and the identities.
    let out = import(&host, &store, &["--dry-run"]).coded(1);
    assert_eq!(out.json()["format"], "passage");
    let out = import(&host, store.parent().unwrap(), &["--format", "passage"]).coded(1);
    let json = out.without(&secret).json();
    assert_eq!(json["items"][0]["outcome"], "failed", "{json}");
    assert_eq!(json["items"][1]["outcome"], "imported", "{json}");
    host.shell(PEERS[0], "jsi get work/token").run().succeeded().printed(&secret);
    host.shell(PEERS[0], "jsi get work/token#user").run().succeeded().printed("app");
    nowhere(&host, &secret, Path::new("/"));
    let other = file(&host, "other", run(&mut Command::new("age-keygen"), ""));
    let wrong = ["--age-identity", other.to_str().unwrap(), "--replace", "--only", "work/*"];
    import(&host, &store, &wrong).coded(1);
    host.shell(PEERS[0], "jsi get work/token").run().succeeded().printed(&secret);
}

#[test]
fn systemd_credentials_come_in_sealed_and_in_the_clear() {
    needs_root!();
    needs_tool!("systemd-creds");
    let host = host("svc/tls.key");
    let secret = random_secret();
    let plain = file(&host, "plain", b"\0\xff bytes\n");
    let dir = plain.parent().unwrap();
    let sealed = dir.join("tls.key.cred");
    let mut encrypt = Command::new("systemd-creds");
    encrypt.args(["encrypt", "--with-key=host", "--name=tls.key", "-"]).arg(&sealed);
    encrypt.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = encrypt.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), secret.as_bytes()).unwrap();
    if !child.wait().unwrap().success() {
        jsi_tests::not_run(module_path!(), line!(), "systemd-creds encrypt does not work here");
        return;
    }
    // A credential under another name than it was sealed for is not taken.
    fs::copy(&sealed, dir.join("other.cred")).unwrap();
    let out = import(&host, dir, &["--prefix", "svc"]).coded(1).without(&secret);
    let json = out.json();
    assert_eq!(json["format"], "systemd-creds");
    assert_eq!(json["items"][0]["outcome"], "failed", "{json}");
    assert_eq!(json["items"][1]["bytes"], 9, "{json}");
    assert_eq!(json["items"][2]["name"], "svc/tls.key", "{json}");
    host.shell(PEERS[0], "jsi get svc/tls.key").run().succeeded().printed(&secret);
    let one = import(&host, &sealed, &["--replace", "--prefix", "svc"]).succeeded();
    assert_eq!(one.json()["replaced"], 1);
    // As a service finds them.
    let dir = dir.to_owned();
    let own = ["secret", "import", "--owner", "o", "--format", "systemd-creds", "--only", "plain"];
    host.admin(own).env("CREDENTIALS_DIRECTORY", dir).run().succeeded();
    nowhere(&host, &secret, Path::new("/"));
}
