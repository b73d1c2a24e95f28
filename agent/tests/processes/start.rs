//! How agents start, and what the started processes are.

use crate::home::*;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_background_agent_prints_shell_lines_and_k_ends_it() {
    let home = Home::new();
    let lines = started(&home, &[]);
    let broker = home.role("jsi-agent");
    let socket = home.socket();
    assert_eq!(
        lines,
        format!(
            "JSI_AUTH_SOCK={0}; export JSI_AUTH_SOCK;\nJSI_AGENT_PID={broker}; export JSI_AGENT_PID;\n\
             echo Agent pid {broker};\n",
            socket.display()
        )
    );
    let mut end = Command::new(AGENT);
    let output = end
        .arg("-k")
        .env("SHELL", "/bin/sh")
        .env("JSI_AGENT_PID", broker.to_string())
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(stderr, "");
    assert_eq!(
        stdout,
        format!("unset JSI_AUTH_SOCK;\nunset JSI_AGENT_PID;\necho Agent pid {broker} killed;\n")
    );
    home.assert_empty("-k");
}

#[test]
fn the_three_have_given_up_what_they_do_not_need() {
    let home = Home::new();
    started(&home, &[]);
    for name in ROLES {
        let pid = home.role(name);
        assert_eq!(
            status(pid, "NoNewPrivs"),
            if name == "jsi-launcher" { "0" } else { "1" },
            "{name}"
        );
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000000", "{name} {set}");
        }
        let kept = u64::from_str_radix(&status(pid, "CapPrm"), 16).unwrap();
        // CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH
        let root = nix::unistd::geteuid().is_root() && name == "jsi-attestor";
        assert_eq!(kept, if root { 1 << 19 | 1 << 40 | 1 << 2 } else { 0 }, "{name}");
        assert_eq!(status(pid, "CapEff"), status(pid, "CapPrm"), "{name}");
        assert_eq!(status(pid, "Umask"), "0077", "{name}");
        assert_eq!(status(pid, "CoreDumping"), "0");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"));
        if let Ok(limits) = limits {
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            assert_eq!(core.split_whitespace().nth(4), Some("0"), "{name}");
        }
        // A non-dumpable process's files belong to root (proc(5)).
        if !nix::unistd::geteuid().is_root() {
            assert!(fs::read_link(format!("/proc/{pid}/exe")).is_err(), "{name}");
        }
        let ignored = u64::from_str_radix(&status(pid, "SigIgn"), 16).unwrap() & 0x7FFF_FFFF;
        assert_eq!(ignored, 1 << 12, "{name}"); // SIGPIPE
    }
}

#[test]
fn no_descriptor_reaches_a_process_that_it_is_not_meant_for() {
    if !nix::unistd::geteuid().is_root() {
        return; // /proc/PID/fd of a non-dumpable process
    }
    let home = Home::new();
    // The starter holds descriptors that are not close-on-exec.
    let mut shell = Command::new("sh");
    let script = "exec 7</dev/zero 8</dev/zero; exec \"$0\" -a \"$1\"";
    shell.env("HOME", home.path()).args(["-c", script, AGENT]).arg(home.socket());
    assert!(shell.output().unwrap().status.success());
    for name in ROLES {
        let pid = home.role(name);
        let kinds = || -> Vec<String> {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
                .map(|path| path.to_str().unwrap().split(':').next().unwrap().to_owned())
                .filter(|kind| kind != "/dev/null")
                .collect()
        };
        // The broker closes the pipe just after it has written to it; the attestor
        // begins by hashing the programs above it, of which this one is the longest.
        let begin = Instant::now();
        while kinds().iter().any(|kind| kind == "pipe" || kind.starts_with('/') && name != ROLES[0])
        {
            assert!(begin.elapsed() < Duration::from_secs(60), "{name} keeps {:?}", kinds());
            std::thread::sleep(Duration::from_millis(20));
        }
        let open = kinds();
        let sockets = open.iter().filter(|kind| *kind == "socket").count();
        match name {
            "jsi-agent" => {
                assert!(!open.contains(&"/dev/zero".to_owned()), "{open:?}")
            }
            _ => assert_eq!((sockets, open.len()), (1, 1), "{name}: {open:?}"),
        }
    }
}

#[test]
fn a_command_feels_nothing_of_the_agent() {
    let home = Home::new();
    let script = "tr '\\0' '\\n' </proc/self/environ; echo --; ls /proc/self/fd; echo --; \
                  grep -E '^(Umask|Cap|NoNewPrivs|Seccomp|Sig(Blk|Ign|Cgt)|Uid|Gid|Groups)' /proc/self/status; \
                  cut -d' ' -f5-8 /proc/$$/stat; cat /proc/$$/limits /proc/$$/oom_score_adj; \
                  stat -c %u /proc/$$/mem; pwd; exit 7";
    let run = |command: &mut Command| {
        command.current_dir("/usr").env("ODD", "a=b").stdin(Stdio::null());
        // SAFETY: the call is safe between fork and exec. Its own session, so
        // that both runs have none of ours.
        unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", text(&output).1);
        text(&output).0
    };
    let with = run(home.agent(&["sh", "-c", script]).arg("x"));
    home.assert_empty("COMMAND ended");
    let mut bare = Command::new("sh");
    bare.env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path().join("run"))
        .env("SHELL", "/bin/sh");
    let without = run(bare.args(["-c", script, "x"]));
    let mut more = Vec::new();
    let numbers =
        |line: &str| line.split(' ').all(|w| w.parse::<i64>().is_ok()) && line.contains(' ');
    let keep = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !numbers(line)).map(str::to_owned).collect()
    };
    let (with, without) = (keep(&with), keep(&without));
    for line in &with {
        if !without.contains(line) {
            more.push(line.split('=').next().unwrap().to_owned());
        }
    }
    more.sort();
    assert_eq!(more, ["JSI_AGENT_PID", "JSI_AUTH_SOCK"]);
    assert!(without.iter().all(|line| with.contains(line)), "{without:#?}\n{with:#?}");
    assert_eq!(with.len(), without.len() + 2);
}

#[test]
fn a_command_leads_its_own_process_group_and_has_no_child_that_it_did_not_start() {
    let home = Home::new();
    let child = home.agent(&["sleep", "60"]).process_group(0).spawn().unwrap();
    let pid = child.id().cast_signed();
    let begin = Instant::now();
    while comm(pid) != "sleep" {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(), "");
    let broker = home.role("jsi-agent");
    assert_ne!(
        nix::unistd::getsid(Some(Pid::from_raw(broker))),
        nix::unistd::getsid(Some(Pid::from_raw(pid)))
    );
    // The terminal's Ctrl-C reaches the command alone.
    killpg(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert_eq!(wait_for(child).signal(), Some(Signal::SIGINT as i32));
    home.assert_empty("COMMAND killed");
}

#[test]
fn without_a_runtime_directory_the_socket_lies_in_a_private_one_that_goes_with_the_agent() {
    let home = Home::new();
    let mut command = Command::new(AGENT);
    command.args(["--config"]).arg(home.path().join("agent.toml"));
    fs::write(home.path().join("agent.toml"), "").unwrap();
    command.env("HOME", home.path()).env_remove("XDG_RUNTIME_DIR").env("SHELL", "/bin/csh");
    let (lines, stderr) = text(&command.output().unwrap());
    let socket =
        lines.strip_prefix("setenv JSI_AUTH_SOCK ").expect(&stderr).split(';').next().unwrap();
    let dir = Path::new(socket).parent().unwrap();
    assert!(dir.starts_with("/tmp") && dir.is_dir(), "{dir:?}");
    kill(Pid::from_raw(home.role("jsi-agent")), Signal::SIGTERM).unwrap();
    home.assert_empty("SIGTERM");
    assert!(!dir.exists());
}

#[test]
fn a_service_manager_hands_over_a_socket_and_learns_of_readiness() {
    let home = Home::new();
    let activated = home.path().join("activated.sock");
    let listener = UnixListener::bind(&activated).unwrap();
    let notify = UnixDatagram::bind(home.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" -t 1h";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, AGENT])
        .env("HOME", home.path())
        .stdin(std::os::fd::OwnedFd::from(listener));
    shell.env("NOTIFY_SOCKET", home.path().join("notify"));
    let child = shell.spawn().unwrap();
    let mut message = [0; 128];
    let n = notify.recv(&mut message).unwrap();
    let message = std::str::from_utf8(&message[..n]).unwrap();
    assert_eq!(message, format!("READY=1\nMAINPID={}", child.id()));
    let broker = home.role("jsi-agent");
    assert_eq!(broker, child.id().cast_signed());
    if let Ok(environment) = fs::read_to_string(format!("/proc/{broker}/environ")) {
        assert!(!environment.contains("LISTEN_"));
        let attestor =
            fs::read_to_string(format!("/proc/{}/environ", home.role("jsi-attestor"))).unwrap();
        assert!(!attestor.contains("NOTIFY_SOCKET"));
    }
    kill(Pid::from_raw(broker), Signal::SIGTERM).unwrap();
    assert_eq!(wait_for(child).code(), Some(0));
    home.assert_empty("activated");
}

#[test]
fn systemd_socket_activate_starts_an_agent_at_the_first_connection() {
    let Ok(version) = Command::new("systemd-socket-activate").arg("--version").output() else {
        println!("not run: systemd-socket-activate is not installed");
        return;
    };
    assert!(version.status.success());
    let home = Home::new();
    let mut activator = Command::new("systemd-socket-activate");
    activator.arg("-l").arg(home.socket()).args(["--fdname=agent", "-E"]);
    activator.arg(format!("HOME={}", home.path().display())).arg(AGENT).arg("-D");
    let child = activator.stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    let connection = loop {
        match UnixStream::connect(home.socket()) {
            Ok(connection) => break connection,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let pid = child.id().cast_signed();
    while !(comm(pid) == "jsi-agent" && argument(pid) == "@broker") {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", comm(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(connection);
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_for(child);
    home.assert_empty("activated by systemd's tool");
}

#[test]
fn a_host_agent_that_root_starts_takes_its_own_uid_and_only_the_attestor_may_look() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = home.path().join("agent.toml");
    let dir = home.path().display();
    let toml = format!(
        "[agent]\nmode = \"host\"\nuser = \"nobody\"\nsocket = \"{dir}/s/agent.sock\"\n\
         admin_socket = \"{dir}/s/admin.sock\"\nstore_dir = \"{dir}/var/store\"\nlog_dir = \"{dir}/var/log\"\n\
         identity = \"{dir}/identity\"\n"
    );
    let identity = home.path().join("identity");
    fs::copy(home.path().join(".config/jsi/identity"), &identity).unwrap();
    std::os::unix::fs::chown(&identity, Some(65534), Some(65534)).unwrap();
    fs::write(&config, toml).unwrap();
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let mut command = Command::new(AGENT);
    command.arg("--config").arg(&config).env("SHELL", "/bin/sh");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{:?}", text(&output));
    for name in ROLES {
        let pid = home.role(name);
        assert_eq!(status(pid, "Uid"), "65534 65534 65534 65534", "{name}");
        let gid = status(pid, "Gid");
        assert!(!gid.split(' ').any(|gid| gid == "0"), "{name}: {gid}");
        assert!(!status(pid, "Groups").split(' ').any(|gid| gid == "0"), "{name}");
        let kept = u64::from_str_radix(&status(pid, "CapEff"), 16).unwrap();
        assert_eq!(
            kept,
            if name == "jsi-attestor" { 1 << 19 | 1 << 40 | 1 << 2 } else { 0 },
            "{name}"
        );
        assert_eq!(status(pid, "CapPrm"), status(pid, "CapEff"), "{name}");
        assert_eq!(status(pid, "CapAmb"), "0000000000000000", "{name}");
        if name != "jsi-launcher" {
            assert_eq!(status(pid, "CapBnd"), status(pid, "CapEff"), "{name}");
        }
    }
    for (place, mode) in [("s", 0o755), ("var", 0o700), ("var/store", 0o700), ("var/log", 0o700)] {
        let meta = fs::metadata(home.path().join(place)).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((meta.uid(), meta.mode() & 0o777), (65534, mode), "{place}");
    }
    kill(Pid::from_raw(home.role("jsi-agent")), Signal::SIGTERM).unwrap();
    home.assert_empty("host");
}

#[test]
fn a_role_is_not_for_hands() {
    for arguments in [&["@broker"][..], &["@attestor", "{}"], &["@launcher", "x"]] {
        let output = Command::new(AGENT).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output).1.contains("without @"), "{:?}", text(&output));
    }
}
