//! Commands with a supervisor beside them: renewed, watched, redacted.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, Talk, needs_root, random_secret};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn renewals(host: &Host) -> usize {
    host.records().iter().filter(|record| record["kind"] == "renewed").count()
}

fn replace(host: &Host) -> String {
    let other = random_secret();
    let put = ["secret", "put", "--replace", "db/orders", "--owner", "a", "--purpose", "b"];
    host.admin(put).input(&other).run().succeeded();
    other
}

/// The process that the latest lease is bound to, which is the command.
fn command(host: &Host) -> Pid {
    let records = host.records();
    let granted = records.iter().rev().find(|r| r["kind"] == "granted").unwrap();
    let pid = granted["lease"]["binding"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn parent(pid: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    Pid::from_raw(parent.parse().unwrap())
}

fn gone(pid: Pid) {
    jsi_tests::until("the process is gone", LIMIT, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// A shell command under the supervisor that says `UP`, and its shell.
fn up(host: &Host, flags: &str, command: &str) -> Talk {
    let script = format!("jsi exec {flags} -- /bin/sh -c '{command}'; echo CODE $?");
    let mut talk = host.shell(PEERS[0], &script).talk();
    talk.expect("UP");
    talk
}

#[test]
fn a_renewed_lease_outlives_its_time_and_ends_with_the_command() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut talk = up(&host, "--renew --ttl 2s -e X=db/orders", "echo UP; read x; exit 3");
    jsi_tests::until("it is renewed past its time", LIMIT, || (renewals(&host) >= 3).then_some(()));
    assert_eq!(live(&host).len(), 1);
    talk.say("");
    talk.expect("CODE 3");
    assert!(live(&host).is_empty());
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "process_exited");
}

#[test]
fn a_lease_that_is_not_renewed_ends_and_the_command_goes_on() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut talk = up(&host, "--redact --ttl 1s -e X=db/orders", "echo UP; read x");
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "expired");
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn a_renewal_goes_on_with_the_next_agent() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let mut talk = up(&host, "--renew --ttl 6s -e X=db/orders", "echo UP; read x");
    let id = live(&host).remove(0);
    host.crash();
    host.start();
    let before = renewals(&host);
    jsi_tests::until("it is renewed again", LIMIT, || (renewals(&host) > before).then_some(()));
    assert_eq!(live(&host), [id]);
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn while_the_agent_hangs_a_supervised_command_ends_as_it_would() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    for flags in ["--renew --ttl 2s -e X=db/orders", "--watch=restart --file X=db/orders"] {
        let mut talk = up(&host, flags, "echo UP; exec sleep 60");
        let supervisor = parent(command(&host));
        host.signal(Signal::SIGSTOP);
        // Long enough for a renewal to be under way.
        std::thread::sleep(Duration::from_secs(2));
        kill(supervisor, Signal::SIGTERM).unwrap();
        talk.expect("CODE 143");
        host.signal(Signal::SIGCONT);
        jsi_tests::until("its lease ends", LIMIT, || live(&host).is_empty().then_some(()));
    }
}

#[test]
fn a_file_that_was_renewed_is_gone_when_the_agent_dies_and_its_time_is_over() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let mut talk = up(&host, "--renew --ttl 3s --file T=db/orders", "echo UP; echo $T; read x");
    let path = PathBuf::from(talk.line());
    jsi_tests::until("it is renewed", LIMIT, || (renewals(&host) >= 2).then_some(()));
    host.crash();
    assert!(path.exists(), "the lease has time left");
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn on_rotation_files_are_new_and_the_command_gets_its_signal() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let command = "trap \"echo HUP; cat \\$T; echo\" HUP; cat $T; echo; echo UP; \
                   while :; do sleep 0.05; done";
    let script = format!("jsi exec --watch --file T=db/orders -- /bin/sh -c '{command}'");
    let mut talk = host.shell(PEERS[0], &script).talk();
    talk.expect(&secret);
    talk.expect("UP");
    let other = replace(&host);
    talk.expect("HUP");
    talk.expect(&other);
    jsi_tests::until("the old lease is given back", LIMIT, || {
        (live(&host).len() == 1).then_some(())
    });
    let third = replace(&host);
    talk.expect("HUP");
    talk.expect(&third);
    kill(self::command(&host), Signal::SIGKILL).unwrap();
}

#[test]
fn on_rotation_a_command_without_files_is_started_again() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let script = "jsi exec --watch -e X=db/orders -- /bin/sh -c 'echo $X; exec sleep 60'";
    let mut talk = host.shell(PEERS[0], &format!("{script}; echo CODE $?")).talk();
    talk.expect(&secret);
    let other = replace(&host);
    talk.expect(&other);
    // Whoever ends it means it.
    kill(parent(command(&host)), Signal::SIGTERM).unwrap();
    talk.expect("CODE 143");
    assert!(live(&host).is_empty());
}

#[test]
fn on_revocation_the_command_is_ended_or_left() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let trap = "trap \"echo TERM; exit 9\" TERM; echo UP; while :; do sleep 0.05; done";
    let mut talk = up(&host, "--watch -e X=db/orders", trap);
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    talk.expect("TERM");
    talk.expect("CODE 9");
    let mut talk = up(&host, "--watch --on-revoke=leave -e X=db/orders", "echo UP; read x");
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    jsi_tests::until("it is revoked", LIMIT, || live(&host).is_empty().then_some(()));
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn values_are_taken_out_of_both_streams_in_every_form() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let command = "echo \"<$X>\"; echo \"err $X\" >&2; printf %s \"user:$X\" | base64 -w0; echo; \
                   printf %s \"$X\" | od -An -tx1 | tr -d \" \\n\"; echo; cat; exit 5";
    let script = format!("jsi exec --redact -e X=db/orders -- /bin/sh -c '{command}'");
    let out = host.shell(PEERS[0], &script).input("typed").run().coded(5).without(&secret);
    let label = "[redacted db/orders#value]";
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines[0], format!("<{label}>"), "{out}");
    assert!(lines[1].contains(label) && lines[2].contains(label), "{out}");
    assert_eq!(lines[3], "typed", "{out}");
    assert_eq!(out.stderr, format!("err {label}\n"), "{out}");
}

#[test]
fn output_to_files_and_to_who_stops_reading_is_redacted_too() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let exec = "jsi exec --redact -e X=db/orders --";
    let script = format!("{exec} /bin/sh -c 'echo $X; echo $X >&2' >out 2>err; cat out err");
    let label = "[redacted db/orders#value]";
    host.shell(PEERS[0], &script).run().succeeded().printed(&format!("{label}\n{label}"));
    // Who reads no more ends the command, as without a supervisor.
    let script = format!("({exec} /bin/sh -c 'exec yes $X'; echo CODE $? >&2) | head -n 1");
    host.shell(PEERS[0], &script).run().succeeded().printed(label).says("CODE 141");
    // Much of it comes through whole.
    let much = "seq 1 300000; echo $X; seq 1 300000";
    let script = format!("{exec} /bin/sh -c '{much}' | cksum; X='{label}'; ({much}) | cksum");
    let out = host.shell(PEERS[0], &script).run().succeeded().without(&secret);
    let sums: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(sums[0], sums[1], "{out}");
}

#[test]
fn a_restart_waits_for_an_agent_that_is_away_and_not_for_one_that_denies() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    let script = "jsi exec --watch=restart -e X=db/orders -- /bin/sh -c 'echo $X; exec sleep 60'";
    let mut talk = host.shell(PEERS[0], &format!("{script}; echo CODE $?")).talk();
    talk.expect(&secret);
    // An agent that stops takes its leases back; the command has a new one from the next.
    assert!(host.stop().success());
    std::thread::sleep(Duration::from_millis(700));
    host.start();
    talk.expect(&secret);
    assert_eq!(live(&host).len(), 1);
    let forbid = "forbid(principal, action == Action::\"request\", \
                  resource == Credential::\"db/orders\");";
    host.world.write_policy("forbid", forbid);
    host.admin(["reload"]).run().succeeded();
    replace(&host);
    talk.expect("CODE 125");
    assert!(live(&host).is_empty());
}

#[test]
fn a_question_without_a_newline_is_seen() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let script =
        "jsi exec --redact -e X=db/orders -- /bin/sh -c 'printf \"Name: \"; read n; echo $n'";
    let mut talk = host.shell(PEERS[0], script).talk();
    talk.until("Name: ");
    talk.say("ok");
    talk.expect("ok");
}

#[test]
fn who_keeps_the_output_open_does_not_keep_the_supervisor() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let script = "jsi exec --redact -e X=db/orders -- /bin/sh -c 'sleep 30 & echo done'";
    let begun = std::time::Instant::now();
    host.shell(PEERS[0], script).run().succeeded().printed("done");
    assert!(begun.elapsed() < Duration::from_secs(25), "it waited for the grandchild");
}

#[test]
fn exit_codes_and_signals_are_the_commands_own() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let ways = [
        "exit 0",
        "exit 1",
        "exit 42",
        "exit 255",
        "kill -TERM $$",
        "kill -KILL $$",
        "kill -INT $$",
        "kill -HUP $$",
        "kill -USR1 $$",
        "kill -QUIT $$",
        "kill -ABRT $$",
    ];
    for way in ways {
        let run = |wrap: &str| {
            let script = format!("{wrap} /bin/sh -c '{way}' 2>/dev/null");
            host.shell(PEERS[0], &script).run().code
        };
        let plain = run("");
        for modes in ["--renew", "--redact", "--watch"] {
            let supervised = run(&format!("jsi exec {modes} -e X=db/orders --"));
            assert_eq!(supervised, plain, "{modes} {way}");
        }
    }
    for (command, code) in [("/nowhere/at-all", 127), ("/etc/passwd", 126)] {
        let script = format!("jsi exec --redact -e X=db/orders -- {command}");
        host.shell(PEERS[0], &script).run().coded(code);
    }
    host.shell(PEERS[0], "jsi exec --redact -e X=no/such -- true").run().coded(125).says("no/such");
    assert!(live(&host).is_empty());
}

#[test]
fn signals_to_the_supervisor_reach_the_command() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    for modes in ["--renew", "--redact"] {
        let command = "for s in HUP INT TERM USR1 USR2; do trap \"echo $s\" $s; done; echo UP; \
                       while :; do sleep 0.02; done";
        let mut talk = up(&host, &format!("{modes} -e X=db/orders"), command);
        let process = self::command(&host);
        let supervisor = parent(process);
        for (signal, name) in [
            (Signal::SIGHUP, "HUP"),
            (Signal::SIGINT, "INT"),
            (Signal::SIGTERM, "TERM"),
            (Signal::SIGUSR1, "USR1"),
            (Signal::SIGUSR2, "USR2"),
        ] {
            kill(supervisor, signal).unwrap();
            talk.expect(name);
        }
        kill(process, Signal::SIGKILL).unwrap();
        talk.expect("CODE 137");
    }
}

#[test]
fn a_killed_supervisor_takes_command_lease_and_files_with_it() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let script =
        "jsi exec --renew --redact --file T=db/orders -- /bin/sh -c 'echo $T; exec sleep 60'";
    let mut talk = host.shell(PEERS[0], script).talk();
    let path = PathBuf::from(talk.line());
    assert!(path.exists());
    let command = command(&host);
    kill(parent(command), Signal::SIGKILL).unwrap();
    gone(command);
    jsi_tests::until("nothing is left", LIMIT, || {
        (!path.exists() && !path.parent().unwrap().exists() && live(&host).is_empty()).then_some(())
    });
}

#[test]
fn a_killed_command_takes_its_files_and_the_supervisor_tells_how_it_ended() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut talk = up(&host, "--renew --file T=db/orders", "echo UP; echo $T; exec sleep 60");
    let path = PathBuf::from(talk.line());
    kill(command(&host), Signal::SIGKILL).unwrap();
    talk.expect("CODE 137");
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
}

#[test]
fn a_renewed_lease_keeps_its_file_and_a_revoked_one_does_not() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut talk = up(&host, "--renew --ttl 2s --file T=db/orders", "echo UP; echo $T; read x");
    let path = PathBuf::from(talk.line());
    jsi_tests::until("it is renewed past its time", LIMIT, || (renewals(&host) >= 3).then_some(()));
    assert!(path.exists());
    host.admin(["revoke", "--prefix", "db/"]).run().succeeded();
    jsi_tests::until("the file is gone", LIMIT, || (!path.exists()).then_some(()));
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn the_supervisor_holds_no_secret_unless_it_redacts() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let mut talk = up(&host, "--renew -e X=db/orders", "echo UP; read x");
    let supervisor = parent(command(&host));
    assert!(!in_memory(supervisor, secret.as_bytes()), "the supervisor has the value");
    let arguments = std::fs::read(format!("/proc/{supervisor}/cmdline")).unwrap();
    assert!(!arguments.windows(secret.len()).any(|window| window == secret.as_bytes()));
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn a_user_agent_serves_supervised_commands_too() {
    needs_root!();
    let host = jsi_tests::Setup::user(PEERS[0].uid).start(|world| {
        vec![("orders", jsi_tests::permit(PEERS[0].uid, "db/orders", &world.bin("shell")))]
    });
    let secret = random_secret();
    host.put("db/orders", &secret);
    for modes in ["--redact", "--redact --renew --file T=db/orders"] {
        let script = format!("jsi exec {modes} -e X=db/orders -- /bin/sh -c 'echo $X; cat $T'");
        let out = host.shell(PEERS[0], &script).input("x").run().succeeded().without(&secret);
        assert!(out.stdout.starts_with("[redacted db/orders#value]\n"), "{out}");
    }
    let mut talk = up(&host, "--renew --ttl 2s -e X=db/orders", "echo UP; read x");
    jsi_tests::until("it is renewed", LIMIT, || (renewals(&host) >= 3).then_some(()));
    talk.say("");
    talk.expect("CODE 0");
}

#[test]
fn the_command_of_a_set_group_id_client_dies_with_its_supervisor() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    // A group that nobody is in, as root would install it.
    let jsi = host.world.bin("jsi");
    std::os::unix::fs::chown(&jsi, Some(0), Some(29_999)).unwrap();
    std::fs::set_permissions(&jsi, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).unwrap();
    let mut talk = up(&host, "--renew -e X=db/orders", "echo UP; exec sleep 60");
    let command = command(&host);
    kill(parent(command), Signal::SIGKILL).unwrap();
    gone(command);
    talk.kill();
}

/// It stands in the memory of a process.
fn in_memory(pid: Pid, wanted: &[u8]) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = std::fs::File::open(Path::new("/proc").join(format!("{pid}/mem"))).unwrap();
    maps.lines().filter(|line| line.contains("rw")).any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16));
        let (start, end) = (start.unwrap(), end.unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.seek(SeekFrom::Start(start)).unwrap();
        memory.read_exact(&mut bytes).is_ok()
            && bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}
