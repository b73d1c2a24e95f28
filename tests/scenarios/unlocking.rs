//! Lock and unlock: by passphrase, on a terminal and by pinentry, by itself
//! after a time, and what a locked agent goes on doing.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, Program, Setup, needs_root, not_run, permit, random_secret, until};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn status(host: &Host) -> serde_json::Value {
    host.admin(["status", "-o", "json"]).run().succeeded().json()
}

fn locked(host: &Host) -> bool {
    status(host)["locked"] == true
}

#[test]
fn a_lock_passphrase_is_the_only_thing_that_unlocks_until_the_agent_ends() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let passphrase = "two\nlines, \u{e9} and more".to_owned();
    host.admin(["lock", "--passphrase", "--stdin"]).input("").run().coded(1).says("empty");
    assert!(!locked(&host));
    host.admin(["lock", "--passphrase", "--stdin"])
        .input(format!("{passphrase}\n"))
        .run()
        .succeeded();
    assert_eq!(status(&host)["lock"]["unlock_with"], "passphrase");
    host.admin(["unlock", "--no-passphrase"]).run().coded(3).says("wrong");
    let long = "x".repeat(1024 * 1024);
    host.admin(["unlock", "--stdin"]).input(&long).run().coded(2).says("4096");
    for wrong in ["two", "two\nlines", "two\0lines", ""] {
        host.admin(["unlock", "--stdin"]).input(wrong).run().coded(3).without(&secret);
    }
    host.admin(["unlock", "--stdin"]).input(b"\xff\xfe\0").run().coded(3);
    // A second lock cannot put another passphrase in its place.
    let again = host.admin(["lock", "--passphrase", "--stdin"]).input("mine").run().coded(2);
    again.says("locked already");
    assert!(locked(&host));
    host.shell(PEERS[0], "jsi get db/orders").run().coded(6).without(&secret);
    host.admin(["unlock", "--stdin"]).input(&passphrase).run().succeeded();
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    let said = host.admin(["unlock"]).run().succeeded();
    said.says("not locked");

    host.admin(["lock", "--passphrase", "--stdin"]).input(&passphrase).run().succeeded();
    host.stop();
    host.start();
    assert!(!locked(&host), "a new agent opens by its identity");
    let log = std::fs::read_to_string(&host.world.segments()[0]).unwrap();
    assert!(!log.contains("two"), "no passphrase is in the log");
}

#[test]
fn status_shows_what_stops_and_what_works_while_locked_and_both_are_true() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let mut holder = host
        .shell(
            PEERS[0],
            "jsi get db/orders >/dev/null; echo HELD; read id; jsi renew $id 2>&1; read x",
        )
        .talk();
    holder.expect("HELD");
    let mut other =
        host.shell(PEERS[0], "jsi get --new db/orders >/dev/null; echo HELD; read x").talk();
    other.expect("HELD");
    let held = live(&host);
    host.admin(["lock"]).run().succeeded();
    let shown = host.admin(["status"]).run().succeeded().stdout;
    for says in [
        "since",
        "jsi unlock",
        "since",
        "stopped",
        "issue",
        "renewal",
        "reads",
        "working",
        "ends of leases",
        "revocation",
        "key file",
    ] {
        assert!(shown.contains(says), "{says}:\n{shown}");
    }
    // Stopped.
    host.shell(PEERS[0], "jsi get db/orders").run().coded(6).without(&secret);
    let put = ["secret", "put", "db/new", "--owner", "t", "--purpose", "t"];
    host.admin(put).input("x").run().coded(6);
    // Working.
    host.shell(PEERS[0], "jsi whoami").run().succeeded();
    host.admin(["secret", "ls"]).run().succeeded();
    host.admin(["leases", "--all"]).run().succeeded();
    host.admin(["reload"]).run().succeeded();
    host.signal(Signal::SIGHUP);
    host.admin(["revoke", "--prefix", &held[0]]).run().succeeded();
    assert_eq!(host.await_record("ended", &held[0])["reason"], "revoked");
    holder.kill();
    other.kill();
    assert_eq!(host.await_record("ended", &held[1])["reason"], "process_exited");
    assert!(locked(&host), "neither reload opens it");
    host.admin(["unlock"]).run().succeeded();
    assert!(status(&host)["lock"]["since"].is_null());
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    host.stop();
}

#[test]
fn an_idle_agent_locks_itself_and_looking_at_it_is_no_use() {
    needs_root!();
    let mut host = Setup::host()
        .agent("lock_after_idle", "\"3s\"")
        .start(|world| vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]);
    let secret = random_secret();
    host.put("db/orders", &secret);
    assert!(!status(&host)["lock"]["auto_lock_at"].is_null());
    // Looked at all the time, and not used.
    until("it locks itself", Duration::from_secs(20), || locked(&host).then_some(()));
    let shown = status(&host);
    assert!(shown["locked_reason"].as_str().unwrap().contains("lock_after_idle"), "{shown}");
    assert!(shown["lock"]["auto_lock_at"].is_null());
    host.shell(PEERS[0], "jsi get db/orders").run().coded(6).without(&secret);
    host.admin(["unlock"]).run().succeeded();
    let due = |host: &Host| status(host)["lock"]["auto_lock_at"].as_str().unwrap().to_owned();
    let first = due(&host);
    std::thread::sleep(Duration::from_millis(1100));
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    assert!(due(&host) > first, "a use puts it off");
    until("it locks itself again", Duration::from_secs(20), || locked(&host).then_some(()));
    let acts = host.records();
    let by_itself = acts.iter().filter(|record| {
        record["kind"] == "admin" && record["act"] == "lock" && record["by"].is_null()
    });
    assert_eq!(by_itself.count(), 2, "each is in the log");
    // Off again by a reload.
    let text = std::fs::read_to_string(host.world.config()).unwrap();
    std::fs::write(host.world.config(), text.replace("lock_after_idle = \"3s\"\n", "")).unwrap();
    host.admin(["reload"]).run().succeeded();
    host.admin(["unlock"]).run().succeeded();
    assert!(status(&host)["lock"]["auto_lock_at"].is_null());
    host.stop();
}

/// A user agent whose identity has that passphrase, started.
fn with_passphrase(passphrase: &str) -> Host {
    let mut host = Setup::user(PEERS[0].uid).install();
    std::fs::remove_file(host.world.identity()).unwrap();
    let key = host.world.path().join("id_ed25519");
    let made = std::process::Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    std::fs::rename(&key, host.world.identity()).unwrap();
    host.world.give(&host.world.identity());
    host.start();
    host
}

fn on_terminal(host: &Host, command: &str) -> Program {
    host.terminal(PEERS[0], command).env("JSI_ADMIN_SOCK", host.world.admin_socket())
}

#[test]
fn a_wrong_passphrase_may_be_typed_again_twice_on_a_terminal() {
    needs_root!();
    let passphrase = random_secret();
    let host = with_passphrase(&passphrase);
    let mut talk = on_terminal(&host, "jsi unlock").talk();
    let mut screen = talk.until("Passphrase");
    talk.say("first wrong one");
    screen += &talk.until("2 tries left");
    screen += &talk.until("Passphrase");
    talk.say("second wrong one");
    screen += &talk.until("1 try left");
    screen += &talk.until("Passphrase");
    talk.say("third wrong one");
    screen += &talk.rest();
    assert_eq!(talk.end().code(), Some(3), "{screen}");
    assert!(!screen.contains("wrong one"), "nothing that is typed is shown:\n{screen}");
    let mut talk = on_terminal(&host, "jsi unlock").talk();
    talk.until("Passphrase");
    talk.say("wrong again");
    talk.until("Passphrase");
    talk.say(&passphrase);
    let screen = talk.rest();
    assert_eq!(talk.end().code(), Some(0), "{screen}");
    assert!(!locked(&host) && !screen.contains(&passphrase));
}

#[test]
fn ctrl_c_at_a_prompt_gives_the_terminal_back_as_it_was() {
    needs_root!();
    let host = with_passphrase("open sesame");
    let init = format!("jsi-agent init --config-dir {}/new", host.world.home(PEERS[0]).display());
    let put = "jsi secret put a --owner o --purpose p";
    for (command, question) in
        [("jsi unlock", "Passphrase"), (&*init, "Passphrase"), (put, "Value")]
    {
        for (keys, code) in [(&b"half\x03"[..], 130), (b"\x04", 1)] {
            // The shell goes on where the command was interrupted.
            let script = format!("trap : INT; {command}; echo ended $?; stty -a");
            let mut talk = on_terminal(&host, &script).talk();
            talk.until(question);
            talk.keys(keys);
            let screen = talk.rest();
            assert!(screen.contains(&format!("ended {code}")), "{command}:\n{screen}");
            assert!(
                screen.contains(" echo ") && !screen.contains("-echo "),
                "{command}:\n{screen}"
            );
            assert!(!screen.contains("half"), "{command}:\n{screen}");
        }
    }
    assert!(!host.world.home(PEERS[0]).join("new/identity").exists());
    assert!(locked(&host));
}

#[test]
fn a_lock_passphrase_is_typed_twice_on_a_terminal() {
    needs_root!();
    let mut host = Setup::user(PEERS[0].uid).install();
    host.start();
    let dialogue = |command: &str, answers: &[&str]| {
        let mut talk = on_terminal(&host, command).talk();
        let mut screen = String::new();
        for answer in answers {
            screen += &talk.until(": ");
            talk.say(answer);
        }
        screen += &talk.rest();
        (talk.end().code().unwrap(), screen)
    };
    let (code, screen) = dialogue("jsi lock --passphrase", &["one", "another"]);
    assert!(code == 1 && screen.contains("differ"), "{screen}");
    assert!(!locked(&host));
    let (code, screen) = dialogue("jsi lock --passphrase", &["planted-1", "planted-1"]);
    assert!(code == 0 && !screen.contains("planted"), "{screen}");
    assert!(locked(&host));
    let (code, screen) = dialogue("jsi unlock", &["planted-1"]);
    assert!(code == 0 && !screen.contains("planted"), "{screen}");
    assert!(!locked(&host));
}

#[test]
fn pinentry_asks_where_it_is_told_to() {
    needs_root!();
    let tty = "/usr/bin/pinentry-tty";
    if !Path::new(tty).exists() {
        not_run(module_path!(), line!(), "pinentry-tty is not installed");
        return;
    }
    let passphrase = "open 100% sesame";
    let host = with_passphrase(passphrase);
    let config = host.world.home(PEERS[0]).join(".config/jsi");
    std::fs::create_dir_all(&config).unwrap();
    let write = |pinentry: &Path| {
        let path = config.join("agent.toml");
        std::fs::write(
            &path,
            format!("[agent]\npinentry = {:?}\n", pinentry.display().to_string()),
        )
        .unwrap();
        for path in [config.parent().unwrap(), &config, &path] {
            std::os::unix::fs::chown(path, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();
        }
    };
    write(Path::new(tty));
    let mut talk = on_terminal(&host, "jsi unlock --pinentry").env("TERM", "xterm").talk();
    let mut screen = talk.until("Passphrase:");
    talk.keys(b"wrong\r");
    screen += &talk.until("wrong; 2 tries left");
    screen += &talk.until("Passphrase:");
    talk.keys(format!("{passphrase}\r").as_bytes());
    screen += &talk.rest();
    assert_eq!(talk.end().code(), Some(0), "{screen}");
    assert!(!locked(&host) && !screen.contains(passphrase), "{screen}");

    // Cancelled, missing, and without any terminal to ask on.
    host.admin(["lock"]).run().succeeded();
    let fake = host.world.bin("pinentry-of-the-test");
    let script = "#!/bin/sh\necho OK\nwhile read -r word rest; do case $word in \
         GETPIN) echo ERR 83886179 Operation cancelled;; BYE) exit;; *) echo OK;; esac; done\n";
    std::fs::write(&fake, script).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    write(&fake);
    let here = |command: &str| {
        host.shell(PEERS[0], command).env("JSI_ADMIN_SOCK", host.world.admin_socket()).run()
    };
    here("DISPLAY=:99 jsi unlock --pinentry").coded(130).says("cancelled");
    here("DISPLAY=:99 jsi unlock < /dev/null").coded(130).says("cancelled");
    write(&host.world.bin("no-such-pinentry"));
    here("jsi unlock < /dev/null").coded(1).says("install a pinentry");
    write(Path::new(tty));
    here("jsi unlock --pinentry < /dev/null").coded(1).says("GPG_TTY");
    assert!(locked(&host));
}
