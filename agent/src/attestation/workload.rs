//! What a process belongs to: cgroup, systemd unit and its run, container, pod.
//! From root-owned cgroups only: a process can move itself among cgroups that
//! its uid owns.

use super::cgroup::{Hierarchies, Place};
use super::{Fact, invocation, naming};
use std::path::{Path, PathBuf};

/// What is known of the workload that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) cgroup: Fact<String>,
    pub(super) unit: Fact<String>,
    pub(super) invocation: Fact<String>,
    pub(super) container: Fact<String>,
    pub(super) container_runtime: Fact<String>,
    pub(super) pod: Fact<String>,
}

/// What of this machine workloads are told by.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    hierarchies: Hierarchies,
    /// Where systemd's own cgroups begin: not at the root in a container without
    /// a cgroup namespace.
    systemd: String,
    /// Where systemd names the runs of its units.
    runs: PathBuf,
}

impl Machine {
    /// As it is now.
    pub(super) fn read() -> Self {
        let first = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
        Self {
            hierarchies: Hierarchies::read(),
            systemd: above_init(&first).unwrap_or_default().to_owned(),
            runs: PathBuf::from(invocation::UNITS),
        }
    }

    /// Of a process, from `/proc/PID/cgroup`.
    pub(super) fn workload(&self, pid: u32) -> Workload {
        match std::fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            Ok(text) => self.of(&text),
            Err(error) => Workload::unreadable(&format!("/proc/{pid}/cgroup: {error}")),
        }
    }

    fn of(&self, text: &str) -> Workload {
        match self.hierarchies.place(text) {
            Place::Root => Workload::named("", &self.systemd, &self.runs),
            Place::Believed(path) => Workload::named(&path, &self.systemd, &self.runs),
            Place::Unreadable(reason) => Workload::unreadable(&reason),
        }
    }
}

impl Workload {
    fn named(believed: &str, systemd: &str, runs: &Path) -> Self {
        let known = |text: Option<String>| text.map_or(Fact::Absent, Fact::Known);
        let shifted = believed.strip_prefix(systemd).filter(|rest| rest.starts_with('/'));
        let unit = naming::unit(shifted.unwrap_or(believed));
        let container = naming::container(believed);
        let (container, runtime) =
            container.map_or((None, None), |found| (Some(found.id), found.runtime));
        Self {
            invocation: unit.map_or(Fact::Absent, |unit| invocation::of(runs, unit)),
            unit: known(unit.map(str::to_owned)),
            container: known(container),
            container_runtime: known(runtime.map(str::to_owned)),
            pod: known(naming::pod(believed)),
            cgroup: known((!believed.is_empty()).then(|| believed.to_owned())),
        }
    }

    fn unreadable(reason: &str) -> Self {
        let fact = || Fact::Unreadable(reason.to_owned());
        Self {
            cgroup: fact(),
            unit: fact(),
            invocation: fact(),
            container: fact(),
            container_runtime: fact(),
            pod: fact(),
        }
    }
}

/// What lies above systemd's own scope, as systemd itself finds its root
/// (`cg_get_root_path` in systemd's src/basic/cgroup-util.c).
fn above_init(first: &str) -> Option<&str> {
    let paths = first.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(|path| path.strip_suffix("/init.scope")).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const RUN: &str = "0123456789abcdef0123456789abcdef";

    /// A machine whose cgroups of version 2 are directories of a test.
    fn machine(systemd: &str, paths: &[&str]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            std::fs::create_dir_all(root.path().join("cgroup").join(path)).unwrap();
        }
        let runs = root.path().join("units");
        std::fs::create_dir(&runs).unwrap();
        std::os::unix::fs::symlink(RUN, runs.join("invocation:web.service")).unwrap();
        let mount = root.path().join("cgroup");
        let line = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw", mount.display());
        let hierarchies = Hierarchies::parse(&line);
        (root, Machine { hierarchies, systemd: systemd.to_owned(), runs })
    }

    fn known(text: &str) -> Fact<String> {
        Fact::Known(text.to_owned())
    }

    #[test]
    fn a_service_has_its_unit_and_its_run() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (_root, machine) = machine("", &["system.slice/web.service/worker"]);
        let seen = machine.of("0::/system.slice/web.service/worker\n");
        assert_eq!(seen.unit, known("web.service"));
        assert_eq!(seen.invocation, known(RUN));
        assert_eq!(seen.cgroup, known("/system.slice/web.service/worker"));
        assert_eq!([seen.container, seen.container_runtime, seen.pod], [const { Fact::Absent }; 3]);
        let nowhere = machine.of("0::/\n");
        assert_eq!([nowhere.cgroup, nowhere.unit, nowhere.invocation], [const { Fact::Absent }; 3]);
    }

    #[test]
    fn systemd_in_a_container_without_a_cgroup_namespace_names_its_own_units() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let above = format!("/docker/{ID}");
        let first = format!("9:name=systemd:{above}/init.scope\n0::{above}/init.scope\n");
        assert_eq!(above_init(&first), Some(&*above));
        assert_eq!(above_init("0::/init.scope\n"), Some(""));
        assert_eq!(above_init("0::/\n"), None);
        let inside = format!("{above}/system.slice/web.service");
        let (_root, machine) = machine(&above, &[&inside[1..]]);
        let seen = machine.of(&format!("0::{inside}\n"));
        assert_eq!(seen.unit, known("web.service"));
        assert_eq!(seen.container, known(ID));
        assert_eq!(seen.container_runtime, known("docker"));
    }

    #[test]
    fn a_name_that_is_forged_below_a_cgroup_of_another_uid_is_no_fact() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let below = format!("user.slice/mine/docker-{ID}.scope");
        let (root, machine) = machine("", &[&below, "user.slice/mine/web.service"]);
        let mine = root.path().join("cgroup/user.slice/mine");
        std::os::unix::fs::chown(mine, Some(1000), None).unwrap();
        for forged in [below.as_str(), "user.slice/mine/web.service"] {
            let seen = machine.of(&format!("0::/{forged}\n"));
            assert_eq!(seen.cgroup, known("/user.slice"));
            let Workload { unit, invocation, container, container_runtime, pod, .. } = seen;
            assert_eq!(
                [unit, invocation, container, container_runtime, pod],
                [const { Fact::Absent }; 5]
            );
        }
    }

    #[test]
    fn a_cgroup_that_cannot_be_looked_at_is_unreadable_rather_than_absent() {
        let (_root, machine) = machine("", &[]);
        for text in ["0::/nowhere/at/all\n", "0::/../x\n", ""] {
            let Workload { cgroup, unit, invocation, container, container_runtime, pod } =
                machine.of(text);
            for fact in [cgroup, unit, invocation, container, container_runtime, pod] {
                assert!(matches!(fact, Fact::Unreadable(_)), "{text}: {fact:?}");
            }
        }
    }
}
