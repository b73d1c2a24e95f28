//! systemd-creds(1): by pipes, so that no key is on a disk or in arguments.

use crate::memory::SecretBuf;
use crate::store::CREDENTIAL_NAME;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

const PROGRAM: &str = "/usr/bin/systemd-creds";

/// As an identity file.
const MAX_LEN: u64 = 64 * 1024;

/// Encrypts an identity by `host`, `tpm2` or `host+tpm2`.
///
/// # Errors
/// What systemd-creds said.
pub fn encrypt(text: &SecretBuf, with_key: &str) -> Result<SecretBuf, String> {
    run(&["encrypt", &format!("--with-key={with_key}")], text.expose())
        .map_err(|why| format!("systemd-creds did not encrypt the identity ({why})"))
}

/// Decrypts one.
///
/// # Errors
/// What systemd-creds said, and what to do.
pub fn decrypt(sealed: &[u8]) -> Result<SecretBuf, String> {
    run(&["decrypt"], sealed).map_err(|why| {
        format!(
            "systemd-creds did not decrypt the identity ({why}); where its key is the host's, \
             only root can: restart the agent, or run: sudo systemd-creds decrypt \
             --name={CREDENTIAL_NAME} IDENTITY - | jsi unlock --stdin"
        )
    })
}

fn run(words: &[&str], input: &[u8]) -> Result<SecretBuf, String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {PROGRAM}"),
        _ => error.to_string(),
    };
    let mut child = Command::new(PROGRAM)
        .args(words)
        .arg(format!("--name={CREDENTIAL_NAME}"))
        .args(["-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may refuse before it has read all.
        let _ = stdin.write_all(input);
    }
    // Of a fixed size: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 1));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_LEN).read_to_end(&mut text).map_err(failed)?;
    }
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(2_000).read_to_string(&mut complaint);
    }
    if child.wait().map_err(failed)?.success() {
        return Ok(SecretBuf::new(std::mem::take(&mut *text)));
    }
    let complaint = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(format!("{complaint:.300}"))
}
