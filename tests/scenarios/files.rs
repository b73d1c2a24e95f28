//! Files for commands that need files, and when they are gone.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, Talk, needs_root, random_secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// A command that has said where its file is, and goes on.
fn holder(host: &Host, flags: &str) -> (Talk, PathBuf) {
    let script =
        format!("jsi exec {flags} --file TOKEN=db/orders -- /bin/sh -c 'echo $TOKEN; read x'");
    let mut talk = host.shell(PEERS[0], &script).talk();
    let path = PathBuf::from(talk.line());
    (talk, path)
}

fn gone(path: &Path) {
    let dir = path.parent().unwrap();
    jsi_tests::until("the file and its directory are gone", LIMIT, || {
        (!path.exists() && !dir.exists()).then_some(())
    });
}

/// The process that `db/orders` is bound to, which is the command.
fn command(host: &Host) -> Pid {
    let granted = host.await_record("granted", "db/orders");
    let pid = granted["lease"]["binding"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap())
}

/// The reaper of a directory: the process that has it as descriptor 2.
fn reaper(path: &Path) -> Pid {
    let dir = path.parent().unwrap();
    jsi_tests::until("a reaper watches", LIMIT, || {
        std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let entry = entry.unwrap();
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let comm = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            let held = std::fs::read_link(entry.path().join("fd/2")).ok()?;
            (comm.trim() == "jsi-reaper" && held == dir).then_some(Pid::from_raw(pid))
        })
    })
}

#[test]
fn a_file_is_the_commands_alone_and_on_memory() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let (mut holder, path) = holder(&host, "");
    let (file, dir) = (path.metadata().unwrap(), path.parent().unwrap().metadata().unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), secret);
    assert_eq!((file.permissions().mode() & 0o7777, file.uid()), (0o600, PEERS[0].uid));
    assert_eq!((dir.permissions().mode() & 0o7777, dir.uid()), (0o700, PEERS[0].uid));
    let on = nix::sys::statfs::statfs(&path).unwrap().filesystem_type();
    assert_eq!(on, nix::sys::statfs::TMPFS_MAGIC);
    let granted = host.await_record("granted", "db/orders");
    assert_eq!(granted["lease"]["delivery"], "file", "{granted}");
    holder.say("");
    assert!(holder.end().success());
    gone(&path);
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "process_exited");
}

#[test]
fn a_file_is_gone_after_the_command_was_killed() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let (mut holder, path) = holder(&host, "");
    kill(command(&host), Signal::SIGKILL).unwrap();
    gone(&path);
    holder.kill();
}

#[test]
fn a_file_is_gone_when_its_lease_is_revoked_or_over_and_the_command_lives() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let (mut first, path) = holder(&host, "");
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
    assert!(first.is_running());
    let (mut second, path) = holder(&host, "--ttl 1s");
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
    assert!(second.is_running());
    for holder in [&mut first, &mut second] {
        holder.say("");
        holder.end();
    }
    gone(&path);
}

#[test]
fn a_file_of_a_killed_agent_is_gone_when_its_lease_would_be_over() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let (mut holder, path) = holder(&host, "--ttl 5s");
    host.crash();
    assert!(path.exists(), "the lease has time left");
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
    assert!(holder.is_running());
}

#[test]
fn the_reaper_holds_nothing_of_the_command_and_is_no_child_of_it() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    // A pipe that the shell left open would keep `cat` waiting.
    let script = "jsi exec --file T=db/orders -- /bin/sh -c 'sleep 0.1; wait; echo $T' 7>&1 | cat";
    let out = host.shell(PEERS[0], script).run().succeeded();
    gone(Path::new(out.stdout.trim()));
    let (mut holder, path) = holder(&host, "");
    let reaper = reaper(&path);
    let of = |what: &str| std::fs::read_to_string(format!("/proc/{reaper}/{what}")).unwrap();
    let stat = of("stat");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[1], "1", "adopted: {stat}");
    assert_eq!(fields[4], "0", "without a terminal: {stat}");
    let children = format!("task/{0}/children", command(&host));
    let children = std::fs::read_to_string(format!("/proc/{}/{children}", command(&host)));
    assert_eq!(children.unwrap().trim(), "");
    // Nor can whoever may signal it keep it from its work with less than SIGKILL.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        kill(reaper, signal).unwrap();
    }
    holder.say("");
    holder.end();
    gone(&path);
    jsi_tests::until("the reaper has ended", LIMIT, || {
        kill(reaper, None::<Signal>).is_err().then_some(())
    });
}

#[test]
fn what_a_killed_reaper_leaves_is_swept_by_the_next() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let (mut holder, path) = self::holder(&host, "");
    kill(reaper(&path), Signal::SIGKILL).unwrap();
    // While the command lives nobody takes its file.
    let other = "jsi exec --file T=db/orders -- /bin/true";
    host.shell(PEERS[0], other).run().succeeded();
    assert!(path.exists());
    holder.say("");
    holder.end();
    assert!(path.exists(), "nobody is there who would remove it");
    host.shell(PEERS[0], other).run().succeeded();
    gone(&path);
}

#[test]
fn the_command_may_do_with_its_directory_what_it_likes() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let outside = host.world.home(PEERS[0]).join("kept");
    let script = format!(
        "echo kept > {0}; jsi exec --file T=db/orders -- /bin/sh -c 'cd $(dirname $T); \
         rm $T; ln -s {0} $T; mkdir -p a/b; echo x > a/b/c; mkfifo pipe; pwd'",
        outside.display()
    );
    let out = host.shell(PEERS[0], &script).run().succeeded();
    let dir = PathBuf::from(out.stdout.trim());
    jsi_tests::until("the directory is gone", LIMIT, || (!dir.exists()).then_some(()));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept\n");
    let script = "jsi exec --file T=db/orders -- /bin/sh -c 'rm -r $(dirname $T)'";
    host.shell(PEERS[0], script).run().succeeded();
}

#[test]
fn a_template_is_filled_in_and_named_after_itself() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let password = random_secret() + "&=";
    let fields = format!("{{\"user\": \"orders\", \"password\": \"{password}\"}}");
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    let json = ["--fields-from", "json", "--default", "password", "--plain", "user"];
    host.admin([&put[..], &json[..]].concat()).input(&fields).run().succeeded();
    let template = host.world.home(PEERS[0]).join("app.yaml.tmpl");
    let text = "url: ${jsi:db/orders#user}:${jsi:db/orders|urlencode}\nhome: ${HOME} $${jsi:x}\n";
    std::fs::write(&template, text).unwrap();
    let script = "jsi exec --template CONFIG=app.yaml.tmpl -- \
                  /bin/sh -c 'basename $CONFIG; cat $CONFIG'";
    let encoded = password.replace('&', "%26").replace('=', "%3D");
    let wanted = format!("app.yaml\nurl: orders:{encoded}\nhome: ${{HOME}} ${{jsi:x}}");
    host.shell(PEERS[0], script).run().succeeded().printed(&wanted);
}

#[test]
fn what_cannot_be_delivered_is_told_and_nothing_is_left() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let home = host.world.home(PEERS[0]);
    std::fs::write(home.join("bad.tmpl"), "a\n b ${jsi:NO}\n").unwrap();
    std::fs::write(home.join("unknown.tmpl"), "${jsi:no/such}\n").unwrap();
    std::fs::create_dir(home.join("closed")).unwrap();
    let run = |flags: &str| {
        let script = format!("jsi exec {flags} -- /bin/sh -c 'echo RAN'");
        host.shell(PEERS[0], &script).run().coded(125).printed("").without(&secret)
    };
    run("--template T=missing.tmpl").says("missing.tmpl");
    run("--template T=bad.tmpl").says("bad.tmpl:2:10");
    run("--template T=unknown.tmpl").says("no/such");
    run("--template T=/").says("cannot read the template");
    run("--file T=db/orders#nothing");
    run("--file T=db/orders --file-dir nowhere").says("nowhere");
    run("--file T=db/orders --file-dir closed").says("Permission denied");
    run("--file T=db/orders --file-dir .").says("--allow-disk");
    run("--file LD_PRELOAD=db/orders").says("LD_PRELOAD");
    assert!(live(&host).is_empty(), "what was granted was given back");
    let script = "jsi exec --file T=db/orders --file-dir . --allow-disk -- /bin/sh -c 'cat $T'";
    host.shell(PEERS[0], script).run().succeeded().printed(&secret);
    jsi_tests::until("nothing is left", LIMIT, || {
        let left = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name());
        let ours = left.filter(|name| name.to_string_lossy().starts_with("jsi-files."));
        (ours.count() == 0).then_some(())
    });
}

#[test]
fn a_full_place_is_told_and_nothing_is_left() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    host.admin(put).input("x".repeat(60_000)).run().succeeded();
    let place = host.world.home(PEERS[0]).join("small");
    std::fs::create_dir(&place).unwrap();
    // In the mount namespace of this test; gone with it.
    let options = format!("size=16k,mode=700,uid={}", PEERS[0].uid);
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("small"), &place, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
    let script = "jsi exec --file T=db/orders --file-dir small -- /bin/sh -c 'echo RAN'";
    let told = host.shell(PEERS[0], script).run().coded(125).printed("");
    let told = told.says("No space left");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "{told}");
    nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(live(&host).is_empty());
}
