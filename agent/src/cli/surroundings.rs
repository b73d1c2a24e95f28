//! What policies name and the host does not have, or has otherwise: credentials
//! that nobody defines, programs that are gone, replaced, or open to others.

use crate::config::{Config, near_miss};
use crate::names::{CredentialName, IssuerName};
use crate::policy::{Fault, Policies, Program};
use crate::store;
use ring::digest::{Context, SHA256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Files that are looked at: more policies than that are not written by hand.
const MAX_PROGRAMS: usize = 4_096;
/// Largest program that is measured; the agent's own default.
const MAX_HASHED: u64 = 512 * 1024 * 1024;

/// All of that, at the places of the policies.
pub(super) fn of(policies: &Policies, config: Option<&Config>) -> Vec<Fault> {
    let mut found = config.map_or_else(Vec::new, |config| credentials(policies, config));
    let mut seen = BTreeMap::new();
    for program in policies.programs().into_iter().take(MAX_PROGRAMS) {
        found.extend(self::program(&program, &mut seen));
    }
    found
}

/// Credentials without a definition, and those of which every lease is the same.
fn credentials(policies: &Policies, config: &Config) -> Vec<Fault> {
    // Where the store cannot be read, nobody can say what is not in it.
    let stored = store::stored_names(&config.store_dir);
    let known: Option<BTreeSet<&CredentialName>> =
        stored.as_ref().ok().map(|stored| config.credentials.keys().chain(stored).collect());
    let mut found = Vec::new();
    for (name, permit, place) in policies.credentials() {
        let Ok(name) = CredentialName::new(&name) else { continue };
        let configured = config.credentials.get(&name);
        let is_static = match configured {
            Some(credential) => credential.issuer == IssuerName::store(),
            None => stored.as_ref().is_ok_and(|stored| stored.contains(&name)),
        };
        if is_static && permit {
            found.push(Fault {
                message: format!(
                    "{name} is a stored secret, the same for every lease: the end of a lease does not end it"
                ),
                ..place
            });
        } else if let Some(known) = known.as_ref().filter(|known| !known.contains(&name)) {
            let near = near_miss(name.as_str(), known.iter().map(|name| name.as_str()));
            found.push(Fault {
                message: format!("no credential {name} is defined or stored"),
                help: near.map(|near| format!("did you mean Credential::{near:?}?")),
                ..place
            });
        }
    }
    found
}

/// What was found of each file: what is doubtful about it, and its digest, where
/// it could be measured.
type Seen = BTreeMap<String, (Option<String>, Option<String>)>;

fn program(program: &Program, seen: &mut Seen) -> Vec<Fault> {
    let looked = seen.entry(program.exe.clone()).or_insert_with(|| look(Path::new(&program.exe)));
    let (doubt, digest) = looked;
    let place = || program.place.clone();
    let mut found: Vec<Fault> =
        doubt.iter().map(|why| Fault { message: why.clone(), ..place() }).collect();
    if let (Some(now), Some(pinned)) = (digest, &program.digest)
        && now != pinned
    {
        found.push(Fault {
            message: format!("{} has another digest now", program.exe),
            help: Some(format!("it is {now}")),
            ..place()
        });
    }
    found
}

fn look(path: &Path) -> (Option<String>, Option<String>) {
    let shown = path.display();
    let doubt = |why: String| (Some(why), None);
    let meta = match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => {
            let to = path.canonicalize().map(|to| format!(", to {}", to.display()));
            let to = to.unwrap_or_default();
            return doubt(format!("{shown} is a link{to}: a process's exe is what it leads to"));
        }
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return doubt(format!("{shown} is not there"));
        }
        Err(_) => return (None, None), // it may well be readable to the agent
    };
    if !meta.is_file() {
        return doubt(format!("{shown} is not a program"));
    }
    let mode = meta.mode() & 0o7777;
    let open = (mode & 0o022 != 0).then(|| {
        format!("{shown} has mode {mode:04o}: group or others may write what this permits")
    });
    (open, measure(path, meta.len()))
}

fn measure(path: &Path, length: u64) -> Option<String> {
    if length > MAX_HASHED {
        return None;
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(data_encoding::HEXLOWER.encode(context.finish().as_ref())),
            count => context.update(buffer.get(..count)?),
        }
    }
}
