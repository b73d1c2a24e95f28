//! The global allocator: the system's, but every freed byte is cleared first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// The system allocator with every buffer cleared before it is given back, so
/// that what a library forgot to wipe (an HTTP/2 frame, a JSON buffer) does not
/// stay in the heap. Costs two to five per cent of a request.
pub struct WipingAllocator;

/// Shrinking below half of a block larger than this moves it; anything else
/// stays where it is with its tail cleared.
const SHRINK_IN_PLACE_BYTES: usize = 1024;

// SAFETY: blocks come from `System` and go back to it with the layout they have
// then; the bytes between are only cleared after their last use.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns `layout.size()` bytes and uses them no more.
        unsafe {
            libc::explicit_bzero(block.cast(), layout.size());
            System.dealloc(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, old: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `block` is a live block of the system allocator; nothing but
        // its size is asked.
        let usable = unsafe { libc::malloc_usable_size(block.cast()) };
        let stays = if new_size > old.size() {
            new_size <= usable
        } else {
            old.size() <= SHRINK_IN_PLACE_BYTES || new_size >= old.size() / 2
        };
        if stays {
            if new_size < old.size() {
                // SAFETY: the tail is inside the old block, and given up by the caller.
                unsafe { libc::explicit_bzero(block.add(new_size).cast(), old.size() - new_size) };
            }
            return block;
        }
        // The system's realloc would leave the old bytes behind when it moves.
        // SAFETY: alignment is that of a valid layout; the caller keeps the
        // rounded size below isize::MAX.
        let layout = unsafe { Layout::from_size_align_unchecked(new_size, old.align()) };
        // SAFETY: the size is not zero (the caller's obligation).
        let moved = unsafe { System.alloc(layout) };
        if !moved.is_null() {
            // SAFETY: both blocks are live, distinct and at least that long.
            unsafe {
                ptr::copy_nonoverlapping(block, moved, old.size().min(new_size));
                self.dealloc(block, old);
            }
        }
        moved
    }
}

/// Bounds glibc's arenas: it makes one for nearly every thread, and what is
/// freed in one serves no other, so that a burst leaves each of them large.
/// For the first lines of a process. Without glibc it does nothing.
pub fn limit_arenas(count: std::ffi::c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; the allocator changes this under its own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, count);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes at a block after it was freed. glibc keeps its own links in the
    /// first 16 bytes of a free block, so what is looked for stands behind them.
    fn still_there(block: *const u8, len: usize) -> bool {
        // SAFETY: none in Rust's terms: the block is free. glibc keeps a small
        // block mapped, and that is what this test is about.
        (16..len).any(|at| unsafe { block.add(at).read_volatile() } == 0xA7)
    }

    #[test]
    fn a_freed_buffer_is_zero() {
        let layout = Layout::from_size_align(400, 8).unwrap();
        // SAFETY: the layout is not empty; the block is freed once.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            block.write_bytes(0xA7, 400);
            assert!(still_there(block, 400));
            WipingAllocator.dealloc(block, layout);
            assert!(!still_there(block, 400));
        }
    }

    #[test]
    fn a_buffer_that_grows_or_shrinks_leaves_nothing_behind() {
        let layout = Layout::from_size_align(4000, 8).unwrap();
        // SAFETY: layouts follow each change of size; each block is freed once.
        unsafe {
            for new_size in [40_000, 3_000, 100] {
                let block = WipingAllocator.alloc(layout);
                block.write_bytes(0xA7, 4000);
                let moved = WipingAllocator.realloc(block, layout, new_size);
                let kept = new_size.min(4000);
                assert!((0..kept).all(|at| moved.add(at).read() == 0xA7));
                if moved == block {
                    assert!(!still_there(block.add(new_size.saturating_sub(16)), 4000 - kept));
                } else {
                    assert!(!still_there(block, 4000));
                }
                let new_layout = Layout::from_size_align(new_size, 8).unwrap();
                WipingAllocator.dealloc(moved, new_layout);
            }
        }
    }
}
