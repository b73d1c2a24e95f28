//! Shielded secrets: sealed under a key that lives in guarded memory, as
//! ssh-agent keeps its keys, so that many leases need little locked memory.

use super::guard::Resident;
use super::{Guard, Guarded, MemoryError, Secret, SecretBuf, random_array, wipe, wire};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seals and opens. One for each agent process.
pub struct Shield {
    key: Key,
}

/// One key. More than one will exist while keys are rotated.
struct Key {
    /// Told apart by it: what is sealed says under which.
    generation: u32,
    /// A `LessSafeKey`: ring's expanded key, which is as secret as the key.
    schedule: Guarded,
    /// Nonce: four random bytes, then a count that never repeats.
    prefix: [u8; 4],
    sealed: AtomicU64,
}

impl Resident for LessSafeKey {}

/// A sealed secret: safe to keep anywhere in memory, worthless without the [`Shield`].
pub struct Shielded {
    generation: u32,
    nonce: [u8; NONCE_LEN],
    /// Ciphertext and tag.
    bytes: Box<[u8]>,
}

impl Shielded {
    /// Bytes that it takes, apart from itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Shield {
    /// Makes a new random key in guarded memory.
    ///
    /// # Errors
    /// When guarded memory cannot be had.
    pub fn new(guard: &Guard) -> Result<Self, MemoryError> {
        let schedule = guard.alloc(size_of::<LessSafeKey>())?;
        Ok(Self {
            key: Key { generation: 0, schedule, prefix: random_array(), sealed: AtomicU64::new(0) },
        })
        .and_then(|mut shield| {
            let placed = fill(&mut shield.key.schedule);
            wipe_stack();
            placed.map(|()| shield)
        })
    }

    /// Seals bytes.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] after 2^64 secrets.
    pub fn seal(&self, plain: &[u8]) -> Result<Shielded, MemoryError> {
        let mut bytes = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(plain);
        let nonce = self.key.next_nonce()?;
        let tag = self.key.with(|key| {
            key.seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut bytes,
            )
        });
        match tag {
            Ok(tag) => bytes.extend_from_slice(tag.as_ref()),
            Err(ring::error::Unspecified) => {
                wipe(&mut bytes);
                return Err(MemoryError::TooLong(plain.len()));
            }
        }
        Ok(Shielded { generation: self.key.generation, nonce, bytes: bytes.into_boxed_slice() })
    }

    /// Opens what [`Shield::seal`] made.
    ///
    /// # Errors
    /// [`MemoryError::Forged`] when it is not what was sealed under this key.
    pub fn open(&self, shielded: &Shielded) -> Result<SecretBuf, MemoryError> {
        if shielded.generation != self.key.generation {
            return Err(MemoryError::Forged);
        }
        let mut bytes = zeroize::Zeroizing::new(shielded.bytes.to_vec());
        let nonce = Nonce::assume_unique_for_key(shielded.nonce);
        let len = self.key.with(|key| {
            key.open_in_place(nonce, Aad::empty(), &mut bytes).map(|plain| plain.len())
        });
        let len = len.map_err(|ring::error::Unspecified| MemoryError::Forged)?;
        bytes.truncate(len);
        Ok(SecretBuf::new(std::mem::take(&mut *bytes)))
    }

    /// Seals a secret with its fields.
    ///
    /// # Errors
    /// As [`Shield::seal`].
    pub fn seal_secret(&self, secret: &Secret) -> Result<Shielded, MemoryError> {
        self.seal(wire::encode(secret).expose())
    }

    /// Opens what [`Shield::seal_secret`] made.
    ///
    /// # Errors
    /// As [`Shield::open`].
    pub fn open_secret(&self, shielded: &Shielded) -> Result<Secret, MemoryError> {
        let plain = self.open(shielded)?;
        match wire::decode(plain.expose()) {
            Some(Ok(secret)) => Ok(secret),
            Some(Err(_)) | None => Err(MemoryError::Forged),
        }
    }
}

impl Key {
    fn next_nonce(&self) -> Result<[u8; NONCE_LEN], MemoryError> {
        let next = |count: u64| count.checked_add(1);
        let count = self
            .sealed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .map_err(|_| MemoryError::Exhausted)?;
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.prefix);
        nonce[4..].copy_from_slice(&count.to_be_bytes());
        Ok(nonce)
    }

    /// Lends ring's key where it lies. ring copies none of it to the heap; what
    /// it spills to the stack is cleared after.
    fn with<R>(&self, use_it: impl FnOnce(&LessSafeKey) -> R) -> R {
        // SAFETY: `Shield::new` placed a `LessSafeKey`, and nothing writes after.
        let result = unsafe { self.schedule.with::<LessSafeKey, R>(use_it) };
        wipe_stack();
        result
    }
}

/// Expands a random key straight into the slot. By itself, so that its frame
/// lies where [`wipe_stack`] clears.
#[inline(never)]
fn fill(schedule: &mut Guarded) -> Result<(), MemoryError> {
    let mut bytes: [u8; 32] = random_array();
    let key = UnboundKey::new(&AES_256_GCM, &bytes);
    wipe(&mut bytes);
    let key = key.map_err(|ring::error::Unspecified| MemoryError::Forged)?;
    schedule.place(LessSafeKey::new(key))
}

/// Clears the stack below the caller, where the calls it made before have left
/// their frames. Registers stay; the next call overwrites them.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; 8 * 1024];
    wipe(&mut below);
    std::hint::black_box(&below);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Field;

    fn shield() -> Shield {
        Shield::new(&Guard::new().unwrap()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_to_the_same_secret() {
        let shield = shield();
        let field = |name: &str, is_default, value: &[u8]| Field {
            name: name.to_owned(),
            sensitive: is_default,
            is_default,
            value: SecretBuf::from_slice(value),
        };
        let secret =
            Secret::new(vec![field("password", true, b"p4ss"), field("user", false, b"")]).unwrap();
        let shielded = shield.seal_secret(&secret).unwrap();
        let opened = shield.open_secret(&shielded).unwrap();
        assert_eq!(opened.fields().len(), 2);
        assert_eq!(opened.default_field().unwrap().name, "password");
        assert_eq!(opened.default_field().unwrap().value.expose(), b"p4ss");
        assert!(
            opened.default_field().unwrap().sensitive && !opened.field("user").unwrap().sensitive
        );
    }

    #[test]
    fn a_secret_of_the_largest_size_is_sealed() {
        let shield = shield();
        let shielded = shield.seal(&vec![7; jsi_proto::MAX_SECRET]).unwrap();
        assert_eq!(shield.open(&shielded).unwrap().len(), jsi_proto::MAX_SECRET);
    }

    #[test]
    fn a_tampered_secret_is_not_opened() {
        let shield = shield();
        for at in [0, 3, 11, 27] {
            let mut shielded = shield.seal(b"twelve bytes").unwrap();
            shielded.bytes[at] ^= 1;
            assert!(matches!(shield.open(&shielded), Err(MemoryError::Forged)), "byte {at}");
        }
        let mut shielded = shield.seal(b"x").unwrap();
        shielded.nonce[11] ^= 1;
        assert!(shield.open(&shielded).is_err());
    }

    #[test]
    fn a_secret_sealed_under_another_key_is_not_opened() {
        let shielded = shield().seal(b"x").unwrap();
        assert!(matches!(shield().open(&shielded), Err(MemoryError::Forged)));
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let shield = shield();
        let nonces: std::collections::BTreeSet<_> =
            (0..1000).map(|_| shield.seal(b"x").unwrap().nonce).collect();
        assert_eq!(nonces.len(), 1000);
        shield.key.sealed.store(u64::MAX, Ordering::Relaxed);
        assert!(matches!(shield.seal(b"x"), Err(MemoryError::Exhausted)));
    }
}
