//! Identities of other programs: age plugins and systemd credentials, opened
//! by the launcher's process and never by the broker.

use jsi_tests::{Host, PEERS, Setup, needs_root, not_run, permit, random_secret, until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The plugin of the tests; `age` itself takes it for one.
fn plugin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/age-plugin-jsitest")
}

/// Replaces the identity of an agent that is not started yet.
fn adopt(host: &Host, identity: &[u8]) {
    let path = host.world.identity();
    std::fs::write(&path, identity).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    host.world.give(&path);
}

/// More lines of `[agent]`, which may name files of the world.
fn configure(host: &Host, lines: &str) {
    let text = std::fs::read_to_string(host.world.config()).unwrap();
    let text = text.replacen("[agent]\n", &format!("[agent]\n{lines}\n"), 1);
    std::fs::write(host.world.config(), text).unwrap();
}

/// A host agent with a plugin identity made with those words; not started.
fn with_plugin(words: &[&str]) -> (Host, PathBuf) {
    let count = PathBuf::from(format!("/var/lib/jsi-tests-count-{}", random_secret()));
    let setup = Setup::host().env("JSITEST_COUNT", count.to_str().unwrap());
    let host = setup.install();
    let made = Command::new(plugin()).args(words).output().unwrap();
    assert!(made.status.success());
    adopt(&host, &made.stdout);
    host.world.install(&plugin(), "age-plugin-jsitest");
    let bin = host.world.path().join("bin");
    configure(&host, &format!("plugin_dirs = [{:?}]", bin.display().to_string()));
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &shell));
    std::fs::write(&count, "").unwrap();
    host.world.give(&count);
    (host, count)
}

struct Counted(PathBuf);

impl Counted {
    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn status(host: &Host) -> serde_json::Value {
    host.admin(["status", "-o", "json"]).run().succeeded().json()
}

fn await_open(host: &Host) {
    until("the identity is open", Duration::from_secs(20), || {
        (status(host)["locked"] == false).then_some(())
    });
}

#[test]
fn a_plugin_is_asked_beside_the_broker_and_age_opens_what_it_sealed() {
    needs_root!();
    let (mut host, count) = with_plugin(&[]);
    let count = Counted(count);
    host.start();
    await_open(&host);
    assert_eq!(status(&host)["lock"]["identity"], "age plugin");
    let secret = random_secret();
    host.put("db/orders", &secret);
    let before = count.lines().len();
    // A lease keeps what was opened; the plugin is asked once for both reads.
    let script = "jsi get db/orders && jsi get db/orders";
    let out = host.shell(PEERS[0], script).run().succeeded();
    assert_eq!(out.stdout.matches(&secret).count(), 2, "{out}");
    assert_eq!(count.lines().len(), before + 1);
    // With its last lease that is gone, and the plugin is asked again.
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    assert_eq!(count.lines().len(), before + 2);
    assert!(
        count.lines().iter().all(|line| line == "unwrapped for jsi-unwrap"),
        "{count:?}",
        count = count.lines()
    );

    host.admin(["lock"]).run().succeeded();
    host.shell(PEERS[0], "jsi get db/orders").run().coded(6).without(&secret);
    host.admin(["unlock"]).run().succeeded();
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);

    let opened = Command::new("/usr/bin/age")
        .env("PATH", host.world.path().join("bin"))
        .args(["--decrypt", "--identity"])
        .arg(host.world.identity())
        .arg(host.world.store_dir().join("db/orders.age"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&opened.stdout).contains(&secret), "{opened:?}");
    // The journal key is the same after a new start.
    host.stop();
    host.start();
    await_open(&host);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn a_plugin_that_is_missing_or_hangs_leaves_the_agent_locked_and_serving() {
    needs_root!();
    let (mut host, count) = with_plugin(&["hang"]);
    let _count = Counted(count);
    host.start();
    let why = || status(&host)["locked_reason"].as_str().unwrap().to_owned();
    assert!(why().contains("plugin is being asked"), "{}", why());
    host.shell(PEERS[0], "jsi whoami").run().succeeded();
    let hanging = || {
        let bin = host.world.bin("age-plugin-jsitest");
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(bin.to_str().unwrap())
            })
            .count()
    };
    until("the plugin hangs", Duration::from_secs(10), || (hanging() == 1).then_some(()));
    host.signal(nix::sys::signal::Signal::SIGTERM);
    until("the plugin ends with the agent", Duration::from_secs(10), || {
        (hanging() == 0).then_some(())
    });
    host.wait();

    std::fs::remove_file(host.world.bin("age-plugin-jsitest")).unwrap();
    host.start();
    until("the start has given up", Duration::from_secs(10), || {
        let why = status(&host)["locked_reason"].as_str().unwrap().to_owned();
        (why.contains("age-plugin-jsitest") && why.contains("plugin_dirs")).then_some(())
    });
    let bin = host.world.path().join("bin");
    let refused = host.admin(["unlock"]).run().coded(1);
    refused.says(bin.to_str().unwrap());
}

#[test]
fn a_plugin_gets_its_pin_from_pinentry_and_at_the_start_from_nobody() {
    needs_root!();
    let (mut host, count) = with_plugin(&["pin"]);
    let _count = Counted(count);
    let pinentry = host.world.bin("pinentry-of-the-test");
    configure(&host, &format!("pinentry = {:?}", pinentry.display().to_string()));
    host.start();
    until("the start has given up", Duration::from_secs(20), || {
        let why = status(&host)["locked_reason"].as_str().unwrap().to_owned();
        println!("{why}");
        (why.contains("asks for a PIN") && why.contains("jsi unlock")).then_some(())
    });
    assert_eq!(status(&host)["lock"]["unlock_with"], "plugin");
    host.admin(["unlock"]).run().coded(1).says("install a pinentry");
    let answers = |with: &str| {
        let script = format!(
            "#!/bin/sh\necho OK\nwhile read -r word rest; do case $word in \
             GETPIN) printf '%b\\n' '{with}';; BYE) exit;; *) echo OK;; esac; done\n"
        );
        std::fs::write(&pinentry, script).unwrap();
        std::fs::set_permissions(&pinentry, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    answers("D 999999\\nOK");
    host.admin(["unlock"]).run().coded(1).says("PIN is wrong");
    answers("ERR 83886179 Operation cancelled");
    host.admin(["unlock"]).run().coded(1).says("cancelled");
    answers("ERR 83918950 Inappropriate ioctl for device");
    host.admin(["unlock"]).run().coded(1).says("GPG_TTY");
    assert_eq!(status(&host)["locked"], true);
    answers("D 123456\\nOK");
    host.admin(["unlock"]).run().succeeded();
    let secret = random_secret();
    host.put("db/orders", &secret);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    // Without an answer nothing is read, and the error names the plugin.
    answers("ERR 83886179 Operation cancelled");
    host.shell(PEERS[0], "jsi get db/orders").run().coded(1).says("age-plugin-jsitest");
}

/// The key in the credential, and the credential.
fn credential(with_key: &str) -> Option<(String, Vec<u8>)> {
    let creds = Path::new("/usr/bin/systemd-creds");
    if !creds.exists() || !Path::new("/usr/bin/age-keygen").exists() {
        not_run(module_path!(), line!(), "systemd-creds and age-keygen are needed");
        return None;
    }
    // Makes the host key where there is none yet.
    let _ = Command::new(creds).arg("setup").output();
    let key = Command::new("/usr/bin/age-keygen").output().unwrap().stdout;
    let mut encrypt = Command::new(creds);
    encrypt.args(["encrypt", "--name=jsi-identity", with_key, "-", "-"]);
    let mut child = encrypt
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &key).unwrap();
    let out = child.wait_with_output().unwrap();
    if !out.status.success() {
        not_run(module_path!(), line!(), "systemd-creds cannot encrypt here");
        return None;
    }
    Some((String::from_utf8(key).unwrap(), out.stdout))
}

#[test]
fn a_host_agent_opens_a_systemd_credential_at_its_start_and_again_only_by_root() {
    needs_root!();
    let Some((key, sealed)) = credential("--with-key=host") else { return };
    let mut host = Setup::host().install();
    adopt(&host, &sealed);
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &shell));
    host.start();
    let secret = random_secret();
    host.put("db/orders", &secret);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    assert_eq!(status(&host)["lock"]["identity"], "systemd credential");
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("key");
    std::fs::write(&plain, &key).unwrap();
    let opened = Command::new("/usr/bin/age")
        .args(["--decrypt", "--identity"])
        .arg(&plain)
        .arg(host.world.store_dir().join("db/orders.age"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&opened.stdout).contains(&secret), "{opened:?}");

    host.admin(["lock"]).run().succeeded();
    // Its own user has no host key.
    host.admin(["unlock"]).run().coded(1).says("sudo systemd-creds decrypt");
    let other = String::from_utf8(Command::new("/usr/bin/age-keygen").output().unwrap().stdout);
    for wrong in [other.unwrap(), "hunter2".to_owned(), "AGE-SECRET-KEY-1QQ".to_owned()] {
        let refused = host.admin(["unlock", "--stdin"]).input(&wrong).run().coded(3);
        assert!(!refused.stderr.contains(wrong.trim()), "{refused}");
    }
    host.admin(["unlock", "--stdin"]).input(&key).run().succeeded();
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
}

#[test]
fn a_credential_of_another_name_is_not_decrypted_for_the_agent() {
    needs_root!();
    let Some(_) = credential("--with-key=host") else { return };
    let mut child = Command::new("/usr/bin/systemd-creds")
        .args(["encrypt", "--name=somebody-elses", "--with-key=host", "-", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let planted = Command::new("/usr/bin/age-keygen").output().unwrap().stdout;
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &planted).unwrap();
    let sealed = child.wait_with_output().unwrap().stdout;
    let mut host = Setup::host().install();
    adopt(&host, &sealed);
    host.start();
    let status = status(&host);
    assert_eq!(status["locked"], true, "{status}");
    assert!(!host.world.said().contains("AGE-SECRET-KEY"));
}

#[test]
fn an_ssh_key_with_a_passphrase_unlocks_a_user_agent() {
    needs_root!();
    let mut host = Setup::user(PEERS[0].uid).install();
    let passphrase = random_secret();
    let key = host.world.path().join("id_ed25519");
    let made = Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", &passphrase, "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    adopt(&host, &std::fs::read(&key).unwrap());
    host.start();
    let before = status(&host);
    assert_eq!(before["locked"], true);
    assert_eq!(before["lock"]["unlock_with"], "passphrase");
    let reasons = before["advisory_reasons"].to_string();
    assert!(!reasons.contains("identity key file"), "{reasons}");
    host.admin(["unlock"]).input("wrong").run().coded(3);
    host.admin(["unlock"]).input(&passphrase).run().succeeded();
    host.put("db/orders", "value");
    assert_eq!(status(&host)["locked"], false);
}
