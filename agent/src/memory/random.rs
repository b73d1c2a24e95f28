//! Random bytes.

use ring::rand::{SecureRandom, SystemRandom};

/// Fills the buffer from the kernel's generator (getrandom(2)).
///
/// Ends the process where the kernel has none: nothing that the agent does is
/// right without.
pub fn random(buf: &mut [u8]) {
    if SystemRandom::new().fill(buf).is_err() {
        std::process::abort();
    }
}

/// That many random bytes.
#[must_use]
pub fn random_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}
