//! A host agent whose identity is a systemd credential: systemd's host key is
//! root's, so it is decrypted before the privileges go. The key goes from
//! systemd-creds into a pipe that only the broker reads.

use crate::config::{Config, IdentityKind};
use nix::unistd::{geteuid, pipe2};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A TPM takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// As root, and about to take another uid: the pipe that holds the identity.
/// `None`: it is not ours to open; where systemd refuses, the agent starts
/// locked and says so.
///
/// The name that is demanded keeps the agent's user, whose file this is, from
/// having root decrypt another credential.
#[must_use]
pub fn open_as_root(config: &Config) -> Option<OwnedFd> {
    if config.run_as.is_none() || !geteuid().is_root() {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&config.identity)
        .ok()?;
    let mut head = Vec::new();
    (&file).take(64 * 1024).read_to_end(&mut head).ok()?;
    let kind = IdentityKind::of(&zeroize::Zeroizing::new(head)).ok()?;
    if !matches!(kind, IdentityKind::SystemdCreds { .. }) {
        return None;
    }
    std::io::Seek::rewind(&mut &file).ok()?;
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).ok()?;
    let mut child = Command::new("/usr/bin/systemd-creds")
        // As store::CREDENTIAL_NAME, which is of a later stage.
        .args(["decrypt", "--name=jsi-identity", "-", "-"])
        .stdin(Stdio::from(file))
        .stdout(Stdio::from(write))
        .spawn()
        .ok()?;
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success().then_some(read),
            Ok(None) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
