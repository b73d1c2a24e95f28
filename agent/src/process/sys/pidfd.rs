//! pidfds (pidfd_open(2)): a process that cannot be mistaken for a later one
//! with the same pid.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `PIDFD_INFO_CREDS | PIDFD_INFO_PID`: always answered.
const INFO_BASE: u64 = 1 | 2;
/// `PIDFD_INFO_CGROUPID`.
const INFO_CGROUP: u64 = 4;
/// `PIDFD_INFO_COREDUMP` (Linux 6.16).
const INFO_COREDUMP: u64 = 16;
/// Bit of [`RawInfo::coredump_mask`]: the process dumps core as its user. Without
/// it programs of its uid are kept out, whether it would dump as root
/// (fs.suid_dumpable=2, which systemd-coredump sets) or not at all.
const COREDUMP_USER: u32 = 4;
/// Largest handle that the kernel gives (`MAX_HANDLE_SZ`).
const MAX_HANDLE: usize = 128;

/// The process with that pid in the agent's pid namespace, close-on-exec.
///
/// # Errors
/// ESRCH where there is none; EMFILE at the descriptor limit.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: takes two integers; the kernel checks both.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(fd)
}

/// Whether the process has ended (a zombie has).
///
/// # Errors
/// When the descriptor cannot be polled.
pub fn ended(pidfd: impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => {
                let events = fds[0].revents().unwrap_or(PollFlags::POLLNVAL);
                if events.contains(PollFlags::POLLNVAL) {
                    return Err(io::Error::from_raw_os_error(libc::EBADF));
                }
                return Ok(!events.is_empty());
            }
        }
    }
}

/// Its pid in the agent's pid namespace; `None`: reaped, or not visible here.
///
/// # Errors
/// When it is no pidfd, or /proc cannot be read.
pub fn pid(pidfd: impl AsFd) -> io::Result<Option<u32>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a pidfd"))?;
    Ok(value.trim().parse::<u32>().ok().filter(|&pid| pid != 0))
}

/// What the kernel tells of a live process by its pidfd alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Pid of the parent.
    pub parent: u32,
    /// Real, effective, saved uid.
    pub uids: [u32; 3],
    /// Real, effective, saved gid.
    pub gids: [u32; 3],
    /// ID of its cgroup of version 2; `None`: the kernel does not say.
    pub cgroup: Option<u64>,
    /// Programs of its uid may look into it; `None`: the kernel does not say.
    pub dumpable: Option<bool>,
}

/// `struct pidfd_info` (linux/pidfd.h), as of Linux 6.16.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
    coredump_mask: u32,
    spare: u32,
}

/// `PIDFD_GET_INFO` (Linux 6.13).
///
/// # Errors
/// ENOTTY and EINVAL on older kernels, ESRCH once reaped.
pub fn info(pidfd: impl AsFd) -> io::Result<Info> {
    let mut raw = RawInfo { mask: INFO_BASE | INFO_CGROUP | INFO_COREDUMP, ..RawInfo::default() };
    // _IOWR(0xFF, 11, struct pidfd_info)
    let request: libc::Ioctl = 0xC000_FF0B | ((size_of::<RawInfo>() as libc::Ioctl) << 16);
    // SAFETY: the request number carries the size of `raw`, which the kernel
    // writes no further than; `raw` outlives the call.
    if unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), request, &raw mut raw) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if raw.mask & INFO_BASE != INFO_BASE {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(Info {
        parent: raw.ppid,
        uids: [raw.ruid, raw.euid, raw.suid],
        gids: [raw.rgid, raw.egid, raw.sgid],
        cgroup: (raw.mask & INFO_CGROUP != 0).then_some(raw.cgroupid),
        dumpable: (raw.mask & INFO_COREDUMP != 0).then_some(raw.coredump_mask & COREDUMP_USER != 0),
    })
}

#[repr(C, align(8))]
struct RawHandle {
    bytes: u32,
    kind: i32,
    data: [u8; MAX_HANDLE],
}

/// The process's pidfs file handle (Linux 6.14): handle type and bytes, unique
/// within one boot.
///
/// # Errors
/// EOPNOTSUPP on older kernels.
pub fn handle(pidfd: impl AsFd) -> io::Result<Vec<u8>> {
    let mut raw = RawHandle { bytes: MAX_HANDLE as u32, kind: 0, data: [0; MAX_HANDLE] };
    let mut mount = 0i32;
    // SAFETY: `raw.bytes` says how much room follows; the path is empty as
    // AT_EMPTY_PATH wants; all pointers outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            pidfd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut raw,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let len = (raw.bytes as usize).min(MAX_HANDLE);
    let mut out = raw.kind.to_le_bytes().to_vec();
    out.extend_from_slice(&raw.data[..len]);
    Ok(out)
}

/// The process that [`handle`] named; `pidfs` is any pidfd.
///
/// # Errors
/// ESTALE or ESRCH where it has ended; EINVAL where the handle is malformed.
pub fn open_handle(pidfs: impl AsFd, handle: &[u8]) -> io::Result<OwnedFd> {
    let malformed = || io::Error::from_raw_os_error(libc::EINVAL);
    let (kind, bytes) = handle.split_first_chunk::<4>().ok_or_else(malformed)?;
    if bytes.len() > MAX_HANDLE {
        return Err(malformed());
    }
    let mut raw = RawHandle {
        bytes: bytes.len() as u32,
        kind: i32::from_le_bytes(*kind),
        data: [0; MAX_HANDLE],
    };
    raw.data[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: `raw` holds as many bytes as it says and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            pidfs.as_fd().as_raw_fd(),
            &raw mut raw,
            libc::O_CLOEXEC,
        )
    };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfd_names_its_process_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let fd = open(child.id()).unwrap();
        assert_eq!(pid(&fd).unwrap(), Some(child.id()));
        assert!(!ended(&fd).unwrap());
        if let Ok(info) = info(&fd) {
            assert_eq!(info.parent, std::process::id());
            assert_eq!(info.uids, [nix::unistd::geteuid().as_raw(); 3]);
            assert_ne!(info.dumpable, Some(false));
        }
        if let Ok(name) = handle(&fd) {
            let again = open_handle(&fd, &name).unwrap();
            assert_eq!(pid(&again).unwrap(), Some(child.id()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ended(&fd).unwrap());
        assert_eq!(pid(&fd).unwrap(), None);
    }
}
