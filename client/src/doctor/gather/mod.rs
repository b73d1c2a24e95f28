//! Gathers the facts. Asks; changes nothing. What cannot be read is left out.

mod agent;
mod files;
mod host;
mod local;

use super::facts::{Client, Facts, Operator};
use crate::failure::Failure;
use nix::sys::resource::{Resource, getrlimit};
use std::path::{Path, PathBuf};

/// Looks at everything.
pub(crate) fn gather() -> Result<Facts, Failure> {
    let mut facts = Facts { client: client(), host: host::gather(), ..Facts::default() };
    // Before anything is connected to: the group of a setgid jsi goes with the
    // first connection, and shows in it.
    agent::gather(&mut facts)?;
    match local::gather() {
        Ok(local) => facts.local = Some(local),
        Err(why) => facts.local_error = why,
    }
    let places: Vec<(String, PathBuf)> = match &facts.status {
        Operator::Answered(status) => {
            status.places.iter().map(|p| (p.what.clone(), p.path.clone().into())).collect()
        }
        // An agent that does not say is not where the configuration of this
        // place says, unless there is none at all.
        _ if facts.agent.is_none() => facts
            .local
            .iter()
            .flat_map(|local| &local.configuration.places)
            .map(|place| (place.what.clone(), place.path.clone().into()))
            .collect(),
        _ => vec![("agent socket".to_owned(), facts.socket.path.clone())],
    };
    facts.places = places.iter().map(|(what, path)| files::place(what, path)).collect();
    facts.disks = places
        .iter()
        .filter(|(what, _)| what == "log" || what == "store")
        .filter_map(|(what, path)| files::disk(what, path))
        .collect();
    Ok(facts)
}

fn client() -> Client {
    let limit = |which| getrlimit(which).map_or(0, |(soft, _)| soft);
    Client {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uid: nix::unistd::geteuid().as_raw(),
        exe: std::fs::read_link("/proc/self/exe").ok(),
        in_path: std::env::var_os("PATH")
            .and_then(|path| first_in(std::env::split_paths(&path), "jsi")),
        rlimit_memlock: limit(Resource::RLIMIT_MEMLOCK),
        rlimit_nofile: limit(Resource::RLIMIT_NOFILE),
        rlimit_core: limit(Resource::RLIMIT_CORE),
    }
}

/// What a shell would take for that name, links followed.
fn first_in(mut directories: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    use nix::unistd::{AccessFlags, access};
    let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    directories.find_map(|directory| {
        let path = directory.join(name);
        runs(&path).then(|| std::fs::canonicalize(&path).unwrap_or(path))
    })
}
