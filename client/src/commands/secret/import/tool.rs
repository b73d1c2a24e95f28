//! The tools that open what others have encrypted: `gpg`, `age`, `systemd-creds`.
//!
//! The ciphertext goes in by a pipe, so what is opened is what was looked at, and no
//! value stands in an argument. What comes out goes into memory that is wiped. The
//! group of a setgid `jsi` is laid down by then, and execve(2) forgets it.

use crate::failure::Failure;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use zeroize::Zeroizing;

/// Longest output that is taken: the longest secret, and what stands round it.
const MAX_OUTPUT: usize = jsi_proto::MAX_SECRET + 64 * 1024;
/// What is kept of what a tool says on standard error, in bytes.
const MAX_SAID: u64 = 4096;

/// A tool, and the package that has it.
#[derive(Clone, Copy)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
}

pub(super) const GPG: Tool = Tool { program: "gpg", package: "gnupg" };
pub(super) const AGE: Tool = Tool { program: "age", package: "age" };
pub(super) const SYSTEMD_CREDS: Tool = Tool { program: "systemd-creds", package: "systemd" };

/// Why a tool gave nothing.
pub(super) enum Trouble {
    /// It is not there at all: no other file will fare better.
    Missing(Failure),
    /// What it said of this file.
    Refused(String),
}

impl Tool {
    /// What it makes of `input`.
    pub(super) fn open(
        self,
        arguments: &[OsString],
        input: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        let mut command = Command::new(self.program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.missing(&error))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (output, said) = thread::scope(|scope| {
            // One that needs no more closes its end, and that is its affair.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            let said = scope.spawn(move || stderr.map(heard).unwrap_or_default());
            let output = stdout.map_or_else(|| Ok(Zeroizing::default()), taken);
            if output.is_err() {
                let _ = child.kill(); // else it waits for its output to be read
            }
            (output, said.join().unwrap_or_default())
        });
        let status = child.wait().map_err(|error| self.refused(&error.to_string()))?;
        let output = output.map_err(|error| self.refused(&error.to_string()))?;
        if status.success() {
            return Ok(output);
        }
        Err(self.refused(if said.is_empty() { "it does not open it" } else { &said }))
    }

    fn refused(self, why: &str) -> Trouble {
        Trouble::Refused(format!("{}: {why}", self.program))
    }

    fn missing(self, error: &io::Error) -> Trouble {
        let Self { program, package } = self;
        let failure = if error.kind() == ErrorKind::NotFound {
            Failure::new(format!("{program} is not in PATH, and only it opens these files"))
                .advise(format!("install it, for example by: apt install {package}"))
        } else {
            Failure::new(format!("cannot run {program}: {error}"))
        };
        Trouble::Missing(failure)
    }
}

/// All of it, in pieces of a fixed size, so that no growth leaves copies.
fn taken(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT + 1));
    let mut piece = Zeroizing::new([0; 16 * 1024]);
    loop {
        match from.read(&mut *piece) {
            Ok(0) => return Ok(whole),
            Ok(count) if whole.len() + count > MAX_OUTPUT => {
                return Err(io::Error::other("it is longer than any secret may be (1 MiB)"));
            }
            Ok(count) => whole.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What it says, in one line.
fn heard(mut from: impl Read) -> String {
    let mut said = Vec::new();
    let _ = from.by_ref().take(MAX_SAID).read_to_end(&mut said); // it is only for people
    let _ = io::copy(&mut from, &mut io::sink());
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SH: Tool = Tool { program: "sh", package: "dash" };

    fn sh(script: &str, input: &[u8]) -> Result<Vec<u8>, String> {
        let arguments = ["-c".into(), script.into()];
        SH.open(&arguments, input).map(|output| output.to_vec()).map_err(|trouble| match trouble {
            Trouble::Refused(why) => why,
            Trouble::Missing(failure) => format!("{failure:?}"),
        })
    }

    #[test]
    fn output_is_taken_and_what_is_said_is_told() {
        assert_eq!(sh("cat", b"\0\xffx"), Ok(b"\0\xffx".to_vec()));
        assert_eq!(sh("exec cat", &vec![7; 900_000]).unwrap().len(), 900_000);
        // Without reading its input.
        assert_eq!(sh("echo done", &vec![7; 900_000]), Ok(b"done\n".to_vec()));
        assert_eq!(
            sh("echo no key >&2; echo at all >&2; exit 2", b""),
            Err("sh: no key; at all".into())
        );
        assert!(sh("head -c 3000000 /dev/zero", b"").unwrap_err().contains("longer than any"));
    }

    #[test]
    fn a_tool_that_is_not_there_is_named_with_its_package() {
        let tool = Tool { program: "jsi-no-such-tool", package: "none" };
        let Err(Trouble::Missing(failure)) = tool.open(&[], b"") else { panic!() };
        assert!(format!("{failure:?}").contains("apt install none"));
    }
}
