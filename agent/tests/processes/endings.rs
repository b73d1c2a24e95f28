//! How agents end: all at once, and never unannounced.

use crate::home::*;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_command_that_cannot_be_executed_leaves_no_agent() {
    let home = Home::new();
    let output =
        home.agent(&["jsi-no-such-command"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output).1.contains("jsi-no-such-command"), "{:?}", text(&output));
    let output = home.agent(&["/etc/passwd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    home.assert_empty("no COMMAND");
}

#[test]
fn the_death_of_one_ends_all() {
    for name in ROLES {
        for signal in [Signal::SIGKILL, Signal::SIGABRT] {
            let home = Home::new();
            started(&home, &[]);
            kill(Pid::from_raw(home.role(name)), signal).unwrap();
            home.assert_empty(&format!("{name} {signal}"));
        }
    }
}

#[test]
fn a_kill_at_any_moment_of_the_start_leaves_nothing() {
    // Each round kills one process of the start a little later than the last.
    for round in 0..120_u64 {
        let home = Home::new();
        let arguments: &[&str] = if round % 2 == 0 { &[] } else { &["sleep", "0"] };
        let mut child =
            home.agent(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 250));
        let mut pids = home.processes();
        pids.sort_unstable();
        let starter = child.id().cast_signed();
        pids.retain(|pid| *pid != starter);
        let victim = pids.get(usize::try_from(round / 2).unwrap() % pids.len().max(1)).copied();
        let was = victim.map(argument).unwrap_or_default();
        if let Some(victim) = victim {
            let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        }
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        wait_for(child);
        // Nothing, or the process between starter and agent, whose work was done: the agent
        // runs, as it should. One of the three: it must end by itself.
        if !out.is_empty() && !was.starts_with('@') {
            for pid in home.processes() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        home.assert_empty(&format!("round {round}"));
    }
}

#[test]
fn a_start_that_is_interrupted_leaves_no_agent() {
    for round in 0..40_u64 {
        let home = Home::new();
        let mut child = home
            .agent(&["sleep", "60"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        home.assert_empty(&format!("starter killed, round {round}"));
    }
}

#[test]
fn an_agent_that_cannot_begin_says_so_and_is_not_announced() {
    let home = Home::new();
    fs::remove_dir_all(home.path().join(".local")).unwrap();
    fs::write(home.path().join(".local"), "in the way").unwrap();
    for arguments in [&[][..], &["-D"], &["true"]] {
        let output = home.agent(arguments).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr.starts_with("jsi-agent: cannot make the directory"), "{stderr}");
        home.assert_empty("failed start");
    }
}

#[test]
fn k_does_not_end_what_is_no_agent() {
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let mut named = Command::new("sleep");
    let mut named = named.arg0("jsi-agent").arg("60").spawn().unwrap();
    for pid in [
        sleep.id().to_string(),
        named.id().to_string(),
        "1".into(),
        "-1".into(),
        "x".into(),
        "0".into(),
    ] {
        let output = Command::new(AGENT).arg("-k").env("JSI_AGENT_PID", &pid).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{pid}");
        assert_eq!(text(&output).0, "");
    }
    assert!(sleep.try_wait().unwrap().is_none() && named.try_wait().unwrap().is_none());
    for mut child in [sleep, named] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_foreground_agent_keeps_its_pid_and_outlives_no_group_signal_in_parts() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let home = Home::new();
        let mut child =
            home.agent(&["-D"]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = [0; 14];
        child.stdout.as_mut().unwrap().read_exact(&mut lines).unwrap();
        assert_eq!(&lines, b"JSI_AUTH_SOCK=");
        let pid = child.id().cast_signed();
        assert_eq!(home.role("jsi-agent"), pid);
        killpg(Pid::from_raw(pid), signal).unwrap();
        assert_eq!(wait_for(child).code(), Some(0), "{signal}");
        home.assert_empty("foreground");
    }
}
