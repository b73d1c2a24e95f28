//! Templates that live as long as their leases.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, Talk, needs_root, random_secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// A host with a template in the first peer's home.
fn host() -> (Host, String, PathBuf) {
    let (host, secret) = host_with_a_secret();
    let home = host.world.home(PEERS[0]);
    std::fs::write(home.join("app.yaml.tmpl"), "token: ${jsi:db/orders}\n").unwrap();
    (host, secret, home)
}

fn staying(host: &Host, flags: &str) -> (Talk, PathBuf) {
    let script = format!("jsi render app.yaml.tmpl {flags} & echo $!; wait $!; echo CODE $?");
    let mut talk = host.shell(PEERS[0], &script).talk();
    let pid = talk.line();
    let path = PathBuf::from(talk.line());
    assert!(pid.parse::<i32>().is_ok(), "{pid}");
    (talk, path)
}

fn gone(path: &Path) {
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
}

/// Whoever holds the lease, which is the process that stays.
fn holder(host: &Host) -> Pid {
    let granted = host.await_record("granted", "db/orders");
    let pid = granted["lease"]["binding"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap())
}

#[test]
fn a_rendered_file_goes_with_a_signal_and_the_exit_tells_which() {
    needs_root!();
    let (host, secret, _) = host();
    let (mut talk, path) = staying(&host, "");
    assert_eq!(path.file_name().unwrap(), "app.yaml");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("token: {secret}\n"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    kill(holder(&host), Signal::SIGTERM).unwrap();
    talk.expect("CODE 143");
    assert!(!path.exists() && !path.parent().unwrap().exists());
    assert!(live(&host).is_empty());
}

#[test]
fn while_the_agent_hangs_a_rendered_file_goes_with_a_signal_all_the_same() {
    needs_root!();
    let (host, _, _) = host();
    let (mut talk, path) = staying(&host, "--ttl 2s");
    host.signal(Signal::SIGSTOP);
    // Long enough for a renewal to be under way.
    std::thread::sleep(Duration::from_secs(2));
    kill(holder(&host), Signal::SIGTERM).unwrap();
    talk.expect("CODE 143");
    gone(&path);
    host.signal(Signal::SIGCONT);
    jsi_tests::until("its lease ends", LIMIT, || live(&host).is_empty().then_some(()));
}

#[test]
fn a_rendered_file_is_removed_after_sigkill_and_by_revocation() {
    needs_root!();
    let (host, _, _) = host();
    let (_talk, path) = staying(&host, "");
    kill(holder(&host), Signal::SIGKILL).unwrap();
    gone(&path);
    let (mut talk, path) = staying(&host, "-o out.yaml --allow-disk");
    assert!(path.ends_with("out.yaml"));
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    talk.expect("CODE 1");
    gone(&path);
}

#[test]
fn a_rendered_file_outlives_its_ttl_and_follows_the_secret() {
    needs_root!();
    let (host, _, _) = host();
    let (mut talk, path) = staying(&host, "--ttl 2s");
    let renewed = || host.records().iter().filter(|r| r["kind"] == "renewed").count();
    jsi_tests::until("it is renewed past its time", LIMIT, || (renewed() >= 3).then_some(()));
    assert!(path.exists());
    let other = random_secret();
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    host.admin(put).input(&other).run().succeeded();
    jsi_tests::until("the file has the new value", LIMIT, || {
        (std::fs::read_to_string(&path).ok()? == format!("token: {other}\n")).then_some(())
    });
    jsi_tests::until("the old lease was given back", LIMIT, || {
        (live(&host).len() == 1).then_some(())
    });
    let dir = path.parent().unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "nothing else is left");
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    talk.expect("CODE 1");
    gone(&path);
}

#[test]
fn once_it_is_the_shells() {
    needs_root!();
    let (host, secret, _) = host();
    let script = "F=$(jsi render --once app.yaml.tmpl); cat $F; echo $F; read x";
    let mut talk = host.shell(PEERS[0], script).talk();
    talk.expect(&format!("token: {secret}"));
    let path = PathBuf::from(talk.line());
    assert!(path.exists() && live(&host).len() == 1);
    talk.say("");
    talk.end();
    gone(&path);
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "process_exited");
    // Its reaper knows the shell, not the agent: the agent's end does not matter.
    let mut talk = host.shell(PEERS[0], script).talk();
    talk.expect(&format!("token: {secret}"));
    let path = PathBuf::from(talk.line());
    talk.kill();
    gone(&path);
}

#[test]
fn with_a_command_it_becomes_the_command() {
    needs_root!();
    let (host, secret, home) = host();
    let out = home.join("out.yaml");
    symlink(home.join("elsewhere"), &out).unwrap();
    let script = "jsi render app.yaml.tmpl -o out.yaml --allow-disk --mode 640 -- \
                  /bin/sh -c 'cat $JSI_RENDERED; stat -c %a out.yaml; exit 7'";
    let ran = host.shell(PEERS[0], script).run().coded(7);
    ran.printed(&format!("token: {secret}\n640"));
    gone(&out);
    assert!(!home.join("elsewhere").exists(), "the link was replaced, not followed");
}

#[test]
fn an_owner_is_set_before_anything_is_in_the_file() {
    needs_root!();
    let (host, _, home) = host();
    let policy = "permit(principal in User::\"0\", action in Action::\"use\", \
                  resource == Credential::\"db/orders\");";
    host.world.write_policy("root", policy);
    host.admin(["reload"]).run().succeeded();
    let script = "jsi render app.yaml.tmpl --owner 20002:20002 -- \
                  /bin/sh -c 'stat -c %u:%g:%a $JSI_RENDERED'";
    let root = jsi_tests::Peer { uid: 0 };
    std::fs::copy(home.join("app.yaml.tmpl"), host.world.home(root).join("app.yaml.tmpl")).unwrap();
    host.shell(root, script).run().succeeded().printed("20002:20002:600");
    let refused = "jsi render app.yaml.tmpl --owner 20002 --once";
    host.shell(PEERS[0], refused).run().coded(1).says("app.yaml");
}

#[test]
fn what_cannot_be_rendered_is_told_and_nothing_is_left() {
    needs_root!();
    let (host, _, home) = host();
    std::fs::write(home.join("plain"), "no reference\n").unwrap();
    std::fs::create_dir(home.join("dir")).unwrap();
    let run = |flags: &str, code: i32| {
        let script = format!("jsi render {flags} </dev/null");
        host.shell(PEERS[0], &script).run().coded(code).printed("")
    };
    run("missing.tmpl", 1).says("missing.tmpl");
    run("plain", 2).says("asks for no credential");
    run("app.yaml.tmpl -o out.yaml", 2).says("--allow-disk");
    run("app.yaml.tmpl -o dir --allow-disk", 2).says("is a directory");
    run("app.yaml.tmpl -o no/such --allow-disk", 1).says("no:");
    run("app.yaml.tmpl --mode 9", 2).says("600");
    run("app.yaml.tmpl --once -- true", 2);
    run("app.yaml.tmpl -- no-such-command", 127).says("command not found");
    host.world.write_policy("orders", "forbid(principal, action, \n                            resource == Credential::\"db/orders\");");
    host.admin(["reload"]).run().succeeded();
    run("app.yaml.tmpl", 3);
    assert!(live(&host).is_empty());
    assert_eq!(home.read_dir().unwrap().count(), 3, "nothing was made");
    assert_eq!(home.metadata().unwrap().uid(), PEERS[0].uid);
}
