//! ssh-agent's manners: what is printed, how an agent goes to the background,
//! and how it is ended from a shell.

use super::sys::{fork, pidfd, signal};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// The variable that names the agent's socket.
pub const SOCKET_VARIABLE: &str = "JSI_AUTH_SOCK";
/// The variable that names the broker's pid.
pub const PID_VARIABLE: &str = "JSI_AGENT_PID";

/// `comm` of the broker, and of whoever becomes it.
pub(super) const BROKER_NAME: &CStr = c"jsi-agent";

/// Whose syntax is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shell {
    /// `-s`
    Bourne,
    /// `-c`
    C,
}

impl Shell {
    /// As ssh-agent chooses: by `$SHELL`.
    #[must_use]
    pub fn from_environment() -> Self {
        let c = std::env::var("SHELL").is_ok_and(|shell| shell.ends_with("csh"));
        if c { Self::C } else { Self::Bourne }
    }

    /// The lines that a shell evaluates to use an agent. `None`: the path
    /// holds bytes that no shell line can.
    #[must_use]
    pub fn begin(self, socket: &Path, pid: Pid) -> Option<String> {
        let socket = self.quote(socket.to_str()?)?;
        let (set, between, end) = match self {
            Self::Bourne => ("", "=", true),
            Self::C => ("setenv ", " ", false),
        };
        let line = |name: &str, value: &str| {
            let export = if end { format!(" export {name};") } else { String::new() };
            format!("{set}{name}{between}{value};{export}\n")
        };
        Some(format!(
            "{}{}echo Agent pid {pid};\n",
            line(SOCKET_VARIABLE, &socket),
            line(PID_VARIABLE, &pid.to_string())
        ))
    }

    /// The lines that a shell evaluates to forget an agent.
    #[must_use]
    pub fn end(self, pid: Pid) -> String {
        let unset = match self {
            Self::Bourne => "unset",
            Self::C => "unsetenv",
        };
        format!(
            "{unset} {SOCKET_VARIABLE};\n{unset} {PID_VARIABLE};\necho Agent pid {pid} killed;\n"
        )
    }

    fn quote(self, text: &str) -> Option<String> {
        if text.chars().any(char::is_control) {
            return None;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
        if text.chars().all(plain) {
            return Some(text.to_owned());
        }
        let mut quoted = text.replace('\'', "'\\''");
        if self == Self::C {
            // The one character that csh expands inside single quotes.
            quoted = quoted.replace('!', "\\!");
        }
        Some(format!("'{quoted}'"))
    }
}

/// Forks an agent that belongs to no terminal, session or parent of ours.
/// `true`: this is the agent. Its stdin, stdout and stderr lead nowhere.
///
/// Twice, so that it is nobody's child: COMMAND may wait for all children that
/// it has, and must not find one that it never started.
pub(super) fn detach() -> io::Result<bool> {
    if let Some(child) = fork::split()? {
        waitpid(child, None)?;
        return Ok(false);
    }
    let second = nix::unistd::setsid().map_err(io::Error::from).and_then(|_| fork::split());
    match second {
        Ok(None) => {}
        // The waiting parent sees the pipe close.
        Ok(Some(_)) | Err(_) => fork::leave(0),
    }
    std::env::set_current_dir("/")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(true)
}

/// Why `-k` ended nothing.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The shell knows no agent.
    #[error("{PID_VARIABLE} is not set, so there is no agent to end")]
    Unset,
    /// The variable holds something else.
    #[error("{PID_VARIABLE} is {0:?}, which is no pid")]
    NoPid(String),
    /// It has ended already, or the pid is another program's by now.
    #[error("process {0} is no jsi-agent of yours; unset {SOCKET_VARIABLE} and {PID_VARIABLE}")]
    NotAnAgent(Pid),
    /// The kernel refused.
    #[error("cannot end process {0}")]
    Os(Pid, #[source] io::Error),
}

/// Sends SIGTERM to the agent that `JSI_AGENT_PID` names, once it is sure that
/// it is one, and ours: a pid may have gone to another program since.
///
/// # Errors
/// See [`KillError`].
pub fn kill() -> Result<Pid, KillError> {
    let text = std::env::var_os(PID_VARIABLE).ok_or(KillError::Unset)?;
    let text = text.to_string_lossy();
    let pid =
        text.parse::<u32>().ok().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
    let pid = Pid::from_raw(pid.ok_or_else(|| KillError::NoPid(text.chars().take(32).collect()))?);
    let agent = pidfd::open(pid.as_raw().unsigned_abs()).map_err(|_| KillError::NotAnAgent(pid))?;
    // Read after the pidfd is held: signalling through it fails if the process
    // that was read has ended.
    if !is_own_agent(pid) {
        return Err(KillError::NotAnAgent(pid));
    }
    signal::send(agent, Signal::SIGTERM).map_err(|error| KillError::Os(pid, error))?;
    Ok(pid)
}

fn is_own_agent(pid: Pid) -> bool {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let uid = nix::unistd::geteuid();
    let status = read("status");
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let ours = uid.is_root() || uids.split_whitespace().next() == Some(&uid.to_string());
    // Neither can be read of another program by chance; who forges them owns the process.
    let named = read("comm").trim_end().as_bytes() == BROKER_NAME.to_bytes();
    let broker = super::handoff::Role::Broker.argument();
    ours && named && read("cmdline").split('\0').nth(1) == Some(broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_ssh_agents() {
        let pid = Pid::from_raw(42);
        assert_eq!(
            Shell::Bourne.begin(Path::new("/tmp/a/agent.sock"), pid).unwrap(),
            "JSI_AUTH_SOCK=/tmp/a/agent.sock; export JSI_AUTH_SOCK;\n\
             JSI_AGENT_PID=42; export JSI_AGENT_PID;\necho Agent pid 42;\n"
        );
        assert_eq!(
            Shell::C.begin(Path::new("/tmp/a/agent.sock"), pid).unwrap(),
            "setenv JSI_AUTH_SOCK /tmp/a/agent.sock;\nsetenv JSI_AGENT_PID 42;\necho Agent pid 42;\n"
        );
        assert_eq!(
            Shell::Bourne.end(pid),
            "unset JSI_AUTH_SOCK;\nunset JSI_AGENT_PID;\necho Agent pid 42 killed;\n"
        );
    }

    #[test]
    fn a_path_cannot_run_commands_in_the_shell_that_evaluates_it() {
        let pid = Pid::from_raw(42);
        let path = "/tmp/$(touch x) `y`;'z'/s";
        let lines = Shell::Bourne.begin(Path::new(path), pid).unwrap();
        let out = std::process::Command::new("sh")
            .args(["-c", "eval \"$1\" >/dev/null; printf %s \"$JSI_AUTH_SOCK\"", "sh", &lines])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), path);
        assert!(Shell::C.quote("a!b").unwrap().contains("\\!"));
        assert_eq!(Shell::Bourne.begin(Path::new("/tmp/a\nb"), pid), None);
    }
}
