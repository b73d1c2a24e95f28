//! fs-verity as the identity of content.

use super::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Contents that are kept. One takes about 150 bytes.
const ENTRIES: usize = 8192;

/// Digests of contents that fs-verity keeps, by its own digest, which the kernel
/// gives without reading the file: the same content, wherever it lies and whenever
/// it was put there, is read once.
#[derive(Default)]
pub(super) struct Contents(Mutex<HashMap<String, Digest>>);

impl Contents {
    /// The digest of a content, read only where it is not known.
    pub(super) fn digest(
        &self,
        verity: Option<&str>,
        read: impl FnOnce() -> Result<Digest, String>,
    ) -> Result<Digest, String> {
        let Some(verity) = verity else { return read() };
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known().get(verity) {
            return Ok(*digest);
        }
        let digest = read()?;
        let mut known = known();
        if known.len() >= ENTRIES {
            known.clear();
        }
        known.insert(verity.to_owned(), digest);
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_fs_verity_keeps_is_read_once_wherever_it_lies() {
        let contents = Contents::default();
        let unread = || -> Result<Digest, String> { panic!("read again") };
        let (one, two) = (Digest([1; 32]), Digest([2; 32]));
        assert_eq!(contents.digest(Some("sha256:aa"), || Err("busy".into())), Err("busy".into()));
        assert_eq!(contents.digest(Some("sha256:aa"), || Ok(one)), Ok(one));
        assert_eq!(contents.digest(Some("sha256:aa"), unread), Ok(one));
        assert_eq!(contents.digest(Some("sha512:aa"), || Ok(two)), Ok(two), "another algorithm");
        // Without it there is nothing to know a content by.
        assert_eq!(contents.digest(None, || Ok(one)), Ok(one));
        assert_eq!(contents.digest(None, || Ok(two)), Ok(two));
    }
}
