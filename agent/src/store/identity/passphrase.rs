//! A key file encrypted by a passphrase: age's scrypt recipient.

use super::super::error::StoreError;
use crate::memory::SecretBuf;
use age::secrecy::SecretString;
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// The highest work factor that is accepted, as by the `age` tool: 4 GiB.
const MAX_WORK_FACTOR: u8 = 22;

/// Why a passphrase opened nothing.
pub(super) enum Unopened {
    /// It is another one.
    Wrong,
    /// The file is at fault.
    Broken(String),
}

impl Unopened {
    pub(super) fn or_refused(self, refuse: &dyn Fn(String) -> StoreError) -> StoreError {
        match self {
            Self::Wrong => StoreError::WrongPassphrase,
            Self::Broken(why) => refuse(why),
        }
    }
}

/// The text inside. Costs a second and 256 MiB as a rule.
pub(super) fn decrypt(bytes: &[u8], passphrase: &SecretBuf) -> Result<Zeroizing<String>, Unopened> {
    use age::DecryptError as Age;
    let broken = |error: String| Unopened::Broken(error);
    // age passphrases are text.
    let passphrase = std::str::from_utf8(passphrase.expose()).map_err(|_| Unopened::Wrong)?;
    let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(bytes))
        .map_err(|error| broken(error.to_string()))?;
    if !decryptor.is_scrypt() {
        return Err(broken("it is encrypted, but not by a passphrase".to_owned()));
    }
    let mut reader =
        decryptor.decrypt(std::iter::once(&identity as _)).map_err(|error| match error {
            Age::DecryptionFailed | Age::KeyDecryptionFailed | Age::NoMatchingKeys => {
                Unopened::Wrong
            }
            error => broken(error.to_string()),
        })?;
    // Longer than the text can be: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    reader.read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
    Ok(text)
}

/// Writes that text encrypted, in armour.
pub(super) fn encrypt(
    to: impl Write,
    text: &str,
    passphrase: &SecretBuf,
    factor: u8,
) -> io::Result<()> {
    let passphrase = std::str::from_utf8(passphrase.expose())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the passphrase is not UTF-8"))?;
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase));
    recipient.set_work_factor(factor);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _))
        .map_err(io::Error::other)?;
    let armored = age::armor::ArmoredWriter::wrap_output(to, age::armor::Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armored)?;
    writer.write_all(text.as_bytes())?;
    writer.finish()?.finish()?;
    Ok(())
}
