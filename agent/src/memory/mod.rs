//! Where secrets live: the wiping allocator, wiped buffers, the guarded slab,
//! and shielded (sealed) secrets. The home of `unsafe` together with
//! [`process`](crate::process).
#![allow(unsafe_code)]

mod secret;

pub use secret::{Field, Secret, SecretBuf, SecretError};

/// Placeholder until the wiping allocator stands.
pub struct WipingAllocator;

// SAFETY: passes every call to the system allocator unchanged.
unsafe impl std::alloc::GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { std::alloc::System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { std::alloc::System.dealloc(ptr, layout) }
    }
}
