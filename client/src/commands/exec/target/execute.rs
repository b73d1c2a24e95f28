//! Becoming the program.

use super::{CANNOT_RUN, cannot_run};
use crate::failure::Failure;
use nix::fcntl::AtFlags;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// It is still the file that was looked at.
pub(super) fn unchanged(path: &Path, seen: &Metadata) -> Result<(), Failure> {
    let same = |now: &Metadata| {
        let key = |m: &Metadata| {
            (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
        };
        key(now) == key(seen)
    };
    match std::fs::metadata(path) {
        Ok(now) if same(&now) => Ok(()),
        Ok(_) => Err(Failure::new(format!("{} was changed meanwhile", path.display()))
            .code(CANNOT_RUN)
            .advise("run it again")),
        Err(error) => Err(cannot_run(path, &error)),
    }
}

/// Executes what is behind a descriptor, as execveat(2) does for an empty path.
pub(super) fn execute(program: &File, words: &[OsString], command: &Command) -> io::Error {
    match executed(program, words, command) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn executed(program: &File, words: &[OsString], command: &Command) -> io::Result<Infallible> {
    // Rust has SIGPIPE ignored, which exec would keep; one that is handled is
    // reset (execve(2)). `Command` does the same in its own way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _handled = runtime.block_on(async { signal(SignalKind::pipe()) })?;
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => variables.insert(name.to_owned(), value.to_owned()),
            None => variables.remove(name),
        };
    }
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
    let words: Vec<CString> =
        words.iter().map(|word| text(word.as_bytes().to_vec())).collect::<Result<_, _>>()?;
    let variables: Vec<CString> = variables
        .into_iter()
        .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<_, _>>()?;
    let done = nix::unistd::execveat(program, c"", &words, &variables, AtFlags::AT_EMPTY_PATH);
    Ok(done?)
}
