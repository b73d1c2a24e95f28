//! `/proc/PID/status`, and what is told from it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::{Fact, Seccomp};
use crate::process::{image, pidfd};

/// What is used of `/proc/PID/status`. Two readings of one process that are
/// equal mean that nothing in it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Real, effective, saved.
    pub(super) uids: [u32; 3],
    /// Real, effective, saved.
    pub(super) gids: [u32; 3],
    pub(super) groups: Vec<u32>,
    /// 0: none.
    pub(super) tracer: u32,
    /// Its pid in each pid namespace, the agent's first.
    pub(super) pids: Vec<u32>,
    /// Absent: the kernel is without seccomp.
    pub(super) seccomp: Fact<Seccomp>,
    /// Absent: the kernel does not tell (Linux 4.10 does).
    pub(super) no_new_privs: Fact<bool>,
}

impl Status {
    /// Reads it afresh.
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let text = read_small(&mut File::open(format!("/proc/{pid}/status"))?)?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "status could not be parsed"))
    }

    /// Parses the file. `Name:` comes first and its newlines are escaped, so
    /// that no line can be forged by it; the first line of each key counts.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let (mut uids, mut gids, mut groups, mut tracer, mut pids) = (None, None, None, None, None);
        for line in text.lines().skip(1) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let slot = match key {
                "TracerPid" => &mut tracer,
                "Uid" => &mut uids,
                "Gid" => &mut gids,
                "Groups" => &mut groups,
                "NSpid" => &mut pids,
                _ => continue,
            };
            if slot.is_none() {
                *slot = value
                    .split_ascii_whitespace()
                    .map(|n| n.parse::<u32>().ok())
                    .collect::<Option<Vec<u32>>>();
            }
            if key == "NSpid" {
                break;
            }
        }
        let number = |key: &str| number_of(&text, key);
        Some(Self {
            uids: *uids?.first_chunk()?,
            gids: *gids?.first_chunk()?,
            groups: groups?,
            tracer: *tracer?.first()?,
            pids: pids?,
            seccomp: fact("Seccomp", number("\nSeccomp:"), |number| match number {
                0 => Some(Seccomp::Disabled),
                1 => Some(Seccomp::Strict),
                2 => Some(Seccomp::Filter),
                _ => None,
            }),
            no_new_privs: fact("NoNewPrivs", number("\nNoNewPrivs:"), |number| match number {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            }),
        })
    }

    /// The uid on which all three agree.
    pub(super) fn uid(&self) -> Option<u32> {
        let [real, effective, saved] = self.uids;
        (real == effective && effective == saved).then_some(real)
    }

    /// It executed a file that gave it this group: only that makes the saved
    /// group differ from the real one, and what it executes does not keep it.
    pub(super) fn got_group(&self, group: Option<u32>) -> bool {
        let [real, _, saved] = self.gids;
        group == Some(saved) && real != saved
    }

    /// It is pid 1 of its innermost pid namespace.
    pub(super) fn is_init(&self) -> bool {
        self.pids.last().is_none_or(|&pid| pid == 1)
    }
}

/// The number behind the first line that begins so; `None`: there is no such
/// line, `Some(None)`: it is no number.
fn number_of(text: &str, key: &str) -> Option<Option<u32>> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.lines().next().and_then(|value| value.trim().parse().ok()))
}

fn fact<T>(name: &str, number: Option<Option<u32>>, meaning: impl Fn(u32) -> Option<T>) -> Fact<T> {
    match number {
        None => Fact::Absent,
        Some(number) => match number.and_then(meaning) {
            Some(known) => Fact::Known(known),
            None => Fact::Unreadable(format!("{name} in its status could not be understood")),
        },
    }
}

/// Programs of its uid are kept out of the process: it is not dumpable, and
/// not root's. `None`: it has ended, or its pid is another's by now.
///
/// Kernels before 6.16 do not say it by pidfd. There the owner of its /proc
/// files does, which is root where it is not dumpable (proc(5), `/proc/pid/`).
pub(super) fn closed(pidfd: &OwnedFd, pid: u32) -> Option<bool> {
    if let Ok(pidfd::Info { dumpable: Some(dumpable), .. }) = pidfd::info(pidfd) {
        return Some(!dumpable);
    }
    let owner = std::fs::metadata(format!("/proc/{pid}/maps")).ok()?.uid();
    let status = Status::read(pid).ok()?;
    let alive = !pidfd::ended(pidfd).ok()?;
    alive.then_some(owner != status.uids[1])
}

/// Reads a /proc file from its beginning, without a second `open`.
pub(super) fn reread(file: &File) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 2048];
    let mut len = 0;
    loop {
        if len == buffer.len() {
            buffer.resize(len * 2, 0);
        }
        match file.read_at(&mut buffer[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => {
                len += n;
                // stat is one line, given in one read where it fits.
                if buffer[..len].ends_with(b"\n") {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

fn read_small(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(4096);
    file.take(64 * 1024).read_to_end(&mut text)?;
    Ok(text)
}

/// Names a namespace: device and inode of its file in nsfs.
pub(super) type NamespaceId = (u64, u64);

/// The agent's own user namespace.
pub(super) fn own_user_namespace() -> io::Result<NamespaceId> {
    let facts = std::fs::metadata("/proc/self/ns/user")?;
    Ok((facts.dev(), facts.ino()))
}

/// The user namespace that owns the process's `pid` or `mnt` namespace.
pub(super) fn owner_of_namespace(pid: u32, kind: &str) -> io::Result<NamespaceId> {
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}"))?;
    let owner: OwnedFd = image::owning_user_namespace(&namespace)?;
    let facts = File::from(owner).metadata()?;
    Ok((facts.dev(), facts.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tx\\nUid:\t0\t0\t0\t0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t9\nPid:\t9\nPPid:\t1\n\
        TracerPid:\t7\nUid:\t1000\t1000\t1001\t1000\nGid:\t100\t102\t102\t100\nFDSize:\t256\nGroups:\t4 24 100 \n\
        NStgid:\t9\t1\nNSpid:\t9\t1\nThreads:\t1\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn status_is_read_as_the_kernel_writes_it() {
        let status = Status::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(status.uids, [1000, 1000, 1001]);
        assert_eq!(status.uid(), None, "saved uid differs");
        assert_eq!(status.gids, [100, 102, 102]);
        assert_eq!(status.groups, [4, 24, 100]);
        assert!(status.got_group(Some(102)) && !status.got_group(Some(100)));
        assert!(!status.got_group(None));
        assert_eq!(status.tracer, 7);
        assert_eq!(status.pids, [9, 1]);
        assert_eq!(status.seccomp, Fact::Known(Seccomp::Filter));
        assert_eq!(status.no_new_privs, Fact::Known(true));
        assert!(status.is_init());
    }

    #[test]
    fn a_process_that_is_not_dumpable_is_closed_whatever_says_so() {
        let uid = nix::unistd::geteuid().as_raw();
        let own = pidfd::open(std::process::id()).unwrap();
        assert_eq!(closed(&own, std::process::id()), Some(false));
        let maps = std::fs::metadata(format!("/proc/{}/maps", std::process::id())).unwrap();
        assert_eq!(maps.uid(), uid, "what older kernels are asked agrees");
    }

    #[test]
    fn an_incomplete_status_is_no_status() {
        assert!(Status::parse(b"Name:\tx\nUid:\t1\t1\t1\t1\n").is_none());
        assert!(Status::parse(b"").is_none());
    }

    #[test]
    fn what_a_kernel_does_not_tell_is_absent_and_what_is_not_understood_unreadable() {
        let (before, _) = TEXT.split_once("NoNewPrivs").unwrap();
        let status = Status::parse(before.as_bytes()).unwrap();
        assert_eq!((status.seccomp, status.no_new_privs), (Fact::Absent, Fact::Absent));
        let strange = format!("{before}NoNewPrivs:\tx\nSeccomp:\t9\n");
        let status = Status::parse(strange.as_bytes()).unwrap();
        assert!(matches!(status.seccomp, Fact::Unreadable(_)));
        assert!(matches!(status.no_new_privs, Fact::Unreadable(_)));
    }

    #[test]
    fn this_process_has_one_uid_and_stands_in_the_agents_namespaces() {
        let status = Status::read(std::process::id()).unwrap();
        assert_eq!(status.uid(), Some(nix::unistd::geteuid().as_raw()));
    }
}
