//! A run of pages that nobody else can read: memfd_secret(2), else mlock(2),
//! between two pages that can never be touched.

use super::MemoryError;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// Bytes of a page: of every machine that jsi is built for (x86-64; aarch64
/// with 4 KiB pages). [`Region::map`] refuses others.
pub(super) const PAGE: usize = 4096;

/// How pages are kept from everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardKind {
    /// memfd_secret(2): out of the kernel's own page tables too, so neither
    /// ptrace, nor /proc/PID/mem, nor a dump reads it, root's included.
    MemfdSecret,
    /// mlock(2): never on disk, but readable to whoever may trace the agent.
    Mlock,
}

/// Which access a page gives now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    None,
    Read,
    Write,
}

/// Mapped, locked pages; all without access until [`Region::protect`] opens one.
pub(super) struct Region {
    /// The first page that may be used; an untouchable one lies before it.
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: a region is an address range; all access to it goes through the slab's lock
// or through pages that the slab has opened for the accessing thread.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps that many pages of that kind.
    pub(super) fn map(kind: GuardKind, pages: usize) -> Result<Self, MemoryError> {
        // SAFETY: no pointers.
        if unsafe { libc::sysconf(libc::_SC_PAGESIZE) } != PAGE as libc::c_long {
            return Err(MemoryError::Os("page size", io::Error::from(io::ErrorKind::Unsupported)));
        }
        let len = pages * PAGE;
        let outer = reserve(len + 2 * PAGE)?;
        // SAFETY: inside the reservation.
        let region = Self { start: unsafe { outer.add(PAGE) }, pages };
        // From here on the drop unmaps.
        match kind {
            GuardKind::MemfdSecret => region.back_with_secret_memory(len)?,
            GuardKind::Mlock => region.back_with_locked_memory(len)?,
        }
        for (advice, name) in
            [(libc::MADV_DONTDUMP, "madvise(DONTDUMP)"), (libc::MADV_DONTFORK, "madvise(DONTFORK)")]
        {
            // A fork would share memfd_secret memory, and could overwrite it.
            // SAFETY: the range is this region's own mapping.
            check(name, unsafe { libc::madvise(region.start.as_ptr().cast(), len, advice) })?;
        }
        // Take every page now: later, running out of memory would be a signal.
        // SAFETY: the range is mapped readable and writable, and this region's own.
        unsafe { libc::explicit_bzero(region.start.as_ptr().cast(), len) };
        region.protect(0, pages, Access::None)?;
        Ok(region)
    }

    /// How many pages.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Address of a page.
    pub(super) fn page(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.pages, "page out of region");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.start.add(index * PAGE) }
    }

    /// Opens or closes pages.
    pub(super) fn protect(
        &self,
        first: usize,
        count: usize,
        access: Access,
    ) -> Result<(), MemoryError> {
        assert!(first + count <= self.pages, "pages out of region");
        let flags = match access {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: the pages are this region's own.
        let done = unsafe {
            libc::mprotect(self.start.as_ptr().add(first * PAGE).cast(), count * PAGE, flags)
        };
        check("mprotect", done)
    }

    fn back_with_secret_memory(&self, len: usize) -> Result<(), MemoryError> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let fd = c_int::try_from(fd).unwrap_or(-1);
        check("memfd_secret", fd)?;
        // SAFETY: the kernel has just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let size = libc::off_t::try_from(len).unwrap_or(libc::off_t::MAX);
        // SAFETY: no pointers.
        check("ftruncate", unsafe { libc::ftruncate(fd.as_raw_fd(), size) })?;
        self.map_over(len, libc::MAP_SHARED, fd.as_raw_fd())
    }

    fn back_with_locked_memory(&self, len: usize) -> Result<(), MemoryError> {
        self.map_over(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        // SAFETY: the range has just been mapped.
        match unsafe { libc::mlock(self.start.as_ptr().cast(), len) } {
            0 => Ok(()),
            _ => Err(refusal("mlock", len)),
        }
    }

    fn map_over(&self, len: usize, flags: c_int, fd: c_int) -> Result<(), MemoryError> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: replaces only pages of this region's own reservation.
        let at = unsafe {
            libc::mmap(self.start.as_ptr().cast(), len, prot, flags | libc::MAP_FIXED, fd, 0)
        };
        if at == libc::MAP_FAILED { Err(refusal("mmap", len)) } else { Ok(()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: nothing points into the region any more: every slot that does
        // keeps the slab, and so the region, alive.
        unsafe {
            libc::munmap(self.start.as_ptr().sub(PAGE).cast(), (self.pages + 2) * PAGE);
        }
    }
}

/// Address space without access: what is not mapped over stays a guard page.
fn reserve(len: usize) -> Result<NonNull<u8>, MemoryError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the address.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(MemoryError::Os("mmap", io::Error::last_os_error()));
    }
    NonNull::new(at.cast())
        .ok_or_else(|| MemoryError::Os("mmap", io::Error::from(io::ErrorKind::AddrNotAvailable)))
}

/// mlock(2) and mmap(2) of locked memory answer EAGAIN, EPERM or ENOMEM at the limit.
fn refusal(call: &'static str, wanted: usize) -> MemoryError {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EPERM | libc::ENOMEM) => {
            let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK)
                .map_or(0, |(soft, _)| soft);
            MemoryError::Limit { wanted, limit }
        }
        _ => MemoryError::Os(call, error),
    }
}

fn check(call: &'static str, result: c_int) -> Result<(), MemoryError> {
    if result < 0 { Err(MemoryError::Os(call, io::Error::last_os_error())) } else { Ok(()) }
}
