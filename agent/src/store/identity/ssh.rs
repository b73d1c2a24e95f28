//! SSH keys: ed25519 and RSA, as the `age` tool takes them.

use super::kept::KeptIdentity;
use super::passphrase::Unopened;
use crate::memory::SecretBuf;
use ssh_key::private::KeypairData;
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

/// An SSH key that has no passphrase, or has no more.
pub(super) fn opened(text: &str) -> Result<KeptIdentity, String> {
    parse(text)?;
    material(text).ok_or_else(|| UNSUPPORTED.to_owned())?;
    Ok(KeptIdentity::of_ssh(text))
}

const UNSUPPORTED: &str = "it is an SSH key that age knows nothing of; ed25519 and RSA serve \
    (of at least 2048 bits), and security keys through age-plugin-fido2-hmac or the like";

/// The key without its passphrase.
pub(super) fn decrypt(text: &str, passphrase: &SecretBuf) -> Result<Zeroizing<String>, Unopened> {
    let key = PrivateKey::from_openssh(text)
        .map_err(|error| Unopened::Broken(format!("it is a damaged SSH key ({error})")))?;
    if passphrase.is_empty() {
        return Err(Unopened::Wrong);
    }
    // Whatever fails from here on, fails by the passphrase: what cannot be
    // parsed was decrypted by another one.
    let open = key.decrypt(passphrase.expose()).map_err(|_| Unopened::Wrong)?;
    open.to_openssh(LineEnding::LF).map_err(|error| Unopened::Broken(error.to_string()))
}

/// For age; checks that it is a key which age takes.
pub(super) fn parse(text: &str) -> Result<age::ssh::Identity, String> {
    let key = age::ssh::Identity::from_buffer(text.as_bytes(), None)
        .map_err(|_| "it is a damaged SSH key".to_owned())?;
    match key {
        age::ssh::Identity::Unencrypted(_) => {}
        _ => return Err(UNSUPPORTED.to_owned()),
    }
    recipient(&key)?;
    Ok(key)
}

/// Whom files are sealed for.
pub(super) fn recipient(key: &age::ssh::Identity) -> Result<age::ssh::Recipient, String> {
    let found = age::ssh::Recipient::try_from(key.clone()).map_err(|_| UNSUPPORTED.to_owned())?;
    // Only what is written out is held against age's least length for RSA.
    found.to_string().parse().map_err(|_| UNSUPPORTED.to_owned())
}

/// The secret of the key itself: the same however `ssh-keygen -p` writes it.
pub(super) fn material(text: &str) -> Option<SecretBuf> {
    let key = PrivateKey::from_openssh(text).ok()?;
    match key.key_data() {
        KeypairData::Ed25519(pair) => Some(SecretBuf::from_slice(&pair.private.to_bytes())),
        KeypairData::Rsa(pair) => Some(SecretBuf::from_slice(pair.private.d.as_bytes())),
        _ => None,
    }
}
