//! `jsi-agent`, for what only it can do. Never by PATH: what is found there is
//! whatever the caller's environment says.

use crate::failure::Failure;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// More than any passphrase.
const MAX_SAID: u64 = 64 * 1024;

const PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/libexec/jsi"];

/// Becomes `jsi-agent` with these arguments.
pub(crate) fn become_agent(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let agent = find()?;
    crate::session::drop_group();
    let error = Command::new(&agent).arg0("jsi-agent").args(arguments).exec();
    Err(Failure::new(format!("cannot run {}: {error}", agent.display())))
}

/// Runs `jsi-agent` and gives its exit code and what it printed, which may be
/// secret: no copy is left behind.
pub(crate) fn ask_agent(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(i32, Zeroizing<Vec<u8>>), Failure> {
    let agent = find()?;
    crate::session::drop_group();
    let failed =
        |error: io::Error| Failure::new(format!("cannot run {}: {error}", agent.display()));
    let mut command = Command::new(&agent);
    command.arg0("jsi-agent").args(arguments).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut said = Zeroizing::new(Vec::with_capacity(MAX_SAID as usize + 1));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_SAID).read_to_end(&mut said).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    Ok((status.code().unwrap_or(1), said))
}

/// Asks `jsi-agent` with these arguments: what goes to its stdin, and what it
/// answers on stdout. What it says on stderr is its own message.
pub(crate) fn question_agent(
    arguments: impl IntoIterator<Item = OsString>,
    input: &[u8],
) -> Result<Vec<u8>, Failure> {
    let agent = find()?;
    crate::session::drop_group();
    let fault =
        |error: std::io::Error| Failure::new(format!("cannot run {}: {error}", agent.display()));
    let mut command = Command::new(&agent);
    command.arg0("jsi-agent").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(fault)?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input); // one that reads nothing says why by itself
    }
    let out = child.wait_with_output().map_err(fault)?;
    match out.status.code() {
        Some(0) => Ok(out.stdout),
        code => Err(Failure::Quiet(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

/// Where it is.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let own = std::fs::read_link("/proc/self/exe").ok();
    let beside = own.as_deref().and_then(|own| own.parent()).map(PathBuf::from);
    let places: Vec<PathBuf> = beside.into_iter().chain(PLACES.map(PathBuf::from)).collect();
    let found = places.iter().map(|place| place.join("jsi-agent")).find(|path| path.is_file());
    found.ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Failure::new(format!("jsi-agent is in none of {}", places.join(", ")))
            .code(4)
            .advise("install it beside jsi")
    })
}
