//! cgroup, systemd unit and container, from root-owned cgroups only: a process
//! can move itself among cgroups that its uid owns.

use super::Fact;
use crate::mutants::{Check, on};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is known of the workload that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) cgroup: Fact<String>,
    pub(super) unit: Fact<String>,
    pub(super) container: Fact<String>,
}

impl Workload {
    /// Of a process, from `/proc/PID/cgroup`.
    pub(super) fn of(pid: u32) -> Self {
        match std::fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            Ok(text) => Self::from_text(&text, Path::new("/sys/fs/cgroup")),
            Err(error) => Self::unreadable(&format!("/proc/{pid}/cgroup: {error}")),
        }
    }

    fn from_text(text: &str, mount: &Path) -> Self {
        let Some((directory, path)) = choose(text, mount) else {
            return Self { cgroup: Fact::Absent, unit: Fact::Absent, container: Fact::Absent };
        };
        if path.split('/').any(|part| part == "..") {
            return Self::unreadable("the cgroup lies outside the agent's cgroup namespace");
        }
        match root_owned_prefix(&directory, path) {
            Ok(believed) => Self {
                unit: unit(believed).map_or(Fact::Absent, Fact::Known),
                container: container(believed).map_or(Fact::Absent, Fact::Known),
                cgroup: if believed.is_empty() {
                    Fact::Absent
                } else {
                    Fact::Known(believed.to_owned())
                },
            },
            Err(reason) => Self::unreadable(&reason),
        }
    }

    fn unreadable(reason: &str) -> Self {
        let fact = || Fact::Unreadable(reason.to_owned());
        Self { cgroup: fact(), unit: fact(), container: fact() }
    }
}

/// The hierarchy that says most: version 2, then systemd's own of version 1,
/// then any other that names more than the root.
fn choose<'t>(text: &'t str, mount: &Path) -> Option<(PathBuf, &'t str)> {
    let mut found: Vec<(u8, PathBuf, &str)> = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if path == "/" || !path.starts_with('/') {
            continue;
        }
        if id == "0" && controllers.is_empty() {
            let hybrid = mount.join("unified");
            found.push((0, if hybrid.is_dir() { hybrid } else { mount.to_owned() }, path));
        } else if let Some(name) = controllers.strip_prefix("name=") {
            found.push((if name == "systemd" { 1 } else { 3 }, mount.join(name), path));
        } else {
            found.push((2, mount.join(controllers), path));
        }
    }
    found.into_iter().min_by_key(|(rank, ..)| *rank).map(|(_, directory, path)| (directory, path))
}

/// The longest part of the path whose directories root owns, all of them, and
/// nobody else may write. What lies below was put there by its owner.
fn root_owned_prefix<'p>(directory: &Path, path: &'p str) -> Result<&'p str, String> {
    let mut believed = 0;
    let mut at = directory.to_owned();
    let mut end = 0;
    for part in path.split('/').skip(1) {
        end += 1 + part.len();
        at.push(part);
        let facts =
            std::fs::symlink_metadata(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        let open = |facts: &std::fs::Metadata| facts.uid() != 0 || facts.mode() & 0o022 != 0;
        let delegated =
            std::fs::symlink_metadata(at.join("cgroup.procs")).is_ok_and(|procs| open(&procs));
        if on(Check::RootOwnedCgroup) && (open(&facts) || delegated) {
            break;
        }
        believed = end;
    }
    Ok(&path[..believed])
}

fn unit(path: &str) -> Option<String> {
    let is_unit = |part: &&str| {
        [".service", ".scope", ".socket", ".mount"].iter().any(|end| part.ends_with(end))
    };
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `libpod-<id>.scope`, or the bare ID.
fn container(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|part| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        let id = name.get(name.len().checked_sub(64)?..)?;
        let before = &name[..name.len() - 64];
        let hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && (before.is_empty() || before.ends_with('-'))).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn units_and_containers_are_taken_from_their_own_component() {
        assert_eq!(unit("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(
            unit("/user.slice/user-1000.slice/session-3.scope").as_deref(),
            Some("session-3.scope")
        );
        assert_eq!(unit("/user.slice"), None);
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods/besteffort/pod1/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        for path in [
            format!("/x{ID}"),
            format!("/a/{}", &ID[1..]),
            format!("/{}", ID.to_uppercase()),
            "/é".into(),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }

    #[test]
    fn version_2_goes_before_systemds_and_that_before_others() {
        let mount = Path::new("/none");
        let text = "9:name=systemd:/a\n8:pids:/b\n0::/c:d\n";
        assert_eq!(choose(text, mount), Some((mount.to_owned(), "/c:d")));
        assert_eq!(
            choose("9:name=systemd:/a\n8:pids:/b\n0::/\n", mount),
            Some((mount.join("systemd"), "/a"))
        );
        assert_eq!(choose("8:pids:/b\n0::/\n", mount), Some((mount.join("pids"), "/b")));
        assert_eq!(choose("0::/\n", mount), None);
    }

    #[test]
    fn a_cgroup_that_another_uid_owns_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("user.service/forged.service");
        std::fs::create_dir_all(&below).unwrap();
        let text = "0::/user.service/forged.service\n";
        let seen = Workload::from_text(text, root.path());
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(seen.unit, Fact::Absent);
            return;
        }
        assert_eq!(seen.unit, Fact::Known("forged.service".into()));
        std::os::unix::fs::chown(&below, Some(1000), None).unwrap();
        assert_eq!(Workload::from_text(text, root.path()).unit, Fact::Known("user.service".into()));
    }

    #[test]
    fn a_cgroup_that_cannot_be_looked_at_is_unreadable_rather_than_absent() {
        let seen = Workload::from_text("0::/nowhere/at/all\n", Path::new("/nonexistent"));
        assert!(matches!(seen.unit, Fact::Unreadable(_)));
        assert!(matches!(
            Workload::from_text("0::/../x\n", Path::new("/sys/fs/cgroup")).container,
            Fact::Unreadable(_)
        ));
    }
}
