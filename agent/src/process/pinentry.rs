//! pinentry: asks a person by whatever their desktop or terminal has. The
//! Assuan protocol as pinentry(1) speaks it: a line each way.

use crate::memory::SecretBuf;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use zeroize::Zeroizing;

/// A line of Assuan has 1000 bytes (its manual, "Client requests"); an answer
/// of several lines is taken up to this.
const MAX_ANSWER: usize = 8 * 1024;

/// gpg-error codes (gpg-error.h), without the source in the upper bits.
const CANCELED: [u64; 3] = [99, 198, 114];
const TIMED_OUT: u64 = 62;

/// What stands in the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// What it is about.
    pub description: &'a str,
    /// In front of the input.
    pub prompt: &'a str,
    /// What was wrong with the last answer.
    pub error: Option<&'a str>,
    /// To be typed twice.
    pub repeat: bool,
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum PinentryError {
    /// There is no such program.
    #[error("there is no {0} to ask with; install a pinentry or name one in agent.toml (pinentry)")]
    Missing(PathBuf),
    /// It was started and gave up.
    #[error("pinentry could not ask ({0}); it needs DISPLAY, WAYLAND_DISPLAY or GPG_TTY")]
    Refused(String),
    /// Nobody answered in time.
    #[error("nobody answered pinentry in time")]
    TimedOut,
    /// The connection to it broke.
    #[error("the talk with pinentry broke off: {0}")]
    Io(#[from] io::Error),
}

/// A pinentry that runs. Ended when dropped.
pub struct Pinentry {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// What was read and not yet used.
    ahead: Zeroizing<Vec<u8>>,
    /// It was told of a terminal or a display.
    somewhere: bool,
}

impl Pinentry {
    /// Starts that program, which gives up after `patience`.
    ///
    /// # Errors
    /// See [`PinentryError`].
    pub fn start(program: &Path, patience: Duration) -> Result<Self, PinentryError> {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PinentryError::Missing(program.to_owned()),
            _ => PinentryError::Io(error),
        })?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("it has no pipes").into());
        };
        let ahead = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        let options = options();
        let display = ["DISPLAY", "WAYLAND_DISPLAY"].map(std::env::var_os);
        let somewhere = display.iter().flatten().any(|value| !value.is_empty())
            || options.iter().any(|option| option.starts_with("ttyname="));
        let mut pinentry = Self { child, to, from, ahead, somewhere };
        pinentry.answer()?.map_err(|no| PinentryError::Refused(no.text))?;
        for option in options {
            // An option that it does not know changes nothing.
            let _ = pinentry.say("OPTION", &option)?;
        }
        let _ = pinentry.say("SETTIMEOUT", &patience.as_secs().to_string())?;
        pinentry.must("SETTITLE", "jsi")?;
        Ok(pinentry)
    }

    /// Asks for something secret; `None`: the person would not.
    ///
    /// # Errors
    /// See [`PinentryError`].
    pub fn ask(&mut self, question: Question<'_>) -> Result<Option<SecretBuf>, PinentryError> {
        self.must("SETDESC", question.description)?;
        self.must("SETPROMPT", question.prompt)?;
        if let Some(error) = question.error {
            self.must("SETERROR", error)?;
        }
        if question.repeat {
            self.must("SETREPEAT", "The same again:")?;
        }
        self.given("GETPIN")
    }

    /// Asks for a yes.
    ///
    /// # Errors
    /// See [`PinentryError`].
    pub fn confirm(
        &mut self,
        description: &str,
        yes: &str,
        no: Option<&str>,
    ) -> Result<bool, PinentryError> {
        self.must("SETDESC", description)?;
        self.must("SETOK", yes)?;
        if let Some(no) = no {
            self.must("SETCANCEL", no)?;
        }
        Ok(self.given("CONFIRM")?.is_some())
    }

    fn given(&mut self, command: &str) -> Result<Option<SecretBuf>, PinentryError> {
        match self.say(command, "")? {
            Ok(data) => Ok(Some(data)),
            // pinentry-tty without a terminal reads the end of its input.
            Err(no) if CANCELED.contains(&no.code) && !self.somewhere => {
                Err(PinentryError::Refused("cancelled, and it had nowhere to show itself".into()))
            }
            Err(no) if CANCELED.contains(&no.code) => Ok(None),
            Err(no) if no.code == TIMED_OUT => Err(PinentryError::TimedOut),
            Err(no) => Err(PinentryError::Refused(no.text)),
        }
    }

    fn must(&mut self, command: &str, text: &str) -> Result<(), PinentryError> {
        self.say(command, text)?.map(drop).map_err(|no| PinentryError::Refused(no.text))
    }

    fn say(&mut self, command: &str, text: &str) -> Result<Result<SecretBuf, No>, PinentryError> {
        let line = format!("{command} {}", escaped(text));
        self.to.write_all(line.trim_end().as_bytes())?;
        self.to.write_all(b"\n")?;
        self.to.flush()?;
        self.answer()
    }

    /// Reads up to `OK` or `ERR`; gives the data that came before.
    fn answer(&mut self) -> Result<Result<SecretBuf, No>, PinentryError> {
        let mut data = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
        loop {
            let line = self.line()?;
            if let Some(part) = line.strip_prefix(b"D ") {
                unescape(part, &mut data);
            } else if line.starts_with(b"OK") {
                return Ok(Ok(SecretBuf::new(std::mem::take(&mut *data))));
            } else if let Some(no) = line.strip_prefix(b"ERR ") {
                let no = String::from_utf8_lossy(no).into_owned();
                let (code, text) = no.split_once(' ').unwrap_or((&no, ""));
                let code = code.parse::<u64>().unwrap_or(0) & 0xffff;
                return Ok(Err(No { code, text: text.chars().take(200).collect() }));
            }
        }
    }

    fn line(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line = Zeroizing::new(self.ahead[..end].to_vec());
                let rest = Zeroizing::new(self.ahead[end + 1..].to_vec());
                self.ahead.iter_mut().for_each(|byte| *byte = 0);
                self.ahead.clear();
                self.ahead.extend_from_slice(&rest);
                return Ok(line);
            }
            let mut piece = Zeroizing::new([0; 1024]);
            let count = self.from.read(&mut piece[..])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.ahead.len() + count > MAX_ANSWER {
                return Err(io::Error::other("its answer is too long"));
            }
            self.ahead.extend_from_slice(&piece[..count]);
        }
    }
}

impl Drop for Pinentry {
    fn drop(&mut self) {
        // It restores the terminal when it is asked to end, and not when it is killed.
        let _ = self.to.write_all(b"BYE\n");
        for _ in 0..20 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct No {
    code: u64,
    text: String,
}

/// Where it may show itself. DISPLAY and WAYLAND_DISPLAY it inherits.
fn options() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let terminal = variable("GPG_TTY").or_else(|| {
        let streams =
            [nix::unistd::ttyname(io::stdin().as_fd()), nix::unistd::ttyname(io::stderr().as_fd())];
        let path = streams.into_iter().find_map(Result::ok)?;
        Some(path.to_string_lossy().into_owned())
    });
    let mut options = vec!["no-grab".to_owned()];
    options.extend(terminal.map(|tty| format!("ttyname={tty}")));
    options.extend(variable("TERM").map(|kind| format!("ttytype={kind}")));
    let locale = variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG"));
    options.extend(locale.map(|locale| format!("lc-ctype={locale}")));
    options
}

/// Percent escapes of Assuan.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(800) {
        match c {
            '%' | '\r' | '\n' => out += &format!("%{:02X}", u32::from(c)),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn unescape(part: &[u8], data: &mut Vec<u8>) {
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let mut at = 0;
    while let Some(byte) = part.get(at) {
        let escape = (*byte == b'%')
            .then(|| Some((hex(part.get(at + 1))?, hex(part.get(at + 2))?)))
            .flatten();
        match escape {
            Some((high, low)) => {
                data.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            None => {
                data.push(*byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn escapes_go_both_ways() {
        assert_eq!(escaped("50 %\nof it\u{1b}"), "50 %25%0Aof it ");
        let mut data = Vec::new();
        unescape(b"a%25%0ab%zz%", &mut data);
        assert_eq!(data, b"a%\nb%zz%");
    }

    /// A pinentry that answers GETPIN with that line.
    fn fake(answer: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pinentry");
        let script = format!(
            "#!/bin/sh\necho OK ready\nwhile read -r word rest; do case $word in \
             GETPIN) printf '%b\\n' '{answer}';; BYE) exit;; *) echo OK;; esac; done\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn an_answer_a_refusal_and_a_failure_are_told_apart() {
        let asked = |answer: &str| {
            let (_dir, path) = fake(answer);
            let mut pinentry = Pinentry::start(&path, Duration::from_secs(5)).unwrap();
            pinentry.somewhere = true;
            pinentry.ask(Question { description: "a\nb", prompt: "PIN", ..Default::default() })
        };
        assert!(asked("D 12%2534\\nOK").unwrap().unwrap().same(b"12%34"));
        assert!(asked("OK").unwrap().unwrap().is_empty());
        assert!(asked("ERR 83886179 Operation cancelled <Pinentry>").unwrap().is_none());
        assert!(matches!(asked("ERR 83886142 Timeout"), Err(PinentryError::TimedOut)));
        let refused = asked("ERR 83918950 Inappropriate ioctl for device").err().unwrap();
        assert!(refused.to_string().contains("GPG_TTY"), "{refused}");
        let missing = Pinentry::start(Path::new("/nonexistent/pinentry"), Duration::from_secs(5));
        assert!(matches!(missing, Err(PinentryError::Missing(_))));
    }
}
