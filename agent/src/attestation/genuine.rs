//! Which executables are `jsi` itself. The attestor works it out from its own
//! configuration: the broker has no say in it.

use super::executable::{Known, digest_of};
use super::{Digest, Executable, Via};
use crate::config::Config;
use crate::mutants::{Check, on};
use crate::process::image::FileStat;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Group of a set-group-ID client, as distributions do with ssh-agent's `_ssh`.
const CLIENT_GROUP: &str = "_jsi";
/// Digests of clients that root has replaced and still trusts, as sha256sum(1)
/// prints them: an upgrade writes here what it replaces, so that a `jsi exec`
/// that runs on keeps its leases after the agent has been restarted too.
const FORMER_CLIENTS: &str = "/etc/jsi/clients.sha256";
/// Bytes of that file that are read: some hundred digests.
const FORMER_BYTES: u64 = 64 * 1024;
/// Replaced clients that are remembered for each path until the next reload.
const MAX_REPLACED: usize = 8;

/// The digests of clients.
pub(super) struct Clients {
    /// gid of [`CLIENT_GROUP`], where root made it and it has no members.
    pub(super) group: Option<u32>,
    entries: Mutex<Vec<Entry>>,
    /// From [`FORMER_CLIENTS`].
    former: Vec<Digest>,
}

struct Entry {
    path: PathBuf,
    via: Via,
    seen: Option<(FileStat, Known)>,
    /// What was there before and may run on, the newest last.
    replaced: Vec<Digest>,
}

impl Clients {
    /// Reads and hashes what the configuration names. Enrolled clients count on
    /// an advisory agent only.
    pub(super) fn new(config: &Config, advisory: bool) -> Self {
        let genuine = config.genuine_clients.iter().map(|path| (path, Via::GenuineClient));
        let enrolled = config
            .enrolled_clients
            .iter()
            .filter(|_| advisory)
            .map(|path| (path, Via::EnrolledClient));
        let entries = genuine
            .chain(enrolled)
            .map(|(path, via)| Entry { path: path.clone(), via, seen: None, replaced: Vec::new() })
            .collect();
        let clients = Self {
            group: client_group(Path::new("/etc/group")),
            entries: Mutex::new(entries),
            former: former(Path::new(FORMER_CLIENTS)),
        };
        clients.refresh();
        clients
    }

    /// Looks whether a file has changed, and hashes it again if so.
    pub(super) fn refresh(&self) {
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let now = std::fs::metadata(&entry.path).ok();
            let same = now.as_ref().zip(entry.seen.as_ref()).is_some_and(|(now, (then, _))| {
                (now.dev(), now.ino(), now.size()) == (then.device, then.inode, then.size)
                    && (now.ctime(), now.ctime_nsec()) == (then.ctime.0, i64::from(then.ctime.1))
                    && (now.mtime(), now.mtime_nsec()) == (then.mtime.0, i64::from(then.mtime.1))
            });
            if same {
                continue;
            }
            if let Some((_, known)) = entry.seen.take() {
                entry.replaced.retain(|digest| *digest != known.digest);
                entry.replaced.push(known.digest);
                let surplus = entry.replaced.len().saturating_sub(MAX_REPLACED);
                entry.replaced.drain(..surplus);
            }
            if now.is_none() || (entry.via == Via::GenuineClient && !root_installed(&entry.path)) {
                continue;
            }
            entry.seen = digest_of(&entry.path).ok();
        }
    }

    /// What was read of each, so that nobody need read it again.
    pub(super) fn read(&self) -> Vec<(FileStat, Known)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter_map(|entry| entry.seen.clone()).collect()
    }

    /// Whether that is a client that root installed.
    pub(super) fn is_genuine(&self, exe: &Executable) -> bool {
        self.kind(exe) == Some(Via::GenuineClient)
    }

    /// Whether that is a client, and of which kind. One that was replaced counts
    /// as what it was, so that an upgrade takes nothing from those that run; a
    /// copy of it that somebody kept does not.
    pub(super) fn kind(&self, exe: &Executable) -> Option<Via> {
        let (digest, unlinked) = (&exe.digest, was_roots(exe));
        if unlinked && self.former.contains(digest) {
            return Some(Via::GenuineClient);
        }
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |via| {
            entries.iter().filter(|entry| entry.via == via).any(|entry| {
                let now = entry.seen.as_ref().map(|(_, known)| &known.digest);
                // What was enrolled was the user's own all the time.
                let replaced = unlinked || via == Via::EnrolledClient;
                now == Some(digest) || replaced && entry.replaced.contains(digest)
            })
        };
        [Via::GenuineClient, Via::EnrolledClient].into_iter().find(|via| found(*via))
    }
}

/// A file that root alone could write, and that has no name any more.
fn was_roots(exe: &Executable) -> bool {
    exe.links == 0 && exe.owner_uid == 0 && exe.mode & 0o022 == 0
}

/// The digests in a file that root alone can have written; none where it is
/// not such a file.
fn former(file: &Path) -> Vec<Digest> {
    if !root_installed(file) {
        return Vec::new();
    }
    let mut text = String::new();
    match File::open(file).map(|file| file.take(FORMER_BYTES).read_to_string(&mut text)) {
        Ok(Ok(_)) => digests_in(&text),
        _ => Vec::new(),
    }
}

fn digests_in(text: &str) -> Vec<Digest> {
    text.lines().filter_map(|line| Digest::from_hex(line.split_whitespace().next()?)).collect()
}

/// The file and every directory above it belong to root, and nobody else may
/// write them.
fn root_installed(path: &Path) -> bool {
    !on(Check::ClientInstalledByRoot) || path.is_absolute() && loose_step(path).is_none()
}

/// What on the way to a file, itself included, is not root's or may be written
/// by others; of what cannot be looked at nobody says that it is root's.
pub(super) fn loose_step(path: &Path) -> Option<PathBuf> {
    let Ok(real) = path.canonicalize() else { return Some(path.to_owned()) };
    let kept = |at: &&Path| {
        std::fs::symlink_metadata(at).is_ok_and(|facts| {
            facts.uid() == 0 && (facts.file_type().is_symlink() || facts.mode() & 0o022 == 0)
        })
    };
    // Both as named and as resolved: whoever may change a link on the way
    // chooses the file.
    let mut steps = path.ancestors().chain(real.ancestors());
    steps.find(|step| !step.as_os_str().is_empty() && !kept(step)).map(Path::to_owned)
}

/// A group that root keeps and that has no members: only a set-group-ID file
/// gives it.
fn client_group(file: &Path) -> Option<u32> {
    if !root_installed(file) {
        return None;
    }
    group_in(&std::fs::read_to_string(file).ok()?)
}

fn group_in(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [CLIENT_GROUP, _, gid, ""] => gid.parse().ok().filter(|&gid| gid != 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_with_members_is_no_client_group() {
        assert_eq!(group_in("root:x:0:\n_jsi:x:990:\n"), Some(990));
        assert_eq!(group_in("_jsi:x:990:mallory\n"), None);
        assert_eq!(group_in("_jsi:x:0:\n"), None);
        assert_eq!(group_in("x_jsi:x:990:\n"), None);
    }

    fn file(links: u64, owner_uid: u32, mode: u32) -> Executable {
        Executable {
            path: None,
            digest: Digest([9; 32]),
            device: 1,
            inode: 2,
            owner_uid,
            mode,
            links,
            sealed: false,
            size: 3,
            verity: None,
            ima: None,
        }
    }

    /// Clients that know the digest of [`file`], from that list and of that kind.
    fn knowing(former: bool, via: Via) -> Clients {
        let digests = |wanted: bool| if wanted { vec![Digest([9; 32])] } else { Vec::new() };
        let entry = Entry { path: "/none".into(), via, seen: None, replaced: digests(!former) };
        Clients { group: None, entries: Mutex::new(vec![entry]), former: digests(former) }
    }

    #[test]
    fn a_replaced_client_counts_as_the_deleted_file_of_root_and_not_as_a_copy() {
        for former in [true, false] {
            let clients = knowing(former, Via::GenuineClient);
            assert_eq!(clients.kind(&file(0, 0, 0o755)), Some(Via::GenuineClient));
            assert_eq!(clients.kind(&file(0, 0, 0o2755)), Some(Via::GenuineClient));
            for copy in [
                file(1, 1000, 0o755),
                file(0, 1000, 0o755),
                file(1, 0, 0o755),
                file(0, 0, 0o775),
                file(0, 0, 0o757),
            ] {
                assert_eq!(clients.kind(&copy), None, "{copy:?}");
            }
        }
        let enrolled = knowing(false, Via::EnrolledClient);
        assert_eq!(enrolled.kind(&file(0, 1000, 0o755)), Some(Via::EnrolledClient));
    }

    #[test]
    fn former_clients_are_read_as_sha256sum_prints_them() {
        let hex = "ab".repeat(32);
        let text = format!("# replaced\n{hex}  jsi 0.1.0\n{hex}\nabcd  short\n\nXY  no\n");
        assert_eq!(digests_in(&text), [Digest([0xab; 32]); 2]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clients.sha256");
        std::fs::write(&file, text).unwrap();
        assert_eq!(former(&file), [], "below a world-writable /tmp, so not root's word");
    }

    #[test]
    fn a_file_in_a_directory_that_others_may_write_is_not_genuine() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jsi");
        std::fs::copy("/bin/true", &file).unwrap();
        assert!(!root_installed(&file), "below a world-writable /tmp");
        assert!(root_installed(Path::new("/bin/sh")));
    }
}
