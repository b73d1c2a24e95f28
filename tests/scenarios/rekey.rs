//! Change of identity, by `jsi-agent rekey`: the standard `age` opens every
//! file before with the old one and after with the new one, whatever happens.

use jsi_tests::{Host, PEERS, Setup, needs_root, random_secret};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A user agent with that many secrets; stopped.
fn stopped(secrets: usize) -> Host {
    let mut host = Setup::user(PEERS[0].uid).install();
    host.start();
    for number in 0..secrets {
        host.put(&format!("db/number-{number}"), &format!("value-{number}"));
    }
    host.stop();
    host
}

fn rekey(host: &Host, words: &[&str], input: &str) -> Output {
    let mut command = host.agent_command();
    command.arg("rekey").arg("--config").arg(host.world.config()).args(words);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Age files of the store, sorted.
fn age_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|ending| ending == "age") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// What `age` makes of a file under that identity; `None`: it does not open.
fn opened(identity: &Path, file: &Path) -> Option<String> {
    let out = Command::new("/usr/bin/age")
        .args(["--decrypt", "--identity"])
        .arg(identity)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

fn kept(host: &Host) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(host.world.path().join("key")).unwrap().flatten();
    let mut old: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("identity.old-"))
        .collect();
    old.sort();
    old
}

#[test]
fn a_stopped_agents_store_goes_from_identity_to_identity() {
    needs_root!();
    let mut host = stopped(3);
    let (store, identity) = (host.world.store_dir(), host.world.identity());
    host.start();
    let refused = rekey(&host, &["--no-passphrase"], "");
    assert!(!refused.status.success() && said(&refused).contains("nothing was changed"));
    assert!(kept(&host).is_empty());
    host.stop();
    let before = std::fs::read(&identity).unwrap();

    // To a passphrase.
    let passphrase = random_secret();
    let out = rekey(&host, &["--stdin"], &format!("{passphrase}\n"));
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("3 of 3 files"), "{}", said(&out));
    let old = kept(&host);
    assert_eq!(std::fs::read(&old[0]).unwrap(), before);
    assert_eq!(std::fs::metadata(&old[0]).unwrap().permissions().mode() & 0o7777, 0o600);
    for file in age_files(&store) {
        assert!(opened(&old[0], &file).is_none(), "{}", file.display());
    }
    host.start();
    host.admin(["unlock"]).input("another").run().coded(3);
    host.admin(["unlock"]).input(&passphrase).run().succeeded();
    let listed = host.admin(["secret", "ls", "-o", "json"]).run().succeeded();
    assert!(!listed.stdout.contains("fault"), "{listed}");
    host.stop();

    // To an SSH key: a copy of it.
    let key = host.world.path().join("id_ed25519");
    let made = Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    host.world.give(&key);
    let wrong = rekey(&host, &["--stdin", "--ssh-key", key.to_str().unwrap()], "wrong\n");
    assert_eq!(wrong.status.code(), Some(3), "{}", said(&wrong));
    let input = format!("{passphrase}\n");
    let out = rekey(&host, &["--stdin", "--ssh-key", key.to_str().unwrap()], &input);
    assert!(out.status.success(), "{}", said(&out));
    assert!(!said(&out).contains(&passphrase));
    assert_eq!(std::fs::read(&identity).unwrap(), std::fs::read(&key).unwrap());
    // The journal key is one of the files now.
    let files = age_files(&store);
    assert_eq!(files.len(), 4, "{files:?}");
    let texts: Vec<_> = files.iter().map(|file| opened(&key, file).unwrap()).collect();
    for number in 0..3 {
        let value = format!("value-{number}");
        assert!(texts.iter().any(|text| text.contains(&value)), "{value}");
    }
    host.start();
    let acts = host.records();
    let told = acts.iter().filter(|record| record["act"] == "rekey").count();
    assert_eq!(told, 2, "both stand in the log");
    host.stop();
}

#[test]
fn killed_at_any_moment_everything_opens_by_one_identity_at_the_next_start() {
    needs_root!();
    let mut host = stopped(25);
    let store = host.world.store_dir();
    let (mut forgotten, mut finished) = (0, 0);
    for delay in [0, 5, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400, 600] {
        let before = std::fs::read(host.world.identity()).unwrap();
        let mut command = host.agent_command();
        command.arg("rekey").arg("--config").arg(host.world.config()).arg("--no-passphrase");
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        host.start();
        let status = host.admin(["status", "-o", "json"]).run().succeeded().json();
        assert_eq!(status["locked"], false, "{status}");
        host.stop();
        let identity = host.world.identity();
        for file in age_files(&store) {
            assert!(opened(&identity, &file).is_some(), "{delay} ms: {}", file.display());
        }
        assert!(!store.join(".rekey").exists());
        if std::fs::read(&identity).unwrap() == before {
            forgotten += 1;
        } else {
            finished += 1;
        }
    }
    println!("{forgotten} times forgotten, {finished} times finished");
    assert!(forgotten > 0, "none was killed early enough");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn on_a_full_or_read_only_disk_nothing_changes() {
    use nix::mount::{MsFlags, mount};
    needs_root!();
    let mut host = Setup::user(PEERS[0].uid).install();
    let store = host.world.store_dir();
    let (uid, none) = (PEERS[0].uid, None::<&str>);
    let data = format!("size=256k,mode=0700,uid={uid},gid={uid}");
    mount(Some("tmpfs"), &store, Some("tmpfs"), MsFlags::empty(), Some(data.as_str())).unwrap();
    let _mounted = Mounted(store.clone());
    host.start();
    let value = "x".repeat(40_000);
    for name in ["a", "b", "c"] {
        host.put(name, &value);
    }
    host.stop();
    let bytes = |files: Vec<PathBuf>| -> Vec<_> {
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    };
    let (before, identity) =
        (bytes(age_files(&store)), std::fs::read(host.world.identity()).unwrap());
    let unchanged = |out: &Output, says: &str| {
        let said = said(out);
        assert!(!out.status.success() && said.contains(says), "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
        assert_eq!(bytes(age_files(&store)), before);
        assert_eq!(std::fs::read(host.world.identity()).unwrap(), identity);
        assert!(!store.join(".rekey").exists());
        let beside = std::fs::read_dir(host.world.path().join("key")).unwrap().flatten();
        let left: Vec<_> = beside.map(|entry| entry.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains(".new")), "{left:?}");
    };
    unchanged(&rekey(&host, &["--no-passphrase"], ""), "No space left");
    mount(none, &store, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    unchanged(&rekey(&host, &["--no-passphrase"], ""), "Read-only");
    mount(none, &store, none, MsFlags::MS_REMOUNT, Some(data.as_str())).unwrap();
    host.start();
    assert_eq!(host.admin(["status", "-o", "json"]).run().json()["locked"], false);
    host.stop();
}

#[test]
fn a_host_agents_store_is_rekeyed_by_root_and_stays_the_agents() {
    needs_root!();
    let mut host = Setup::host().install();
    host.start();
    host.put("db/orders", "value");
    host.stop();
    let out = rekey(&host, &["--host", "--no-passphrase"], "");
    assert!(out.status.success(), "{}", said(&out));
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(host.world.store_dir()).unwrap().uid();
    for path in age_files(&host.world.store_dir()).iter().chain([&host.world.identity()]) {
        let facts = std::fs::metadata(path).unwrap();
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (owner, 0o600), "{}", path.display());
    }
    host.start();
    assert_eq!(host.admin(["status", "-o", "json"]).run().json()["locked"], false);
    host.stop();
}

#[test]
fn a_plugins_identity_takes_the_place_of_a_key_file_and_gives_it_back() {
    needs_root!();
    let mut host = stopped(2);
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/age-plugin-jsitest");
    host.world.install(&plugin, "age-plugin-jsitest");
    let text = std::fs::read_to_string(host.world.config()).unwrap();
    let dirs = format!(
        "[agent]\nplugin_dirs = [{:?}]\n",
        host.world.path().join("bin").display().to_string()
    );
    std::fs::write(host.world.config(), text.replacen("[agent]\n", &dirs, 1)).unwrap();
    let made = Command::new(&plugin).output().unwrap().stdout;
    let new = host.world.path().join("plugin-identity");
    std::fs::write(&new, made).unwrap();
    host.world.give(&new);
    let out = rekey(&host, &["--identity", new.to_str().unwrap()], "");
    assert!(out.status.success(), "{}", said(&out));
    host.start();
    jsi_tests::until("the plugin has opened it", Duration::from_secs(20), || {
        let status = host.admin(["status", "-o", "json"]).run().succeeded().json();
        (status["locked"] == false).then_some(())
    });
    host.put("db/number-2", "value-2");
    host.stop();
    let out = rekey(&host, &["--no-passphrase"], "");
    assert!(out.status.success(), "{}", said(&out));
    let files = age_files(&host.world.store_dir());
    assert_eq!(files.len(), 4);
    for file in files {
        assert!(opened(&host.world.identity(), &file).is_some(), "{}", file.display());
    }
}
