//! A home of its own for each agent, and looks at its processes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_jsi-agent");
pub(crate) const ROLES: [&str; 3] = ["jsi-agent", "jsi-attestor", "jsi-launcher"];

/// A home of its own, whose path marks every process that belongs to it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::Builder::new().prefix("jsi-proc-").tempdir().unwrap());
        fs::create_dir(home.path().join("run")).unwrap();
        let mut init = Command::new(AGENT);
        let made = home.placed(&mut init).args(["init", "--no-passphrase"]).output().unwrap();
        assert!(made.status.success(), "{}", text(&made).1);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("agent.sock")
    }

    pub(crate) fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(AGENT);
        self.placed(&mut command).arg("-a").arg(self.socket()).args(arguments);
        command
    }

    /// The command finds this home, and no other agent.
    pub(crate) fn placed<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for name in ["CONFIG", "STATE", "DATA"] {
            command.env_remove(format!("XDG_{name}_HOME"));
        }
        command.env("HOME", self.path()).env("XDG_RUNTIME_DIR", self.path().join("run"));
        command.env("SHELL", "/bin/sh").env_remove("JSI_AGENT_PID").env_remove("JSI_AUTH_SOCK")
    }

    /// Live processes whose command line names this home, zombies excluded.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = self.path().to_str().unwrap();
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(mark)
        })
        .collect()
    }

    /// The process of that role.
    pub(crate) fn role(&self, name: &str) -> i32 {
        let mut found = self.processes();
        found.retain(|pid| comm(*pid) == name && argument(*pid).starts_with('@'));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    /// None of its processes is left, and none as a zombie of ours. Prints how long that took.
    pub(crate) fn assert_empty(&self, what: &str) {
        let begin = Instant::now();
        while !self.processes().is_empty() {
            let left: Vec<_> =
                self.processes().iter().map(|p| (*p, comm(*p), argument(*p))).collect();
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}: left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        println!("{what}: all gone after {:?}", begin.elapsed());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub(crate) fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

pub(crate) fn argument(pid: i32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').nth(1).unwrap_or_default().to_owned()
}

pub(crate) fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn text(output: &Output) -> (String, String) {
    let own = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (own(&output.stdout), own(&output.stderr))
}

pub(crate) fn started(home: &Home, arguments: &[&str]) -> String {
    let output = home.agent(arguments).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "");
    stdout
}

pub(crate) fn wait_for(mut child: Child) -> std::process::ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}
