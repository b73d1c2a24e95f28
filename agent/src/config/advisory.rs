//! Why an agent is advisory: what its own uid, and so every program of the
//! user whom it serves, could read or change.

use super::checked::{Config, Mode};
use super::environment::Environment;
use nix::unistd::{AccessFlags, access};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How an age file begins, in binary and in armour (age-encryption.org/v1).
const ENCRYPTED: [&[u8]; 2] = [b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE"];

/// The reasons why this agent's word is only advice; none for a host agent with
/// a uid of its own. Reads the files that it speaks of.
#[must_use]
pub fn advisory(config: &Config) -> Vec<String> {
    advisory_in(config, &Environment::current())
}

fn advisory_in(config: &Config, env: &Environment) -> Vec<String> {
    if config.dedicated_uid {
        return Vec::new();
    }
    let uid = env.euid;
    let mut reasons = Vec::new();
    if config.mode == Mode::Host {
        reasons.push(format!("the host agent runs as uid {uid}, which is not a uid of its own"));
    }
    if opens_by_itself(&config.identity) {
        let identity = config.identity.display();
        reasons.push(format!("the identity key file {identity} is readable by uid {uid}"));
    }
    if let Some(dir) = writable_step(&config.policy_dir, uid) {
        let dir = dir.display();
        reasons.push(format!(
            "the policy directory is in the hands of uid {uid}, which may write {dir}"
        ));
    }
    for (what, path) in env
        .agent_exe
        .iter()
        .map(|path| ("agent", path))
        .chain(config.enrolled_clients.iter().map(|path| ("client", path)))
    {
        if let Some(step) = writable_step(path, uid) {
            let (path, step) = (path.display(), step.display());
            reasons.push(format!(
                "the {what} binary {path} can be changed by uid {uid}, which may write {step}"
            ));
        }
    }
    reasons.push("policy is not authenticated under the identity".to_owned());
    reasons
}

/// The identity is there and no passphrase stands before it.
#[must_use]
pub fn opens_by_itself(identity: &Path) -> bool {
    let Ok(mut file) = std::fs::File::open(identity) else { return false };
    let mut head = Vec::new();
    let read = file.by_ref().take(64).read_to_end(&mut head);
    let encrypted = ENCRYPTED.iter().any(|magic| head.starts_with(magic));
    read.is_ok() && !encrypted
}

/// The first of the path and its parents that this uid owns or may write,
/// from the path upwards.
fn writable_step(path: &Path, uid: u32) -> Option<&Path> {
    path.ancestors().find(|step| {
        let Ok(meta) = std::fs::metadata(step) else { return false };
        let sticky_directory = meta.is_dir() && meta.mode() & 0o1000 != 0;
        meta.uid() == uid || (!sticky_directory && access(*step, AccessFlags::W_OK).is_ok())
    })
}
