//! The file behind `/proc/PID/exe`: what it is, and its digest.
//!
//! Looking at it asks no file system, so that a FUSE server cannot hold up the
//! attestor; reading it happens in the [pool](super::pool) and within limits.

use super::contents::Contents;
use super::enforced::read_ima;
use super::process::{NamespaceId, owner_of_namespace};
use super::{Digest, Executable};
use crate::mutants::{Check, on};
use crate::process::image::{self, FileStat};
use crate::process::mappings::{self, MappedFile};
use nix::fcntl::{FcntlArg, fcntl};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Digests that are kept. One takes about 200 bytes.
const CACHE_ENTRIES: usize = 8192;
/// A file changed this recently is hashed again the next time: its times may
/// not show a change within one tick of the kernel's clock.
const SETTLED: Duration = Duration::from_secs(1);
/// Bytes read at once.
const CHUNK: usize = 256 * 1024;
/// File systems whose bytes come from another program or another machine,
/// which can serve different ones to each reader, or none at all.
const FOREIGN: [&str; 14] = [
    "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "coda", "lustre", "beegfs",
    "orangefs", "pvfs2", "gfs2",
];
/// File systems stacked on others, which may be foreign.
const STACKED: [&str; 3] = ["overlay", "ecryptfs", "aufs"];

/// Limits of hashing; see [`crate::config::Limits`].
#[derive(Clone, Copy, Debug)]
pub(super) struct HashLimits {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// A file that a process runs or has mapped, opened with `O_PATH`.
pub(super) struct Look {
    pid: u32,
    file: OwnedFd,
    link: PathBuf,
    stat: FileStat,
}

/// What makes two looks the same work.
pub(super) type Key = (FileStat, PathBuf);

/// Why there is nothing to look at.
pub(super) enum NoLook {
    /// A kernel thread.
    Absent,
    /// In words.
    Unreadable(String),
}

impl Look {
    /// Opens what the process runs.
    pub(super) fn at(pid: u32) -> Result<Self, NoLook> {
        let path = format!("/proc/{pid}/exe");
        let failed = |e: io::Error| {
            match e.raw_os_error() {
            Some(libc::ENOENT) if Path::new(&format!("/proc/{pid}")).exists() => NoLook::Absent,
            Some(libc::EACCES | libc::EPERM) => NoLook::Unreadable(
                "its executable may not be looked at: another uid's, or not dumpable, and this agent may not trace it"
                    .into(),
            ),
            _ => NoLook::Unreadable(format!("{path}: {e}")),
        }
        };
        let file: OwnedFd = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&path)
            .map_err(failed)?
            .into();
        let link = std::fs::read_link(&path).map_err(failed)?;
        let stat = image::stat(&file).map_err(failed)?;
        if stat.mode & libc::S_IFMT != libc::S_IFREG {
            return Err(NoLook::Unreadable("its executable is not a regular file".into()));
        }
        Ok(Self { pid, file, link, stat })
    }

    /// A file that the process has mapped, under the name that the kernel gives it.
    pub(super) fn mapped(pid: u32, file: OwnedFd, link: PathBuf, stat: FileStat) -> Self {
        Self { pid, file, link, stat }
    }

    /// fs-verity keeps its bytes as they are.
    pub(super) fn is_kept(&self) -> bool {
        self.stat.verity
    }

    pub(super) fn key(&self) -> Key {
        (self.stat, self.link.clone())
    }

    fn measured(&self, known: Known, path: Option<String>) -> Measured {
        let number = known.number;
        let exe = Executable {
            path,
            digest: known.digest,
            device: self.stat.device,
            inode: self.stat.inode,
            owner_uid: self.stat.uid,
            mode: self.stat.mode & 0o7777,
            links: self.stat.links,
            sealed: known.sealed,
            size: self.stat.size,
            verity: known.verity,
            ima: known.ima,
        };
        Measured { exe, number }
    }

    /// The path, where the agent sees the same file there.
    fn path_if(&self, seen: &FileStat) -> Option<String> {
        let same = !on(Check::OwnViewOfPath)
            || seen.device == self.stat.device
                && seen.inode == self.stat.inode
                && self.stat.links > 0;
        if same { self.link.to_str().map(str::to_owned) } else { None }
    }
}

/// What reading a file has shown.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) digest: Digest,
    verity: Option<String>,
    /// Nobody could change it, from before it was read.
    sealed: bool,
    ima: Option<String>,
    /// `None`: it cannot be mapped, so nobody runs it.
    number: Option<MappedFile>,
}

impl Known {
    fn read(file: &File, limits: HashLimits, what: &dyn std::fmt::Display) -> Result<Self, String> {
        Self::with(file, image::verity_digest(file), |_| sha256(file, limits, what))
    }

    fn with(
        file: &File,
        verity: Option<String>,
        digest: impl FnOnce(Option<&str>) -> Result<Digest, String>,
    ) -> Result<Self, String> {
        // Before it is read: what is sealed by then is not written meanwhile.
        let sealed = is_sealed(file);
        let digest = digest(verity.as_deref())?;
        let number = mappings::number_of(file).ok();
        let ima = image::ima_value(file).and_then(|value| read_ima(&value));
        Ok(Self { digest, verity, sealed, ima, number })
    }
}

/// A memory file that nobody can write, cut or lengthen: fcntl(2). A file of any
/// other file system has no seals.
fn is_sealed(file: &File) -> bool {
    let all = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & all == all)
}

/// A file, and how `/proc/PID/maps` names it: stat(2) gives other numbers on
/// overlay and btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) exe: Executable,
    pub(super) number: Option<MappedFile>,
}

/// Digests of files, kept by device, inode, mount, size, mtime and ctime.
pub(super) struct Digests {
    cache: Mutex<HashMap<FileStat, Known>>,
    contents: Contents,
    own_user_namespace: NamespaceId,
    /// Device of the kernel's own tmpfs, which is mounted nowhere.
    memfd_device: Option<u64>,
}

impl Digests {
    pub(super) fn new(own_user_namespace: NamespaceId) -> Self {
        let memfd = nix::sys::memfd::memfd_create(c"jsi", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        let memfd_device =
            memfd.ok().and_then(|memfd| image::stat(memfd).ok()).map(|stat| stat.device);
        Self {
            cache: Mutex::default(),
            contents: Contents::default(),
            own_user_namespace,
            memfd_device,
        }
    }

    /// The answer, where it takes no reading; `None`: ask [`read`](Self::read).
    pub(super) fn quick(&self, look: &Look) -> Option<Measured> {
        // Without a mount ID that is never reused, a device number could be
        // another file system's by now.
        look.stat.unique_mount?;
        let known = self.known(&look.stat)?;
        if look.stat.links == 0 {
            return Some(look.measured(known, None));
        }
        let path = match image::open_cached(&look.link) {
            Ok(file) => look.path_if(&image::stat(file).ok()?),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR)
                ) =>
            {
                None
            }
            Err(_) => return None,
        };
        Some(look.measured(known, path))
    }

    /// Reads and hashes. May wait for a file system.
    pub(super) fn read(&self, look: &Look, limits: HashLimits) -> Result<Measured, String> {
        self.refuse_foreign(look)?;
        let path = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(&look.link)
            .and_then(image::stat)
            .ok()
            .and_then(|seen| look.path_if(&seen));
        let known = match self.known(&look.stat) {
            Some(known) => known,
            None => self.hash(look, limits)?,
        };
        Ok(look.measured(known, path))
    }

    /// Takes over what was read elsewhere.
    pub(super) fn keep(&self, stat: FileStat, known: Known) {
        if settled(&stat) {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= CACHE_ENTRIES {
                // Rare, and cheaper than keeping an order for every look.
                cache.clear();
            }
            cache.insert(of_cache(stat), known);
        }
    }

    fn known(&self, stat: &FileStat) -> Option<Known> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&of_cache(*stat)).cloned()
    }

    fn hash(&self, look: &Look, limits: HashLimits) -> Result<Known, String> {
        let what = || look.link.display();
        let failed = |e: io::Error| format!("{} could not be read: {e}", what());
        // O_NONBLOCK: a lease on the file (fcntl(2)) must not make us wait.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", look.file.as_fd().as_raw_fd()))
            .map_err(failed)?;
        let known = Known::with(&file, image::verity_digest(&file), |verity| {
            self.contents.digest(verity, || sha256(&file, limits, &what()))
        })?;
        let after = image::stat(&file).map_err(failed)?;
        // Losing a link (an upgrade under way) changes ctime but no byte.
        let unlinked = FileStat { links: after.links, ctime: after.ctime, ..look.stat };
        if after != look.stat && !(after == unlinked && after.links != look.stat.links) {
            return Err(format!("{} changed while it was read", what()));
        }
        self.keep(look.stat, known.clone());
        Ok(known)
    }

    /// Memory that has the shape of a file, which its owner can write.
    pub(super) fn is_memfd(&self, stat: &FileStat) -> bool {
        Some(stat.device) == self.memfd_device
    }

    fn refuse_foreign(&self, look: &Look) -> Result<(), String> {
        if self.is_memfd(&look.stat) {
            return Ok(());
        }
        let kind = match foreign_kind(look.pid, look.stat.mount) {
            Ok(kind) => kind,
            Err(why) => return Err(format!("its executable {why}")),
        };
        if on(Check::StackedFileSystem) && STACKED.contains(&kind.as_str()) {
            let owner = owner_of_namespace(look.pid, "mnt")
                .map_err(|e| format!("its mount namespace: {e}"))?;
            if owner != self.own_user_namespace {
                return Err(format!(
                    "its executable lies on {kind} in a mount namespace that another user namespace owns"
                ));
            }
        }
        Ok(())
    }
}

/// Why the bytes of files on that mount are not believed: another program or
/// machine serves them, and can serve different ones to each reader.
pub(super) fn foreign(pid: u32, mount: u64) -> Option<String> {
    foreign_kind(pid, mount).err()
}

fn foreign_kind(pid: u32, mount: u64) -> Result<String, String> {
    let kind = file_system(pid, mount)
        .ok_or("lies on a file system that is mounted neither here nor where it runs")?;
    let foreign = kind.starts_with("fuse") || FOREIGN.contains(&kind.as_str());
    if on(Check::ForeignFileSystem) && foreign {
        return Err(format!(
            "lies on a {kind} file system, whose bytes another program or machine serves"
        ));
    }
    Ok(kind)
}

/// SHA-256 of what is left of `file`.
pub(super) fn sha256(
    mut file: &File,
    limits: HashLimits,
    what: &dyn std::fmt::Display,
) -> Result<Digest, String> {
    let began = Instant::now();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut total: u64 = 0;
    loop {
        let n = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(format!("{what} could not be read: {e}")),
        };
        total += n as u64;
        if on(Check::HashSize) && total > limits.bytes {
            return Err(format!(
                "{what} is larger than limits.hash_bytes = {} allows",
                limits.bytes
            ));
        }
        if began.elapsed() > limits.time {
            return Err(format!(
                "hashing {what} took longer than limits.hash_timeout = {:?}",
                limits.time
            ));
        }
        context.update(&chunk[..n]);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(Digest(out))
}

/// What a kept digest is found by: all of it.
fn of_cache(stat: FileStat) -> FileStat {
    if on(Check::DigestChangeTime) { stat } else { FileStat { ctime: (0, 0), ..stat } }
}

fn settled(stat: &FileStat) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed =
        |(secs, nanos): (i64, u32)| Duration::new(u64::try_from(secs).unwrap_or(0), nanos);
    [stat.ctime, stat.mtime].into_iter().all(|at| changed(at) + SETTLED < now)
}

/// The type of a mounted file system, by its number in mountinfo (proc_pid_mountinfo(5)).
fn file_system(pid: u32, mount: u64) -> Option<String> {
    ["self".to_owned(), pid.to_string()].into_iter().find_map(|who| {
        let text = std::fs::read(format!("/proc/{who}/mountinfo")).ok()?;
        type_in(&String::from_utf8_lossy(&text), mount)
    })
}

fn type_in(mountinfo: &str, mount: u64) -> Option<String> {
    let mount = mount.to_string();
    mountinfo.lines().find_map(|line| {
        // Spaces in paths are escaped, so that " - " cannot be forged by one.
        let (before, after) = line.split_once(" - ")?;
        (before.split(' ').next() == Some(&mount))
            .then(|| after.split(' ').next().map(str::to_owned))?
    })
}

/// A digest list that is kept up to date: files that root installed, or that
/// were enrolled.
pub(super) fn digest_of(path: &Path) -> Result<(FileStat, Known), String> {
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let stat = image::stat(&file).map_err(failed)?;
    if stat.mode & libc::S_IFMT != libc::S_IFREG {
        return Err(format!("{} is not a regular file", path.display()));
    }
    let limits = HashLimits { bytes: 1 << 30, time: Duration::from_secs(30) };
    Ok((stat, Known::read(&file, limits, &path.display())?))
}

/// For messages: what the link says, whatever it is.
pub(super) fn link_text(pid: u32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(String::from_utf8_lossy(link.as_os_str().as_bytes()).into_owned())
}

/// Shared by the threads that look and those that read.
pub(super) type SharedDigests = Arc<Digests>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::process::own_user_namespace;

    fn digests() -> Digests {
        Digests::new(own_user_namespace().unwrap())
    }

    #[test]
    fn an_executable_is_found_and_hashed_within_limits() {
        let digests = digests();
        let look = Look::at(std::process::id()).ok().unwrap();
        let limits = HashLimits { bytes: 1 << 30, time: Duration::from_secs(60) };
        let kept = settled(&look.stat);
        let read = digests.read(&look, limits).unwrap();
        let exe = &read.exe;
        let own = std::env::current_exe().unwrap();
        assert_eq!(exe.path.as_deref(), own.to_str());
        assert_eq!(exe.digest, digest_of(&own).unwrap().1.digest);
        if look.stat.unique_mount.is_some() && kept {
            assert_eq!(digests.quick(&look), Some(read), "the second look takes no reading");
        }
        for tight in
            [HashLimits { bytes: 10, ..limits }, HashLimits { time: Duration::ZERO, ..limits }]
        {
            let error =
                super::Digests::new(own_user_namespace().unwrap()).read(&look, tight).unwrap_err();
            assert!(error.contains("limits.hash_"), "{error}");
        }
    }

    #[test]
    fn the_file_systems_type_is_found_by_mount_number() {
        let text = "36 35 98:0 / /mnt\\040x rw,noatime master:1 - ext3 /dev/root rw\n\
            37 35 0:50 / /f rw shared:1 master:2 - fuse.sshfs a:b rw\n3 1 0:1 / / rw - nfs4 x rw\n";
        assert_eq!(type_in(text, 36).as_deref(), Some("ext3"));
        assert_eq!(type_in(text, 37).as_deref(), Some("fuse.sshfs"));
        assert_eq!(type_in(text, 3).as_deref(), Some("nfs4"));
        assert_eq!(type_in(text, 7), None);
    }
}
