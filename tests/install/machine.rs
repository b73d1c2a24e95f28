//! A machine to install on, which is gone when the test ends.

use jsi_tests::{not_run, until};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// This machine's files, under an overlay, and processes of its own.
pub(crate) struct Machine {
    child: Child,
    /// The first process inside, as it is numbered here.
    inside: u32,
    boots: bool,
    console: tempfile::NamedTempFile,
    _scratch: tempfile::TempDir,
}

/// What a script inside came to.
pub(crate) struct Said {
    pub(crate) code: i32,
    /// stdout and stderr, in their order.
    pub(crate) text: String,
    script: String,
}

pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The binaries under test.
pub(crate) fn binaries() -> PathBuf {
    let given = std::env::var_os("JSI_BIN_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| top().join("target/jsi/bin")).canonicalize().unwrap()
}

impl Machine {
    /// One without a service manager.
    pub(crate) fn plain() -> Self {
        Self::new("plain", None)
    }

    /// The same, with a directory of packages.
    pub(crate) fn with_packages(debs: &Path) -> Self {
        Self::new("plain", Some(debs))
    }

    /// One whose pid 1 is systemd; `None`: it cannot be had here, and that is
    /// recorded.
    pub(crate) fn booted(debs: Option<&Path>) -> Option<Self> {
        if !Path::new("/usr/bin/systemd-nspawn").exists() {
            not_run(module_path!(), line!(), "install systemd-container, for systemd-nspawn");
            return None;
        }
        let machine = Self::new("boot", debs);
        let ready = |machine: &Self| {
            let state = machine.run("systemctl is-active basic.target");
            state.code == 0
        };
        for _ in 0..300 {
            if ready(&machine) {
                return Some(machine);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let why = format!("systemd does not boot in systemd-nspawn here: {}", machine.console());
        not_run(module_path!(), line!(), &why);
        None
    }

    fn new(kind: &str, debs: Option<&Path>) -> Self {
        let scratch = tempfile::Builder::new().prefix("jsi-tests.").tempdir_in("/var/lib").unwrap();
        let own = top().join("tests/install");
        let mut unshare = Command::new("/usr/bin/unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child"]);
        unshare.arg("--").arg(own.join("machine.sh")).arg(kind).arg(scratch.path());
        unshare.arg(binaries()).arg(top().join("contrib")).args(debs);
        // The image that tests run in sets variables for tools; none are meant here.
        unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        let console = tempfile::NamedTempFile::new().unwrap();
        let mut child = unshare
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(console.reopen().unwrap())
            .spawn()
            .expect("unshare(1) runs");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "READY\n", "the machine is not made");
        // What else it prints is its console's, and must not stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let boots = kind == "boot";
        let inside = until("the machine's first process", Duration::from_secs(20), || {
            let first = child_of(child.id())?;
            let first = if boots { child_of(first)? } else { first };
            let comm = std::fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
            let wanted = if boots { "systemd" } else { "bash" };
            (comm.trim() == wanted).then_some(first)
        });
        Self { child, inside, boots, console, _scratch: scratch }
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.console.path()).unwrap_or_default()
    }

    /// Runs a bash script inside, as root.
    pub(crate) fn run(&self, script: &str) -> Said {
        let mut enter = Command::new("/usr/bin/nsenter");
        enter.arg("--target").arg(self.inside.to_string());
        if self.boots {
            enter.arg("--all");
        } else {
            enter.args(["--mount", "--pid", "--root", "--wd"]);
        }
        enter.args(["--", "/bin/bash", "-c"]).arg(format!(
            // A last command of its own, so that bash does not become the one before:
            // whoever asks through jsi is the shell.
            "exec 2>&1 </dev/null\ncd /\n{script}\nexit $?"
        ));
        enter
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        enter.env("LANG", "C.UTF-8").env("HOME", "/root").env("DEBIAN_FRONTEND", "noninteractive");
        let Output { status, stdout, .. } = enter.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        Said { code: status.code().unwrap_or(-1), text, script: script.to_owned() }
    }

    /// Runs a script that must end well; gives what it said.
    #[track_caller]
    pub(crate) fn does(&self, script: &str) -> String {
        let said = self.run(&format!("set -e\n{script}"));
        assert_eq!(said.code, 0, "{said}");
        said.text
    }

    /// A script of a user, whose shell policy can name: `/bin/sh`.
    pub(crate) fn as_user(&self, script: &str) -> Said {
        let quoted = script.replace('\'', "'\\''");
        self.run(&format!(
            "exec setpriv --reuid 20001 --regid 20001 --clear-groups /bin/sh -c '{quoted}\nexit $?'"
        ))
    }

    /// Every file where an installation may put one, with mode, owner, size and
    /// target. What account and package tools keep for themselves is left out.
    pub(crate) fn listing(&self) -> BTreeSet<String> {
        let find = "find /etc /opt /usr/local/bin /usr/local/share /usr/bin /usr/sbin \
                    /usr/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d \
                    /usr/share/bash-completion /usr/share/zsh /usr/share/fish /usr/share/man \
                    /usr/share/lintian/overrides /usr/share/doc/jsi /var/lib/jsi /run/jsi \
                    \\( -type f -o -type l \\) -printf '%M %U %G %s %p %l\\n' 2>/dev/null || true";
        let kept = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-"];
        let kept: Vec<_> =
            kept.iter().chain(&["/etc/subgid-"]).map(|path| format!(" {path} ")).collect();
        let said = self.does(find);
        let lines = said.lines().filter(|line| !kept.iter().any(|path| line.contains(path)));
        lines.map(str::to_owned).collect()
    }
}

/// What is in one listing and not in the other.
pub(crate) fn difference(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let less = before.difference(after).map(|line| format!("- {line}"));
    less.chain(after.difference(before).map(|line| format!("+ {line}"))).collect()
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the machine's console\n{}", self.console());
        }
        // Its pid namespace ends with its first process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// Fails the test unless it ended with that code and said that.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, part: &str) -> &Self {
        assert!(self.code == code && self.text.contains(part), "wanted {code}, {part:?}: {self}");
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nexit {}\n{}", self.script, self.code, self.text)
    }
}
