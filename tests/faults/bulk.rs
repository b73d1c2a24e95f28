//! Imports and restores that are cut off: by SIGKILL, by a full disk, by a file that
//! nobody may write.

use jsi_tests::{Host, PEERS, Setup, needs_root, permit, random_secret};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

fn host() -> Host {
    Setup::host()
        .start(|world| vec![("one", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))])
}

fn scratch(host: &Host, name: &str) -> PathBuf {
    let dir = host.world.path().join("scratch");
    fs::create_dir_all(&dir).unwrap();
    dir.join(name)
}

/// Every file below the store, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// What operators see is whole: nothing is damaged, nothing half there.
#[track_caller]
fn is_whole(host: &Host) -> usize {
    let status = host.admin(["status"]).run().succeeded();
    assert!(!status.stdout.contains("cannot be used"), "{status}");
    let listed = host.admin(["secret", "ls", "-o", "json"]).run().succeeded().json();
    let export = scratch(host, "export");
    let _ = fs::remove_dir_all(&export);
    let count = listed.as_array().unwrap().len();
    if count > 0 {
        let all = ["secret", "export", "--all", "--into", export.to_str().unwrap()];
        host.admin(all).run().succeeded();
    }
    count
}

#[test]
fn an_agent_killed_in_the_middle_of_an_import_has_whole_secrets_and_takes_the_rest_later() {
    needs_root!();
    let mut host = host();
    let text: String = (0..3_000).map(|n| format!("NAME_{n}=value-{n}\n")).collect();
    let source = scratch(&host, "many.env");
    fs::write(&source, text).unwrap();
    let words = ["secret", "import", "--owner", "o", source.to_str().unwrap()];
    let mut command = host.admin(words).into_command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let importing = command.spawn().unwrap();
    jsi_tests::until("some are stored", Duration::from_secs(30), || {
        let stored = fs::read_dir(host.world.store_dir()).unwrap().flatten();
        let whole = |name: &std::ffi::OsString| !name.to_string_lossy().starts_with('.');
        (stored.map(|entry| entry.file_name()).filter(whole).count() > 200).then_some(())
    });
    host.crash();
    let out = importing.wait_with_output().unwrap();
    assert_ne!(out.status.code(), Some(0));
    host.start();
    let some = is_whole(&host);
    assert!((50..3_000).contains(&some), "{some}");
    host.admin(words).run().succeeded();
    assert_eq!(is_whole(&host), 3_000);
    host.admin(["audit", "verify"]).run().succeeded();
}

#[test]
fn an_agent_killed_while_a_backup_comes_in_has_the_old_store() {
    needs_root!();
    let mut host = host();
    for n in 0..20 {
        host.put(&format!("big/{n}"), &"x".repeat(100_000));
    }
    let backup = scratch(&host, "b.tar");
    host.admin(["backup", backup.to_str().unwrap()]).run().succeeded();
    let secret = random_secret();
    host.put("db/orders", &secret);
    let before = files(&host.world.store_dir());
    let bytes = fs::read(&backup).unwrap();
    let mut command = host.admin(["restore", "-", "--replace"]).into_command();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut restoring = command.spawn().unwrap();
    let mut stdin = restoring.stdin.take().unwrap();
    stdin.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let staged = host.world.store_dir().join(".restore/new/big");
    jsi_tests::until("half of it has come in", Duration::from_secs(10), || {
        fs::read_dir(&staged).is_ok_and(|files| files.count() > 5).then_some(())
    });
    host.crash();
    drop(stdin);
    assert_ne!(restoring.wait().unwrap().code(), Some(0));
    host.start();
    assert_eq!(files(&host.world.store_dir()), before);
    assert!(!host.world.store_dir().join(".restore").exists());
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    host.admin(["restore", backup.to_str().unwrap(), "--replace", "--verify"]).run().succeeded();
    assert_eq!(is_whole(&host), 20);
}

#[test]
fn a_full_disk_leaves_the_old_store_and_says_so() {
    needs_root!();
    let mut host = Setup::host().install();
    let store = host.world.store_dir();
    let options = Some("size=2m,mode=700");
    mount(Some("jsi-tests"), &store, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    host.world.give(&store);
    let shell = host.world.bin("shell");
    host.world.write_policy("one", &permit(PEERS[0].uid, "db/orders", &shell));
    host.start();
    for n in 0..8 {
        host.put(&format!("big/{n}"), &"x".repeat(100_000));
    }
    let backup = scratch(&host, "b.tar");
    host.admin(["backup", backup.to_str().unwrap()]).run().succeeded();
    let secret = random_secret();
    host.put("db/orders", &secret);
    for n in 0..3 {
        host.put(&format!("more/{n}"), &"x".repeat(200_000));
    }
    let before = files(&store);
    let restore = ["restore", backup.to_str().unwrap(), "--replace"];
    host.admin(restore).run().coded(1).says("space");
    assert_eq!(files(&store), before);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);

    // An import that finds no room fails in part, leaves nothing half there, and
    // shows no value.
    let value = random_secret();
    let text: String = (0..8).map(|n| format!("N{n}={value}{}\n", "y".repeat(100_000))).collect();
    let source = scratch(&host, "x.env");
    fs::write(&source, text).unwrap();
    let import = ["secret", "import", "--owner", "o", "-o", "json", source.to_str().unwrap()];
    let out = host.admin(import).run().coded(1).without(&value);
    let json = out.json();
    assert!(
        json["failed"].as_u64().unwrap() > 0 && json["imported"].as_u64().unwrap() > 0,
        "{json}"
    );
    host.stop();
    host.start();
    assert_eq!(is_whole(&host), 12 + json["imported"].as_u64().unwrap() as usize);
    // With room again it goes on.
    for n in 0..3 {
        host.admin(["secret", "rm", &format!("more/{n}")]).run().succeeded();
        host.admin(["secret", "rm", &format!("big/{n}")]).run().succeeded();
    }
    host.admin(import).run().succeeded();
}

#[test]
fn a_backup_that_finds_no_room_leaves_no_file() {
    needs_root!();
    let host = host();
    for n in 0..8 {
        host.put(&format!("big/{n}"), &"x".repeat(100_000));
    }
    let small = scratch(&host, "small");
    fs::create_dir(&small).unwrap();
    let options = Some("size=256k,mode=700");
    mount(Some("jsi-tests"), &small, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    let file = small.join("b.tar");
    host.admin(["backup", file.to_str().unwrap()]).run().coded(1).says("space");
    let left: Vec<_> = fs::read_dir(&small).unwrap().flatten().collect();
    nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(left.is_empty(), "{left:?}");
    // Nor does the agent keep what it read for it.
    jsi_tests::until("nothing of it is left", Duration::from_secs(10), || {
        let entries = fs::read_dir(host.world.store_dir()).unwrap().flatten();
        let hidden = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        (hidden.count() == 0).then_some(())
    });
}

#[test]
fn a_source_that_cannot_be_read_or_removed_is_said_to_be() {
    needs_root!();
    let host = Setup::user(PEERS[0].uid).start(|_| Vec::new());
    let dir = scratch(&host, "");
    let source = dir.join("x.env");
    fs::write(&source, "A=1\n").unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&source, mode(0o600)).unwrap();
    let import = |more: &[&str]| {
        host.admin(["secret", "import", "--owner", "o", source.to_str().unwrap()]).args(more).run()
    };
    // Root's, and its agent's user may not.
    import(&[]).coded(1).says("Permission denied");
    fs::set_permissions(&source, mode(0o644)).unwrap();
    import(&["--delete-source"]).succeeded().says("was kept: Permission denied");
    assert_eq!(fs::read_to_string(&source).unwrap(), "A=1\n");
}
