//! Starting in ssh-agent's manner, by socket activation, and telling readiness.

use jsi_tests::{Host, PEERS, Program, Setup, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

fn user() -> Host {
    Setup::user(PEERS[0].uid).install()
}

/// A script of the user who starts the agent, with `$AGENT` as its command.
fn script(host: &Host, text: &str) -> Program {
    let agent = host.world.bin("jsi-agent");
    let agent = format!("{} --config {}", agent.display(), host.world.config().display());
    host.shell(PEERS[0], text).env("AGENT", agent).env("JSI_AUTH_SOCK", "")
}

fn await_gone(pid: i32) {
    until("the agent is gone", Duration::from_secs(10), || {
        kill(Pid::from_raw(pid), None).is_err().then_some(())
    });
}

#[test]
fn eval_of_its_output_sets_the_variables_and_k_ends_it() {
    let host = user();
    let text = "eval \"$($AGENT)\" >/dev/null && echo $JSI_AGENT_PID $JSI_AUTH_SOCK && jsi whoami >/dev/null \
                && eval \"$($AGENT -k)\" && echo ended \"[$JSI_AGENT_PID]\"";
    let out = script(&host, text).run().succeeded();
    let (pid, socket) = out.stdout.split_once(' ').unwrap();
    assert!(socket.contains(&host.world.socket().display().to_string()), "{out}");
    assert!(out.stdout.contains("ended []"), "{out}");
    await_gone(pid.trim().parse().unwrap());
}

#[test]
fn c_shells_get_setenv_and_others_export() {
    let host = user();
    let text = "out=$($AGENT -c) && echo \"$out\" && pid=$(echo \"$out\" | \
                sed -n 's/.*setenv JSI_AGENT_PID \\([0-9]*\\).*/\\1/p') && JSI_AGENT_PID=$pid $AGENT -k";
    let out = script(&host, text).run().succeeded();
    assert!(out.stdout.contains("setenv JSI_AUTH_SOCK "), "{out}");
    let host = user();
    let out =
        script(&host, "out=$($AGENT -s) && echo \"$out\" && eval \"$out\" && $AGENT -k").run();
    assert!(out.succeeded().stdout.contains("export JSI_AUTH_SOCK"));
}

#[test]
fn a_command_runs_with_the_agent_and_its_end_ends_it() {
    let host = user();
    let text = "$AGENT /bin/sh -c 'echo $JSI_AGENT_PID; jsi whoami >&2; exit 7'; echo code $?";
    let out = script(&host, text).run().succeeded();
    let (pid, code) = out.stdout.split_once('\n').unwrap();
    assert_eq!(code.trim(), "code 7", "{out}");
    await_gone(pid.trim().parse().unwrap());
}

#[test]
fn a_signal_reaches_the_command_itself() {
    let host = user();
    let agent = host.world.bin("jsi-agent");
    let config = host.world.config().display().to_string();
    let mut talk = host
        .program(PEERS[0], agent)
        .args(["--config", &config, "/bin/sh", "-c", "echo $JSI_AGENT_PID $$; exec sleep 60"])
        .talk();
    let line = talk.line();
    let (broker, command) = line.split_once(' ').unwrap();
    assert_eq!(command.parse::<u32>().unwrap(), talk.pid(), "the command has the first pid");
    kill(Pid::from_raw(command.parse().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(talk.end().signal(), Some(Signal::SIGTERM as i32));
    await_gone(broker.parse().unwrap());
}

#[test]
fn a_command_keeps_its_terminal() {
    let host = user();
    let text = "script -qec \"$AGENT /bin/sh -c 'tty; test -t 0 && echo job'\" /dev/null";
    let out = script(&host, text).run().succeeded();
    assert!(out.stdout.contains("/dev/pts/") && out.stdout.contains("job"), "{out}");
}

#[test]
fn keys_of_the_terminal_reach_the_command_and_jobs_are_controlled() {
    let host = user();
    let agent = host.world.bin("jsi-agent").display().to_string();
    let config = host.world.config().display().to_string();
    let bash = "set -m; sleep 60 & echo JOB $!; fg >/dev/null; echo FG $?; kill -KILL %1; set +m; \
                read -r line; trap 'echo INT; exit 9' INT; echo READY; while :; do sleep 0.05; done";
    let script = host.world.home(PEERS[0]).join("jobs");
    std::fs::write(&script, bash).unwrap();
    // Without exec the shell of script(1) would be there for the keys too.
    let command = format!("exec {agent} --config {config} /bin/bash {}", script.display());
    let mut talk = host.terminal(PEERS[0], &command).talk();
    talk.until("JOB ");
    let job: u32 = talk.line().trim().parse().unwrap();
    until("the job has the terminal", Duration::from_secs(5), || {
        let stat = std::fs::read_to_string(format!("/proc/{job}/stat")).ok()?;
        let foreground = stat.rsplit_once(") ")?.1.split(' ').nth(5)?.parse::<u32>();
        (foreground == Ok(job)).then_some(())
    });
    // Stopped by a key, and the shell takes the terminal back: job control is its own.
    talk.keys(b"\x1a");
    talk.until("FG 148");
    talk.say("");
    talk.until("READY");
    talk.keys(b"\x03");
    let said = talk.rest();
    assert!(said.contains("INT"), "{said}");
    assert_eq!(talk.end().code(), Some(9), "the command's own exit code");
}

#[test]
fn no_secret_is_said_where_everything_is() {
    let secret = jsi_tests::random_secret();
    let host = Setup::user(PEERS[0].uid).arg("-d").start(|world| {
        let jsi_tests::Mode::User(uid) = world.mode() else { unreachable!("a user agent") };
        vec![("orders", jsi_tests::permit(uid, "db/orders", &world.bin("shell")))]
    });
    host.put("db/orders", &secret);
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    host.admin(["lock"]).run().succeeded();
    host.admin(["unlock"]).input("a passphrase of nobody").run().without("nobody");
    let said = host.world.said();
    assert!(said.contains("DEBUG"), "it says more than usual:\n{said}");
    assert!(!said.contains(&secret) && !said.contains("a passphrase of nobody"), "{said}");
}

#[test]
fn a_lifetime_of_its_own_limits_every_lease() {
    let host = user();
    let secret = jsi_tests::random_secret();
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &jsi_tests::permit(own(&host), "db/orders", &shell));
    let text = "eval \"$($AGENT -t 60)\" >/dev/null && jsi secret put db/orders --owner a \
                --purpose b >&2 && jsi get --ttl 1h db/orders >&2 && jsi leases -o json && \
                $AGENT -k >&2";
    let out = script(&host, text)
        .env("JSI_ADMIN_SOCK", host.world.admin_socket())
        .input(&secret)
        .run()
        .succeeded();
    let left = out.json()[0]["remaining_s"].as_i64().unwrap();
    assert!((1..=60).contains(&left), "{out}");
}

/// The uid that the agent of [`user`] serves.
fn own(host: &Host) -> u32 {
    match host.world.mode() {
        jsi_tests::Mode::User(uid) => uid,
        jsi_tests::Mode::Host => unreachable!("a user agent"),
    }
}

#[test]
fn a_socket_is_taken_where_it_is_asked_for() {
    let host = user();
    let text = "eval \"$($AGENT -a $HOME/a.sock)\" >/dev/null && echo $JSI_AUTH_SOCK && \
                test -S $HOME/a.sock && jsi whoami >/dev/null && $AGENT -k >&2";
    let home = host.world.home(PEERS[0]);
    let out = script(&host, text).run().succeeded();
    let socket = home.join("a.sock");
    out.printed(&socket.display().to_string());
    until("it is gone with its agent", Duration::from_secs(10), || {
        (!socket.exists()).then_some(())
    });
}

#[test]
fn it_stays_in_the_foreground_where_that_is_asked_for() {
    for flag in ["-D", "-d"] {
        let host = user();
        let config = host.world.config().display().to_string();
        let agent = host.program(PEERS[0], host.world.bin("jsi-agent"));
        let mut agent = agent.args([flag, "--config", &config]).talk();
        let said = agent.until("JSI_AGENT_PID=");
        assert!(said.contains("JSI_AUTH_SOCK="), "{flag}: {said}");
        assert!(agent.line().starts_with(&agent.pid().to_string()), "{flag}: its own pid");
        assert!(agent.is_running(), "{flag}");
        host.shell(PEERS[0], "jsi whoami").run().succeeded();
        let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(agent.end().success(), "{flag}");
    }
}

#[test]
fn an_inherited_listening_socket_is_served() {
    let host = user();
    let socket = host.world.socket().display().to_string();
    let agent = host.world.bin("jsi-agent").display().to_string();
    let config = host.world.config().display().to_string();
    let activate = host.program(PEERS[0], "/usr/bin/systemd-socket-activate");
    let mut activated = activate.args(["-l", &socket, &agent, "-D", "--config", &config]).talk();
    until("the socket is there", Duration::from_secs(5), || {
        host.world.socket().exists().then_some(())
    });
    // The connection that starts the agent came before SO_PASSCRED was set:
    // the client tries once more by itself.
    host.shell(PEERS[0], "jsi whoami").run().succeeded();
    host.shell(PEERS[0], "jsi whoami").run().succeeded();
    let pid = Pid::from_raw(i32::try_from(activated.pid()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(activated.end().success());
}

#[test]
fn readiness_is_told_when_it_serves_and_not_before() {
    let place = tempfile_in_tmp();
    let notify = place.path().join("notify");
    let inbox = UnixDatagram::bind(&notify).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&notify, mode).unwrap();
    let name = notify.display().to_string();
    let mut host = Setup::user(PEERS[0].uid).env("NOTIFY_SOCKET", &name).install();
    host.start();
    inbox.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut datagram = [0; 512];
    let length = inbox.recv(&mut datagram).unwrap();
    let said = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(said.lines().any(|line| line == "READY=1"), "{said}");
    assert!(host.world.socket().exists());
}

fn tempfile_in_tmp() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), mode).unwrap();
    place
}

#[test]
fn a_user_agent_says_that_it_is_advisory() {
    let mut host = user();
    host.start();
    let status = host.admin(["status"]).run().succeeded();
    assert!(status.stdout.contains("advisory"), "{status}");
    let whoami = host.shell(PEERS[0], "jsi whoami").run().succeeded();
    assert!(whoami.stdout.contains("advisory"), "{whoami}");
    let started = host.await_record("started", "");
    assert!(!started["advisory"].as_array().unwrap().is_empty(), "{started}");
}
