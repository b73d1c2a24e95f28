//! Work on a key that leaves no copy of it on the stack.

/// Cleared below the caller: what ring's elliptic curves use in a build without
/// optimisation, several times over.
const SHALLOW: usize = 16 * 1024;
/// The same for RSA.
const DEEP: usize = 128 * 1024;

/// Runs `work` in frames of its own and clears the stack where they lay. What it
/// frees on the heap is wiped by the allocator. Registers stay; the next call
/// overwrites them.
pub fn scrubbed<R>(work: impl FnOnce() -> R) -> R {
    let result = apart(work);
    clear::<SHALLOW>();
    result
}

/// The same for work that takes a deep stack (RSA).
pub fn scrubbed_deep<R>(work: impl FnOnce() -> R) -> R {
    let result = apart(work);
    clear::<DEEP>();
    result
}

#[inline(never)]
fn apart<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

#[inline(never)]
fn clear<const N: usize>() {
    let mut below = [0_u8; N];
    super::wipe(&mut below);
    std::hint::black_box(&below);
}
