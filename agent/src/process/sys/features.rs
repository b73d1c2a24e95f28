//! What this kernel can do, found by asking it: a version number says nothing
//! of what a distribution took out, or a container forbids.

use super::mappings::{MapQuery, PageScan, ask, file_ioctl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// One thing that a kernel may be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name: `pidfd`, `so_peerpidfd`, …
    pub name: &'static str,
    /// `Ok`: it can, with a version where there is one. Else what it answered.
    pub found: Result<Option<u64>, String>,
}

/// Asks for all of them. `exe` is a file on the file system where programs are
/// installed (fs-verity is asked of it).
#[must_use]
pub fn all(exe: &Path) -> Vec<Feature> {
    let feature = |name, found: io::Result<Option<u64>>| Feature {
        name,
        found: found.map_err(|error| error.to_string()),
    };
    vec![
        feature("pidfd", own_pidfd().map(|_| None)),
        feature("so_peerpidfd", socket_option(libc::SO_PEERPIDFD)),
        feature("pidfd_get_info", pidfd_info()),
        feature("pagemap_scan", pagemap_scan()),
        feature("procmap_query", procmap_query()),
        feature("memfd_secret", memfd_secret()),
        feature("landlock", landlock()),
        feature("seccomp", seccomp()),
        feature("fs_verity", fs_verity(exe)),
        feature("so_passrights", socket_option(SO_PASSRIGHTS)),
    ]
}

/// Linux 6.16.
const SO_PASSRIGHTS: c_int = 83;

/// The clock's discipline, as adjtimex(2) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Something (NTP, PTP, the hypervisor) keeps it right.
    pub synchronised: bool,
    /// The largest error that is estimated, in microseconds.
    pub max_error_us: i64,
}

/// Asks adjtimex(2); changes nothing.
///
/// # Errors
/// As the kernel answers.
pub fn clock() -> io::Result<ClockState> {
    // SAFETY: a timex of zeros asks only (modes is 0).
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: a valid timex, which the kernel fills.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let synchronised = state != libc::TIME_ERROR && asked.status & libc::STA_UNSYNC == 0;
    Ok(ClockState { synchronised, max_error_us: asked.maxerror })
}

fn answered(result: i64) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn own_pidfd() -> io::Result<OwnedFd> {
    super::pidfd::open(std::process::id())
}

/// Asks a Unix socket for an option, as a number or a descriptor.
fn socket_option(option: c_int) -> io::Result<Option<u64>> {
    let (one, _other) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let mut value: c_int = -1;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` and `len` are valid for the write of an int.
    let answer = unsafe {
        libc::getsockopt(
            one.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    answered(answer.into())?;
    if option == libc::SO_PEERPIDFD && value >= 0 {
        // SAFETY: the kernel has just given this descriptor to us alone.
        drop(unsafe { OwnedFd::from_raw_fd(value) });
    }
    Ok(None)
}

fn pidfd_info() -> io::Result<Option<u64>> {
    super::pidfd::info(own_pidfd()?).map(|_| None)
}

fn pagemap_scan() -> io::Result<Option<u64>> {
    let size = size_of::<PageScan>();
    let mut scan = PageScan::sized();
    ask_file("/proc/self/pagemap", file_ioctl(16, size), (&raw mut scan).cast())
}

fn procmap_query() -> io::Result<Option<u64>> {
    let size = size_of::<MapQuery>();
    let mut query = MapQuery::of_the_first();
    ask_file("/proc/self/maps", file_ioctl(17, size), (&raw mut query).cast())
}

fn ask_file(path: &str, request: libc::Ioctl, argument: *mut c_void) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    // SAFETY: each caller gives a structure of the size that its request names.
    unsafe { ask(file, request, argument) }.map(|_| None)
}

fn memfd_secret() -> io::Result<Option<u64>> {
    // SAFETY: takes flags and no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = c_int::try_from(answered(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(None)
}

/// LANDLOCK_CREATE_RULESET_VERSION asks for the ABI.
fn landlock() -> io::Result<Option<u64>> {
    // SAFETY: with this flag the kernel reads no attributes (landlock_create_ruleset(2)).
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<c_void>(), 0_usize, 1)
    };
    answered(abi).map(Some)
}

/// SECCOMP_GET_ACTION_AVAIL of SECCOMP_RET_KILL_PROCESS.
fn seccomp() -> io::Result<Option<u64>> {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads one u32 (seccomp(2)).
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, 2, 0, &raw const action) };
    answered(answer).map(|_| None)
}

/// FS_IOC_MEASURE_VERITY: ENODATA means that the file has none, but could.
fn fs_verity(exe: &Path) -> io::Result<Option<u64>> {
    let file = File::open(exe)?;
    // A digest header (two u16) and room for 64 bytes.
    let mut digest = [0_u16; 34];
    digest[1] = 64;
    // _IOWR('f', 134, struct fsverity_digest), whose size is that of its header.
    let request = file_ioctl(134, 4);
    // SAFETY: the header gives the room behind it.
    match answered(unsafe { libc::ioctl(file.as_raw_fd(), request, digest.as_mut_ptr()) }.into()) {
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_supported_kernel_has_is_found() {
        let found = all(Path::new("/proc/self/exe"));
        let of = |name| found.iter().find(|feature| feature.name == name).unwrap();
        for name in ["pidfd", "so_peerpidfd", "seccomp"] {
            assert!(of(name).found.is_ok(), "{:?}", of(name));
        }
        assert_eq!(found.len(), 10);
    }

    #[test]
    fn what_no_kernel_has_is_not_found() {
        assert!(socket_option(9_999).is_err());
        assert!(ask_file("/proc/self/maps", file_ioctl(250, 8), std::ptr::null_mut()).is_err());
        assert!(fs_verity(Path::new("/proc/self/status")).is_err());
    }

    #[test]
    fn the_clock_is_asked_and_not_set() {
        assert!(clock().unwrap().max_error_us >= 0);
    }
}
