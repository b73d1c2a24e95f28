//! What `jsi-agent facts` prints: system calls and configuration are its
//! business.

use crate::beside;
use crate::doctor::facts::Local;
use std::io::Read;
use std::process::{Command, Stdio};

/// It prints some kilobytes.
const MAX_OUTPUT: u64 = 1024 * 1024;

/// Runs it; else why there is nothing.
pub(super) fn gather() -> Result<Local, String> {
    let agent = beside::find().map_err(|failure| failure.to_string())?;
    let shown = agent.display();
    crate::session::drop_group();
    let mut child = Command::new(&agent)
        .arg("facts")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let mut text = String::new();
    let read = match child.stdout.take() {
        Some(out) => out.take(MAX_OUTPUT).read_to_string(&mut text).map(|_| ()),
        None => Ok(()),
    };
    let ended = child.wait().map_err(|error| format!("{shown}: {error}"))?;
    read.map_err(|error| format!("{shown}: {error}"))?;
    if !ended.success() {
        return Err(format!("{shown} knows no facts: it is of another version ({ended})"));
    }
    serde_json::from_str(&text).map_err(|error| format!("{shown} prints no facts: {error}"))
}
