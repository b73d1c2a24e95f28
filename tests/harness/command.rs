//! Running programs as somebody, with a clean environment.

use crate::{Host, Peer};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

/// A program about to be run.
pub struct Program {
    command: Command,
    input: Vec<u8>,
}

/// What came of it.
pub struct Outcome {
    /// Exit code; 128 + signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    what: String,
}

impl Host {
    /// An installed program, run by `peer`, that finds the agent by its socket.
    #[must_use]
    pub fn program(&self, peer: Peer, program: impl AsRef<OsStr>) -> Program {
        let mut command = Command::new(program);
        let home = self.world.home(peer);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.world.path().join("bin").display()))
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("JSI_AUTH_SOCK", self.world.socket())
            .current_dir(&home);
        if crate::is_root() {
            command.uid(peer.uid).gid(peer.uid);
        }
        Program { command, input: Vec::new() }
    }

    /// A script in the installed shell, which is what `jsi get` asks for.
    #[must_use]
    pub fn shell(&self, peer: Peer, script: &str) -> Program {
        // A last command of its own, so that the shell does not exec the one before.
        let script = format!("{script}\nexit $?");
        self.program(peer, self.world.bin("shell")).args(["-c", &script])
    }

    /// A shell command with a terminal of its own, which the test reads and
    /// types on. It ends with the command's own exit code (script(1) of bsdutils).
    #[must_use]
    pub fn terminal(&self, peer: Peer, command: &str) -> Program {
        self.program(peer, "/usr/bin/script").args(["-qefc", command, "/dev/null"])
    }

    /// `jsi` by whoever may use the admin socket.
    #[must_use]
    pub fn admin<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let jsi = self.world.bin("jsi");
        let from_shell = |uid| {
            let shell = self.program(Peer { uid }, self.world.bin("shell"));
            shell.args(["-c", "\"$@\"; exit $?", "shell"]).args([&jsi])
        };
        let program = match self.world.mode {
            // The agent may not see the test itself.
            crate::Mode::Host if !self.through.is_empty() => from_shell(0),
            crate::Mode::Host => self.program(Peer { uid: 0 }, &jsi),
            // From a shell: an enrolled client asks for who started it, and the
            // test itself is of another uid.
            crate::Mode::User(uid) => from_shell(uid),
        };
        program.env("JSI_ADMIN_SOCK", self.world.admin_socket()).args(args)
    }

    /// Stores a secret of one field; the value goes in by stdin.
    pub fn put(&self, name: &str, value: &str) {
        let put = ["secret", "put", name, "--owner", "tests", "--purpose", "to be asked for"];
        self.admin(put).input(value).run().succeeded();
    }
}

impl Program {
    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads on stdin.
    #[must_use]
    pub fn input(mut self, text: impl AsRef<[u8]>) -> Self {
        self.input = text.as_ref().to_vec();
        self
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let what = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut stdin = child.stdin.take().unwrap();
        // A program that reads no input may be gone already.
        let _ = stdin.write_all(&self.input);
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        Outcome {
            code: out.status.code().unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
            what,
        }
    }

    /// Starts it; stdin and stdout are pipes, stderr is the test's own.
    #[must_use]
    pub fn spawn(mut self) -> Child {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        if !self.input.is_empty() {
            child.stdin.as_mut().unwrap().write_all(&self.input).unwrap();
        }
        child
    }

    /// The command itself, for what this type does not offer.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command
    }
}

impl Outcome {
    /// Fails the test unless it ended with 0; gives itself.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        self.coded(0)
    }

    /// Fails the test unless it ended with that code; gives itself.
    #[track_caller]
    pub fn coded(self, code: i32) -> Self {
        assert!(self.code == code, "wanted exit {code}:\n{self}");
        self
    }

    /// Fails the test unless standard error holds `part`; gives itself.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "wanted {part:?} on stderr:\n{self}");
        self
    }

    /// Fails the test unless standard output, one final newline left out, is `text`.
    #[track_caller]
    pub fn printed(self, text: &str) -> Self {
        let printed = self.stdout.strip_suffix('\n').unwrap_or(&self.stdout);
        assert!(printed == text, "wanted {text:?} on stdout:\n{self}");
        self
    }

    /// Fails the test where `secret` stands on stdout or stderr; gives itself.
    #[track_caller]
    pub fn without(self, secret: &str) -> Self {
        let seen = self.stdout.contains(secret) || self.stderr.contains(secret);
        assert!(!seen, "a secret appeared:\n{self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}):\n{self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, what } = self;
        write!(f, "{what}\nexit {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}
