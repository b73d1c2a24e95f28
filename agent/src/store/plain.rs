//! What stands in the two files of a secret: the sealed JSON and the metadata.

use super::error::StoreError;
use super::identity::Keys;
use crate::clock::WallTime;
use crate::memory::{Field, Secret, SecretBuf};
use crate::names::CredentialName;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{Read, Write};
use zeroize::Zeroizing;

const VERSION: u32 = 1;

/// What may be known of a secret while the store is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredInfo {
    /// Its name.
    pub name: CredentialName,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// When it was put.
    pub stored_at: WallTime,
    /// Its fields, in order.
    pub fields: Vec<FieldInfo>,
    /// How often a secret was stored under its name since it was last removed.
    #[serde(default = "first")]
    pub version: u64,
    /// Why it cannot be used, where that is seen without opening it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What was stored before versions were counted.
fn first() -> u64 {
    1
}

/// A field without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldInfo {
    /// Its name.
    pub name: String,
    /// It must be kept secret.
    pub sensitive: bool,
    /// It is what a request without a field name gets.
    pub default: bool,
}

impl StoredInfo {
    pub(super) fn of(
        name: &CredentialName,
        owner: &str,
        purpose: &str,
        secret: &Secret,
        stored_at: WallTime,
        version: u64,
    ) -> Self {
        let fields = secret.fields().iter().map(|field| FieldInfo {
            name: field.name.clone(),
            sensitive: field.sensitive,
            default: field.is_default,
        });
        Self {
            name: name.clone(),
            owner: owner.to_owned(),
            purpose: purpose.to_owned(),
            stored_at,
            fields: fields.collect(),
            version,
            fault: None,
        }
    }
}

/// The file beside the age file.
#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    v: u32,
    #[serde(flatten)]
    pub(super) info: StoredInfo,
    /// SHA-256 of the age file, lower-case hex.
    pub(super) sha256: String,
}

impl Metadata {
    pub(super) fn of(info: &StoredInfo, sealed: &[u8]) -> Self {
        Self { v: VERSION, info: info.clone(), sha256: sha256(sealed) }
    }

    /// Reads it; says what is wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let metadata: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("its metadata is malformed ({error})"))?;
        if metadata.v > VERSION {
            return Err(format!("its metadata is of the newer version {}", metadata.v));
        }
        Ok(metadata)
    }
}

/// SHA-256, lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// What is sealed. Values are borrowed from the buffer that was decrypted,
/// where JSON allows it.
#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    v: u32,
    name: Cow<'a, str>,
    owner: Cow<'a, str>,
    purpose: Cow<'a, str>,
    stored_at: WallTime,
    #[serde(default = "first")]
    version: u64,
    #[serde(borrow)]
    fields: Vec<PlainField<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PlainField<'a> {
    name: Cow<'a, str>,
    sensitive: bool,
    default: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<Text<'a>>,
}

/// serde borrows a `Cow` inside an `Option` only behind a type of its own.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Drop for PlainField<'_> {
    fn drop(&mut self) {
        for text in [&mut self.value, &mut self.value_base64].into_iter().flatten() {
            if let Cow::Owned(text) = &mut text.0 {
                zeroize::Zeroize::zeroize(text);
            }
        }
    }
}

/// Seals a secret for that recipient.
pub(super) fn encrypt(
    info: &StoredInfo,
    secret: &Secret,
    recipient: &dyn age::Recipient,
) -> Result<Vec<u8>, StoreError> {
    let bug = |error: &dyn std::fmt::Display| StoreError::Bug(error.to_string());
    let fields = secret.fields().iter().map(|field| {
        // JSON's escapes make control characters six times as long.
        let text = std::str::from_utf8(field.value.expose())
            .ok()
            .filter(|text| !text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c)));
        PlainField {
            name: Cow::Borrowed(field.name.as_str()),
            sensitive: field.sensitive,
            default: field.is_default,
            value: text.map(|text| Text(Cow::Borrowed(text))),
            value_base64: text
                .is_none()
                .then(|| Text(Cow::Owned(BASE64.encode(field.value.expose())))),
        }
    });
    let plain = Plain {
        v: VERSION,
        name: Cow::Borrowed(info.name.as_str()),
        owner: Cow::Borrowed(&info.owner),
        purpose: Cow::Borrowed(&info.purpose),
        stored_at: info.stored_at,
        version: info.version,
        fields: fields.collect(),
    };
    // Longer than the text can be: growing would leave copies behind.
    let room = 4096 + 2 * secret.len() + 2 * (info.owner.len() + info.purpose.len()) * 6;
    let mut text = Zeroizing::new(Vec::with_capacity(room + 256 * secret.fields().len()));
    serde_json::to_writer(&mut *text, &plain).map_err(|error| bug(&error))?;
    drop(plain);
    seal(&text, recipient)
}

/// Seals bytes for that recipient.
pub(super) fn seal(text: &[u8], recipient: &dyn age::Recipient) -> Result<Vec<u8>, StoreError> {
    let bug = |error: &dyn std::fmt::Display| StoreError::Bug(error.to_string());
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).map_err(
        |error| match error {
            // Only a plugin does input and output here.
            age::EncryptError::Io(error) => StoreError::Helper(error.to_string()),
            error => bug(&error),
        },
    )?;
    let mut sealed = Vec::with_capacity(text.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|error| bug(&error))?;
    writer.write_all(text).map_err(|error| bug(&error))?;
    writer.finish().map_err(|error| bug(&error))?;
    Ok(sealed)
}

/// Opens bytes. [`StoreError::Bug`] says why they do not open, where that is
/// nobody else's fault: the caller knows which file it was.
pub(super) fn open(sealed: &[u8], keys: &Keys) -> Result<SecretBuf, StoreError> {
    let opened = || {
        let mut reader = age::Decryptor::new_buffered(sealed)
            .and_then(|file| file.decrypt(keys.iter()))
            .map_err(|error| match error {
                age::DecryptError::NoMatchingKeys => "it is sealed for another identity".to_owned(),
                error => format!("it does not open ({error})"),
            })?;
        // The plaintext is shorter than the file: this never grows.
        let mut text = Zeroizing::new(Vec::with_capacity(sealed.len()));
        reader.read_to_end(&mut text).map_err(|error| format!("it does not open ({error})"))?;
        Ok(SecretBuf::new(std::mem::take(&mut *text)))
    };
    opened().map_err(|why| match keys.failure() {
        Some(failure) => failure.into(),
        None => StoreError::Bug(why),
    })
}

/// Holds what was opened against its metadata; says what is wrong.
pub(super) fn parse(info: &StoredInfo, text: &SecretBuf) -> Result<Secret, String> {
    let plain: Plain<'_> = serde_json::from_slice(text.expose()).map_err(|error| {
        // serde's own words may quote what it read.
        format!("its content is malformed at line {}, column {}", error.line(), error.column())
    })?;
    if plain.v > VERSION {
        return Err(format!("its content is of the newer version {}", plain.v));
    }
    if plain.name != info.name.as_str() {
        return Err(format!("it is the secret of {:?}, moved or copied here", plain.name));
    }
    let secret = secret_of(&plain)?;
    let name = &info.name;
    let Plain { owner, purpose, stored_at, version, .. } = &plain;
    if StoredInfo::of(name, owner, purpose, &secret, *stored_at, *version) != *info {
        return Err("its metadata (.json) does not say what the sealed file says".to_owned());
    }
    Ok(secret)
}

fn secret_of(plain: &Plain<'_>) -> Result<Secret, String> {
    let field = |field: &PlainField<'_>| {
        let value = match (&field.value, &field.value_base64) {
            (Some(text), None) => SecretBuf::from_slice(text.0.as_bytes()),
            (None, Some(text)) => BASE64
                .decode(text.0.as_bytes())
                .map(SecretBuf::new)
                .map_err(|_| "a field of it is not base64".to_owned())?,
            _ => return Err("a field of it has no value, or two".to_owned()),
        };
        Ok(Field {
            name: field.name.clone().into_owned(),
            sensitive: field.sensitive,
            is_default: field.default,
            value,
        })
    };
    let fields = plain.fields.iter().map(field).collect::<Result<_, String>>()?;
    Secret::new(fields).map_err(|error| error.to_string())
}
