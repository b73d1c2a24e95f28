//! `--broker-fd`: a way to the agent that the command inherits.

use crate::failure::Failure;
use jsi_client::Error;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

/// The variable that clients look at.
const VARIABLE: &str = "JSI_AUTH_FD";

/// Connects, and lets the command know the number. `None`: it inherits one that
/// was inherited already.
pub(super) fn hand_down(command: &mut Command) -> Result<Option<OwnedFd>, Failure> {
    if jsi_client::inherited().is_some() {
        return Ok(None);
    }
    let fd = jsi_client::bootstrap().map_err(|error| {
        let absent = matches!(&error, Error::Unreachable { source, .. }
            if source.kind() == io::ErrorKind::NotFound);
        let failure = Failure::from(error);
        if absent {
            failure
                .advise("--broker-fd needs an agent's bootstrap socket: an older agent has none")
                .advise("jsi doctor says what there is; else update and restart the agent")
        } else {
            failure
        }
    })?;
    command.env(VARIABLE, fd.as_raw_fd().to_string());
    Ok(Some(fd))
}

/// Has exec leave it open; as late as can be, so that helpers have none of it.
pub(super) fn leave_open(fd: &OwnedFd) -> Result<(), Failure> {
    match fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Failure::new(format!("cannot hand down a descriptor: {errno}"))),
    }
}
