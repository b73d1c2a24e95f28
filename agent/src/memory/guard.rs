//! Guarded memory: for the few bytes that rest in plain, keys above all.

use super::region::GuardKind;
use super::slab::{Place, Slab};
use super::{MemoryError, wipe};
use std::ptr::NonNull;
use std::sync::Arc;

/// Where guarded memory comes from. Cheap to clone; all clones share one slab.
#[derive(Clone)]
pub struct Guard {
    slab: Arc<Slab>,
}

/// Guarded bytes: readable and writable only inside [`Guarded::read`] and
/// [`Guarded::write`], wiped when dropped, invisible to forks and dumps.
///
/// A canary that was overwritten ends the process: memory is no longer what it
/// seems, and an agent in an unknown state must not go on serving keys.
pub struct Guarded {
    slab: Arc<Slab>,
    place: Place,
    len: usize,
}

impl Guard {
    /// Takes memfd_secret(2) where the kernel has it, else mlock(2).
    ///
    /// # Errors
    /// [`MemoryError::Limit`] when no memory may be locked, and what the kernel says otherwise.
    pub fn new() -> Result<Self, MemoryError> {
        match Self::of_kind(GuardKind::MemfdSecret) {
            // Not built in, switched off (secretmem.enable=0), or forbidden by a filter.
            Err(MemoryError::Os("memfd_secret", _)) => Self::of_kind(GuardKind::Mlock),
            made => made,
        }
    }

    fn of_kind(kind: GuardKind) -> Result<Self, MemoryError> {
        Ok(Self { slab: Arc::new(Slab::new(kind)?) })
    }

    /// Which of the two it is.
    #[must_use]
    pub fn kind(&self) -> GuardKind {
        self.slab.kind()
    }

    /// Bytes that are mapped, which count against RLIMIT_MEMLOCK, and bytes of
    /// the pages among them that hold something.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        self.slab.usage()
    }

    /// That many bytes, zero at first. Aligned to 16.
    ///
    /// # Errors
    /// [`MemoryError::Limit`] at RLIMIT_MEMLOCK; [`MemoryError::TooLong`].
    pub fn alloc(&self, len: usize) -> Result<Guarded, MemoryError> {
        Ok(Guarded { slab: Arc::clone(&self.slab), place: self.slab.take(len)?, len })
    }
}

impl Guarded {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes in; what they do not fill becomes zero.
    ///
    /// # Errors
    /// [`MemoryError::TooLong`] when they do not fit; nothing is written then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.len() > self.len {
            return Err(MemoryError::TooLong(bytes.len()));
        }
        let window = Window::open(self, true);
        // SAFETY: the slot has `len` bytes, is open for writing, and `&mut self`
        // says that nobody else uses it.
        let all = unsafe { std::slice::from_raw_parts_mut(window.data.as_ptr(), self.len) };
        let (head, rest) = all.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        wipe(rest);
        Ok(())
    }

    /// Lends the bytes. Their page cannot be read before and after.
    pub fn read<R>(&self, use_them: impl FnOnce(&[u8]) -> R) -> R {
        let window = Window::open(self, false);
        // SAFETY: the slot has `len` bytes and is open for reading; writers need `&mut self`.
        use_them(unsafe { std::slice::from_raw_parts(window.data.as_ptr(), self.len) })
    }

    /// Moves a value into the slot, which must be fresh.
    ///
    /// # Errors
    /// [`MemoryError::TooLong`] when it does not fit.
    pub(super) fn place<T: Resident>(&mut self, value: T) -> Result<(), MemoryError> {
        const { assert!(align_of::<T>() <= 16 && !std::mem::needs_drop::<T>()) }
        if size_of::<T>() > self.len {
            return Err(MemoryError::TooLong(size_of::<T>()));
        }
        let window = Window::open(self, true);
        // SAFETY: long enough and aligned, as just checked; open for writing.
        unsafe { window.data.cast::<T>().write(value) };
        Ok(())
    }

    /// Lends the value that [`Guarded::place`] put there.
    ///
    /// # Safety
    /// A `T` was placed in this slot, and nothing written since.
    pub(super) unsafe fn with<T: Resident, R>(&self, use_it: impl FnOnce(&T) -> R) -> R {
        let window = Window::open(self, false);
        // SAFETY: the caller says that a `T` lies there; open for reading.
        use_it(unsafe { window.data.cast::<T>().as_ref() })
    }
}

/// Types that may lie in a slot: no destructor, aligned to 16 at most, shared freely.
pub(super) trait Resident: Send + Sync {}

impl Drop for Guarded {
    fn drop(&mut self) {
        or_abort(self.slab.give_back(self.place));
    }
}

/// Access to one slot, taken away at the end of its scope.
struct Window<'a> {
    owner: &'a Guarded,
    write: bool,
    data: NonNull<u8>,
}

impl<'a> Window<'a> {
    fn open(owner: &'a Guarded, write: bool) -> Self {
        or_abort(owner.slab.open(owner.place, write));
        Self { owner, write, data: owner.slab.data(owner.place) }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        or_abort(self.owner.slab.check(self.owner.place));
        or_abort(self.owner.slab.close(self.owner.place, self.write));
    }
}

fn or_abort(result: Result<(), MemoryError>) {
    if let Err(error) = result {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("jsi-agent: {error}; ending at once\n").as_bytes(),
        );
        std::process::abort();
    }
}

#[cfg(test)]
mod tests;
