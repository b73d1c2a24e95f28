//! What is asked about a process's executable without waking whoever serves
//! its file system.

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a mount ID that is never reused.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
/// `STATX_ATTR_VERITY` (Linux 5.5): fs-verity checks every page that is read.
const STATX_ATTR_VERITY: u64 = 0x0010_0000;
/// Bytes of `security.ima` that are looked at: a signature has some 500.
const IMA_BYTES: usize = 4096;
/// `STATX_MNT_ID` (Linux 5.8): the ID in mountinfo.
const STATX_MNT_ID: u32 = 0x1000;

/// statx(2) of an open file, from what the kernel has cached: a FUSE server is
/// not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// Device number as `st_dev` gives it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// File type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Link count; 0: deleted.
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the bytes: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode: seconds, nanoseconds.
    pub ctime: (i64, u32),
    /// fs-verity keeps its bytes as they are.
    pub verity: bool,
    /// Mount, as mountinfo numbers it; 0: unknown.
    pub mount: u64,
    /// Mount, never reused; `None` before Linux 6.8.
    pub unique_mount: Option<u64>,
}

/// See [`FileStat`].
///
/// # Errors
/// As statx(2).
pub fn stat(file: impl AsFd) -> io::Result<FileStat> {
    let plain = statx(&file, libc::STATX_BASIC_STATS | STATX_MNT_ID)?;
    let unique = statx(&file, STATX_MNT_ID_UNIQUE)?;
    Ok(FileStat {
        device: libc::makedev(plain.stx_dev_major, plain.stx_dev_minor),
        inode: plain.stx_ino,
        mode: u32::from(plain.stx_mode),
        uid: plain.stx_uid,
        links: u64::from(plain.stx_nlink),
        size: plain.stx_size,
        mtime: (plain.stx_mtime.tv_sec, plain.stx_mtime.tv_nsec),
        ctime: (plain.stx_ctime.tv_sec, plain.stx_ctime.tv_nsec),
        verity: plain.stx_attributes & plain.stx_attributes_mask & STATX_ATTR_VERITY != 0,
        mount: if plain.stx_mask & STATX_MNT_ID != 0 { plain.stx_mnt_id } else { 0 },
        unique_mount: (unique.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(unique.stx_mnt_id),
    })
}

fn statx(file: &impl AsFd, mask: u32) -> io::Result<libc::statx> {
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string as AT_EMPTY_PATH wants; `out` has
    // the size that the kernel writes and outlives the call.
    let done = unsafe {
        libc::statx(
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            mask,
            out.as_mut_ptr(),
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid value, and the kernel filled what its mask names.
    Ok(unsafe { out.assume_init() })
}

/// Opens `path` with `O_PATH`, and only from what the kernel has cached
/// (`RESOLVE_CACHED`, Linux 5.12): no file system is asked, so nothing can hang.
///
/// # Errors
/// EAGAIN where more than the cache would be needed, ENOENT, EINVAL on older kernels.
pub fn open_cached(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let how = How {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: libc::RESOLVE_CACHED,
    };
    // SAFETY: `path` is a C string, `how` has the size given; both outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<How>(),
        )
    };
    owned(fd)
}

/// The user namespace that owns a namespace (ioctl_ns(2)).
///
/// # Errors
/// EPERM where it lies outside the agent's own user namespace.
pub fn owning_user_namespace(namespace: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), libc::NS_GET_USERNS) };
    owned(fd.into())
}

/// The fs-verity digest of an open file (`FS_IOC_MEASURE_VERITY`), as
/// `sha256:<hex>` or `sha512:<hex>`; `None` where it has none.
pub fn verity_digest(file: impl AsFd) -> Option<String> {
    #[repr(C)]
    struct Measured {
        algorithm: u16,
        size: u16,
        digest: [u8; 64],
    }
    let mut out = Measured { algorithm: 0, size: 64, digest: [0; 64] };
    // _IOWR('f', 134, struct fsverity_digest), whose fixed part has four bytes.
    const MEASURE: libc::Ioctl = 0xC004_6686;
    // SAFETY: `size` says how much room the digest has; `out` outlives the call.
    if unsafe { libc::ioctl(file.as_fd().as_raw_fd(), MEASURE, &raw mut out) } != 0 {
        return None;
    }
    let name = match out.algorithm {
        1 => "sha256",
        2 => "sha512",
        _ => return None,
    };
    let bytes = out.digest.get(..usize::from(out.size))?;
    Some(format!("{name}:{}", data_encoding::HEXLOWER.encode(bytes)))
}

/// The value of an open file's `security.ima`; `None` where it has none.
pub fn ima_value(file: impl AsFd) -> Option<Vec<u8>> {
    let mut value = vec![0_u8; IMA_BYTES];
    // SAFETY: the name is a C string, `value` has the room that is named, and both
    // outlive the call.
    let len = unsafe {
        libc::fgetxattr(
            file.as_fd().as_raw_fd(),
            c"security.ima".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(len).ok()?);
    Some(value)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
