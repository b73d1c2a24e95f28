//! Why an agent is advisory: what its own uid, and so every program of the
//! user whom it serves, could read or change.

use super::checked::{Config, Mode};
use super::environment::Environment;
use super::identity_kind::IdentityKind;
use nix::unistd::{AccessFlags, access};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An identity file has a few hundred bytes; an SSH key some thousand.
const MAX_IDENTITY: u64 = 64 * 1024;

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
    reasons.extend(identity_reason(&config.identity, uid));
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

/// The identity is there, and whoever reads it has the key.
#[must_use]
pub fn opens_by_itself(identity: &Path) -> bool {
    matches!(kind(identity), Some(Ok(IdentityKind::KeyFile | IdentityKind::Ssh) | Err(_)))
}

/// `None`: it cannot be read.
fn kind(identity: &Path) -> Option<Result<IdentityKind, &'static str>> {
    let file = std::fs::File::open(identity).ok()?;
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MAX_IDENTITY as usize + 1));
    file.take(MAX_IDENTITY).read_to_end(&mut bytes).ok()?;
    Some(IdentityKind::of(&bytes))
}

/// How the uid alone could use the identity, if it could.
fn identity_reason(identity: &Path, uid: u32) -> Option<String> {
    let shown = identity.display();
    match kind(identity)? {
        Ok(IdentityKind::Passphrase | IdentityKind::SshPassphrase) => None,
        // Nobody but root reads the host key, which systemd-creds needs.
        Ok(IdentityKind::SystemdCreds { host_key: true }) if uid != 0 => None,
        Ok(IdentityKind::Plugin) => Some(format!(
            "the identity {shown} opens for whoever of uid {uid} runs its plugin, unless the \
             device asks for a PIN or a touch, which the agent cannot know"
        )),
        Ok(IdentityKind::SystemdCreds { .. }) => {
            Some(format!("the systemd credential {shown} opens for uid {uid}"))
        }
        Ok(IdentityKind::KeyFile | IdentityKind::Ssh) | Err(_) => {
            Some(format!("the identity key file {shown} is readable by uid {uid}"))
        }
    }
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
