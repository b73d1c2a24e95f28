//! How a process is fenced in: its namespaces and its LSM label. It can change
//! both without an exec, so they are read each time.

use super::facts::Fence;
use super::{Fact, Namespaces};
use std::io;
use std::path::Path;

/// What others are compared with, and where this kernel shows a label.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Inode numbers, by kind; `None`: the kernel has none of that kind.
    host: [Option<u64>; 4],
    /// Below `/proc/PID/attr`; `None`: no LSM gives a label.
    label: Option<&'static str>,
}

impl Surroundings {
    /// Of where the agent runs: the namespaces of pid 1, which a service that is
    /// fenced in does not share, else, where they may not be looked at, its own.
    pub(super) fn read() -> Self {
        let host = read_all("1").or_else(|_| read_all("self")).unwrap_or_default();
        let labels = ["apparmor/current", "current"];
        let label = labels.into_iter().find(|label| {
            std::fs::read(format!("/proc/self/attr/{label}"))
                .is_ok_and(|text| !trimmed(&text).is_empty())
        });
        Self { host, label }
    }

    /// How a process is fenced in now.
    pub(super) fn fence(&self, pid: u32) -> Fence {
        Fence { lsm: self.label(pid), namespaces: self.namespaces(pid) }
    }

    /// The namespaces of a process.
    fn namespaces(&self, pid: u32) -> Fact<Namespaces> {
        match read_all(&pid.to_string()) {
            Ok(own) => Fact::Known(self.compare(own)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Fact::Unreadable(
                "its namespaces may not be looked at: another uid's, or not dumpable, and this agent may not trace it"
                    .into(),
            ),
            Err(error) => Fact::Unreadable(format!("/proc/{pid}/ns: {error}")),
        }
    }

    fn compare(&self, own: [Option<u64>; 4]) -> Namespaces {
        let [mnt, pid, user, net] = own.map(Option::unwrap_or_default);
        let [host_mnt, host_pid, host_user, host_net] =
            std::array::from_fn(|kind| own[kind] == self.host[kind]);
        Namespaces { mnt, pid, user, net, host_mnt, host_pid, host_user, host_net }
    }

    /// The label that its LSM gives it: SELinux's context, AppArmor's profile with
    /// its mode behind (`name (enforce)`), Smack's label.
    pub(super) fn label(&self, pid: u32) -> Fact<String> {
        let Some(label) = self.label else { return Fact::Absent };
        let at = format!("/proc/{pid}/attr/{label}");
        match std::fs::read(&at) {
            Ok(text) => match String::from_utf8(trimmed(&text).to_vec()) {
                Ok(label) if label.is_empty() => Fact::Absent,
                Ok(label) => Fact::Known(label),
                Err(_) => Fact::Unreadable(format!("{at} is not UTF-8")),
            },
            Err(error) => Fact::Unreadable(format!("{at}: {error}")),
        }
    }
}

/// Without the NUL and the newline at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, 0 | b'\n')).map_or(0, |at| at + 1);
    &text[..end]
}

fn read_all(process: &str) -> io::Result<[Option<u64>; 4]> {
    let mut found = [None; 4];
    for (slot, kind) in found.iter_mut().zip(Namespaces::KINDS) {
        let at = format!("/proc/{process}/ns/{kind}");
        *slot = match std::fs::read_link(&at) {
            Ok(link) => Some(inode(&link).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{at} could not be parsed"))
            })?),
            // A kernel without that kind has one for all; a process that has ended
            // has no directory either, which the looks at its pidfd tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
    }
    Ok(found)
}

/// `mnt:[4026531841]`
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_ends_before_nul_and_newline() {
        for (text, wanted) in [
            (&b"system_u:system_r:init_t:s0\0"[..], &b"system_u:system_r:init_t:s0"[..]),
            (b"/usr/bin/man (enforce)\n", b"/usr/bin/man (enforce)"),
            (b"unconfined\n\0", b"unconfined"),
            (b"\n", b""),
            (b"", b""),
        ] {
            assert_eq!(trimmed(text), wanted);
        }
    }

    #[test]
    fn namespaces_are_numbered_and_compared_with_the_hosts() {
        assert_eq!(inode(Path::new("mnt:[4026531841]")), Some(4_026_531_841));
        assert_eq!(inode(Path::new("mnt:4026531841")), None);
        let own = read_all("self").unwrap();
        let around = Surroundings { host: own, label: None };
        let found = around.compare(own);
        assert!(found.host_mnt && found.host_pid && found.host_user && found.host_net);
        assert_eq!(Some(found.net), own[3]);
        let [mnt, pid, user, net] = own;
        let other = around.compare([mnt.map(|n| n + 1), pid, user, net]);
        assert!(!other.host_mnt && other.host_pid && other.host_user && other.host_net);
        // A kernel that has no such kind has the same one for all.
        let without = Surroundings { host: [mnt, pid, None, net], label: None };
        assert!(without.compare([mnt, pid, None, net]).host_user);
    }

    #[test]
    fn a_process_that_has_ended_is_unreadable_or_shares_nothing() {
        let around = Surroundings::read();
        let found = around.namespaces(u32::MAX >> 1);
        if let Fact::Known(found) = found {
            assert!(!found.host_mnt && !found.host_pid, "{found:?}");
        }
    }

    #[test]
    fn a_label_is_absent_where_no_lsm_gives_one() {
        let around = Surroundings { host: [None; 4], label: None };
        assert_eq!(around.label(std::process::id()), Fact::Absent);
        let around = Surroundings { host: [None; 4], label: Some("nonexistent") };
        assert!(matches!(around.label(std::process::id()), Fact::Unreadable(_)));
    }
}
