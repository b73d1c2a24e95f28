//! Where a process stands among cgroups, and which part of that root wrote:
//! version 2, version 1, and both beside each other (hybrid).

use crate::mutants::{Check, on};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files by which processes and threads enter a cgroup: of both versions, of
/// version 2 alone, of version 1 alone.
const ENTRANCES: [&str; 3] = ["cgroup.procs", "cgroup.threads", "tasks"];

/// The cgroup file systems that are mounted where the agent runs, from
/// proc_pid_mountinfo(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies(Vec<Hierarchy>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// `None`: version 2. Else controllers, `name=systemd` among them.
    controllers: Option<Vec<String>>,
    /// The cgroup that is seen at the mount point.
    root: String,
    mount: PathBuf,
}

/// The cgroup of a process, as far as it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is in none but a root.
    Root,
    /// The longest part of its path that only root can have chosen; may be `""`.
    Believed(String),
    /// In words.
    Unreadable(String),
}

impl Hierarchies {
    /// Those of now. What is mounted later is found after a reload.
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    pub(super) fn parse(mountinfo: &str) -> Self {
        Self(mountinfo.lines().filter_map(Hierarchy::parse).collect())
    }

    /// From the text of `/proc/PID/cgroup` (cgroups(7)). The hierarchy counts
    /// that says most: version 2, then systemd's own of version 1, then another
    /// that names more than its root; of these the first that can be looked at.
    pub(super) fn place(&self, text: &str) -> Place {
        let mut lines: Vec<Line<'_>> = text.lines().filter_map(Line::parse).collect();
        if lines.is_empty() {
            return Place::Unreadable("its cgroup could not be parsed".into());
        }
        lines.retain(|line| line.path != "/");
        lines.sort_by_key(Line::rank);
        let Some(first) = lines.first() else { return Place::Root };
        let seen = lines.iter().find_map(|line| Some((line, self.find(line)?)));
        let Some((line, hierarchy)) = seen else {
            let path = first.path;
            return Place::Unreadable(format!(
                "no cgroup file system that is mounted where the agent runs has its cgroup {path}"
            ));
        };
        match hierarchy.root_owned(line.path) {
            Ok(believed) => Place::Believed(believed.to_owned()),
            Err(reason) => Place::Unreadable(reason),
        }
    }

    fn find(&self, line: &Line<'_>) -> Option<&Hierarchy> {
        self.0
            .iter()
            .find(|hierarchy| hierarchy.is_of(line) && hierarchy.below(line.path).is_some())
    }
}

impl Hierarchy {
    fn parse(line: &str) -> Option<Self> {
        // Spaces in paths are escaped, so that " - " cannot be forged by one.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, mount) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let controllers = match kind {
            "cgroup2" => None,
            "cgroup" => Some(after.nth(1)?.split(',').map(str::to_owned).collect::<Vec<String>>()),
            _ => return None,
        };
        // One that was mounted outside of the agent's cgroup namespace shows
        // paths that mean something else here.
        if root.split('/').any(|part| part == "..") {
            return None;
        }
        Some(Self { controllers, root: unescape(root), mount: unescape(mount).into() })
    }

    fn is_of(&self, line: &Line<'_>) -> bool {
        match (&self.controllers, line.controllers) {
            (None, "") => true,
            (Some(options), controllers) if !controllers.is_empty() => {
                controllers.split(',').all(|one| options.iter().any(|option| option == one))
            }
            _ => false,
        }
    }

    /// The part of a path below what is mounted.
    fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.root == "/" {
            return Some(path);
        }
        let below = path.strip_prefix(&self.root)?;
        (below.is_empty() || below.starts_with('/')).then_some(below)
    }

    /// The longest part of the path whose directories root owns, all of them, and
    /// nobody else may write or let processes into. What lies below was put there,
    /// or can be entered, by its owner.
    fn root_owned<'p>(&self, path: &'p str) -> Result<&'p str, String> {
        if path.split('/').any(|part| part == "..") {
            return Err("its cgroup lies outside of the agent's cgroup namespace".into());
        }
        let below = self.below(path).unwrap_or(path);
        // What lies above the mount cannot be looked at: it counts where the
        // mounted cgroup itself is root's.
        let mut believed = 0;
        let mut end = path.len() - below.len();
        let mut at = self.mount.clone();
        if end > 0 {
            if on(Check::RootOwnedCgroup) && !is_roots(&at)? {
                return Ok("");
            }
            believed = end;
        }
        for part in below.split('/').skip(1).filter(|part| !part.is_empty()) {
            end += 1 + part.len();
            at.push(part);
            if !is_roots(&at)? && on(Check::RootOwnedCgroup) {
                break;
            }
            believed = end;
        }
        Ok(&path[..believed])
    }
}

/// Whether nobody but root can change the cgroup or enter it. A process is let
/// in by who may write its `cgroup.procs` (cgroups(7), "Delegation").
fn is_roots(directory: &Path) -> Result<bool, String> {
    let open = |facts: &std::fs::Metadata| facts.uid() != 0 || facts.mode() & 0o022 != 0;
    let failed = |at: &Path, error: std::io::Error| format!("{}: {error}", at.display());
    let facts = std::fs::symlink_metadata(directory).map_err(|e| failed(directory, e))?;
    if open(&facts) {
        return Ok(false);
    }
    for entrance in ENTRANCES {
        let at = directory.join(entrance);
        match std::fs::symlink_metadata(&at) {
            Ok(facts) if open(&facts) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&at, error)),
        }
    }
    Ok(true)
}

/// One line of `/proc/PID/cgroup`.
struct Line<'t> {
    /// Empty: version 2.
    controllers: &'t str,
    path: &'t str,
}

impl<'t> Line<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        path.starts_with('/').then_some(Self { controllers, path })
    }

    fn rank(&self) -> u8 {
        match self.controllers {
            "" => 0,
            "name=systemd" => 1,
            other if !other.starts_with("name=") => 2,
            _ => 3,
        }
    }
}

/// mountinfo writes space, tab, newline and backslash as `\040`, `\011`, ….
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let octal = |digits: &[u8; 3]| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        };
        match more.first_chunk::<3>().filter(|_| byte == b'\\').and_then(octal) {
            Some(code) => {
                out.push(code);
                rest = &more[3..];
            }
            None => {
                out.push(byte);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    const UNIFIED: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    const LEGACY: &str = "31 24 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
        32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    const HYBRID: &str = "34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn chosen(mountinfo: &str, cgroup: &str) -> Option<(String, String)> {
        let hierarchies = Hierarchies::parse(mountinfo);
        let mut lines: Vec<_> = cgroup.lines().filter_map(Line::parse).collect();
        lines.retain(|line| line.path != "/");
        lines.sort_by_key(Line::rank);
        let (line, found) = lines.iter().find_map(|line| Some((line, hierarchies.find(line)?)))?;
        Some((found.mount.display().to_string(), line.path.to_owned()))
    }

    #[test]
    fn the_hierarchy_that_says_most_counts_in_each_layout() {
        let both = format!("{LEGACY}{HYBRID}");
        for (mountinfo, cgroup, mount, path) in [
            (UNIFIED, "0::/a.service\n", "", "/a.service"),
            (&*both, "9:name=systemd:/a\n8:pids:/b\n0::/c:d\n", "/unified", "/c:d"),
            (&*both, "9:name=systemd:/a\n8:pids:/b\n0::/\n", "/systemd", "/a"),
            (LEGACY, "9:name=systemd:/a\n3:cpuacct,cpu:/b\n", "/systemd", "/a"),
            (LEGACY, "9:name=systemd:/\n3:cpuacct,cpu:/b\n", "/cpu,cpuacct", "/b"),
            (LEGACY, "8:pids:/b\n0::/c\n", "/pids", "/b"),
        ] {
            let wanted = Some((format!("/sys/fs/cgroup{mount}"), path.to_owned()));
            assert_eq!(chosen(mountinfo, cgroup), wanted, "{cgroup}");
        }
        assert_eq!(chosen(UNIFIED, "0::/\n"), None);
        assert_eq!(Hierarchies::parse(UNIFIED).place("9:pids:/\n0::/\n"), Place::Root);
    }

    #[test]
    fn a_hierarchy_that_is_mounted_nowhere_makes_its_cgroup_unreadable() {
        for (mountinfo, cgroup) in [
            ("", "0::/a.service\n"),
            (LEGACY, "0::/a.service\n"),
            (UNIFIED, "3:pids:/a.service\n"),
            (UNIFIED, "0::/../a.service\n"),
            (UNIFIED, "0::/nowhere/at/all\n"),
            (UNIFIED, ""),
            ("30 24 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a.service\n"),
            ("30 24 0:26 /b /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/bad.service\n"),
        ] {
            let place = Hierarchies::parse(mountinfo).place(cgroup);
            assert!(matches!(place, Place::Unreadable(_)), "{mountinfo} {cgroup}: {place:?}");
        }
    }

    #[test]
    fn mount_points_and_roots_are_read_as_the_kernel_escapes_them() {
        let line = "30 24 0:26 /docker/a /x\\040y\\134 rw - cgroup2 cgroup2 rw";
        let Hierarchies(found) = Hierarchies::parse(line);
        assert_eq!(found[0].mount, Path::new("/x y\\"));
        assert_eq!(found[0].below("/docker/a/b"), Some("/b"));
        assert_eq!(found[0].below("/docker/ab"), None);
    }

    /// A tree of directories as a cgroup file system of version 2 has them.
    fn tree(paths: &[&str]) -> (tempfile::TempDir, Hierarchies) {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let mut at = root.path().to_owned();
            for part in path.split('/') {
                at.push(part);
                let _ = std::fs::create_dir(&at);
                for file in ["cgroup.procs", "cgroup.threads"] {
                    std::fs::write(at.join(file), "").unwrap();
                }
            }
        }
        let line = format!("1 1 0:1 / {} rw - cgroup2 cgroup2 rw", root.path().display());
        let hierarchies = Hierarchies::parse(&line);
        (root, hierarchies)
    }

    #[test]
    fn what_another_uid_owns_or_can_enter_is_not_believed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let believed = |given: Option<&str>, mode: u32| {
            let (root, hierarchies) = tree(&["a.slice/b.service/c.scope"]);
            if let Some(given) = given {
                let at = root.path().join(given);
                if mode == 0 {
                    chown(&at, Some(1000), None).unwrap();
                } else {
                    std::fs::set_permissions(&at, PermissionsExt::from_mode(mode)).unwrap();
                }
            }
            match hierarchies.place("0::/a.slice/b.service/c.scope\n") {
                Place::Believed(path) => path,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(believed(None, 0), "/a.slice/b.service/c.scope");
        for (given, mode) in [
            ("a.slice/b.service", 0),
            ("a.slice/b.service/cgroup.procs", 0),
            ("a.slice/b.service/cgroup.threads", 0),
            ("a.slice/b.service", 0o777),
            ("a.slice/b.service/cgroup.procs", 0o664),
        ] {
            assert_eq!(believed(Some(given), mode), "/a.slice", "{given} {mode:o}");
        }
        assert_eq!(believed(Some("a.slice"), 0), "");
    }
}
