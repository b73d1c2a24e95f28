//! Where secrets live: the wiping allocator, wiped buffers, the guarded slab,
//! and shielded (sealed) secrets. The home of `unsafe` together with
//! [`process`](crate::process).
//!
//! What stays out of reach of all this: registers, and what the kernel copies
//! for itself (socket buffers, until they are read).
#![allow(unsafe_code)]

mod alloc;
mod error;
mod guard;
mod random;
mod region;
mod scrub;
mod secret;
mod shield;
mod slab;
mod wire;

pub use alloc::{WipingAllocator, limit_arenas};
pub use error::MemoryError;
pub use guard::{Guard, Guarded};
pub use random::{random, random_array};
pub use region::GuardKind;
pub use scrub::{scrubbed, scrubbed_deep};
pub use secret::{Field, Secret, SecretBuf, SecretError};
pub use shield::{Shield, Shielded};

/// Clears memory in a way that the compiler may not leave out.
fn wipe(bytes: &mut [u8]) {
    // SAFETY: the slice is valid for writes of its length.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) }
}
