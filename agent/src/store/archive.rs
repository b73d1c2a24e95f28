//! A backup: a tar archive of the store's files as they are, ciphertext and
//! metadata, with a manifest in front.
//!
//! `manifest.json` names every file with its length and SHA-256, and
//! `manifest.seal` is an HMAC-SHA256 of it under a key derived from the store's
//! identity: whoever can write the archive, and knows the public key that
//! secrets are sealed for, could otherwise put secrets of their own into it. Any
//! tar opens it, and `age -d` each secret.

use super::error::StoreError;
use super::plain::sha256;
use super::snapshot::Snapshot;
use crate::clock::WallTime;
use crate::memory::SecretBuf;
use crate::names::CredentialName;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const SEAL: &str = "manifest.seal";
/// What the paths of the store's files begin with.
pub(super) const STORE: &str = "store/";
const FORMAT: &str = "jsi backup";
const VERSION: u32 = 1;
const LABEL: &[u8] = b"jsi backup: HMAC-SHA256 of the manifest 1";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// When it was made.
    pub made_at: WallTime,
    /// Secrets.
    pub secrets: usize,
    /// Files, manifest and seal not counted.
    pub files: usize,
    /// SHA-256 of the manifest, lower-case hex: names the backup.
    pub manifest: String,
}

/// The first file of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    v: u32,
    /// For people.
    made: String,
    pub(super) made_at: WallTime,
    /// The agent's version.
    agent: String,
    pub(super) files: Vec<Listed>,
}

/// A file that the manifest names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// SHA-256, lower-case hex.
    pub(super) sha256: String,
}

/// Writes an archive of a snapshot and `extras` (path, content), which are kept
/// for people and never restored. `key` is the store's journal key.
///
/// # Errors
/// [`StoreError::Io`] for a file of the snapshot; [`StoreError::Archive`] where
/// `out` cannot be written.
pub fn write_archive(
    snapshot: &Snapshot,
    extras: &[(String, Vec<u8>)],
    key: &SecretBuf,
    now: WallTime,
    out: &mut dyn Write,
) -> Result<Summary, StoreError> {
    let mut files = Vec::with_capacity(snapshot.files().len() + extras.len());
    for file in snapshot.files() {
        files.push(Listed::of(format!("{STORE}{file}"), &snapshot.read(file)?));
    }
    files.extend(extras.iter().map(|(path, bytes)| Listed::of(path.clone(), bytes)));
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        v: VERSION,
        made: now.rfc3339(),
        made_at: now,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        files,
    };
    let text = serde_json::to_vec_pretty(&manifest);
    let text = text.map_err(|error| StoreError::Bug(error.to_string()))?;
    let mut archive = tar::Builder::new(out);
    let mut append = |path: &str, bytes: &[u8]| {
        let appended = append(&mut archive, path, bytes, now);
        appended.map_err(|error| StoreError::Archive(format!("it cannot be written: {error}")))
    };
    append(MANIFEST, &text)?;
    append(SEAL, format!("{}\n", seal(key, &text)).as_bytes())?;
    for file in snapshot.files() {
        append(&format!("{STORE}{file}"), &snapshot.read(file)?)?;
    }
    for (path, bytes) in extras {
        append(path, bytes)?;
    }
    let finished = archive.finish().and_then(|()| archive.get_mut().flush());
    finished.map_err(|error| StoreError::Archive(format!("it cannot be written: {error}")))?;
    Ok(manifest.summary(&text))
}

fn append(
    archive: &mut tar::Builder<&mut dyn Write>,
    path: &str,
    bytes: &[u8],
    now: WallTime,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(now.0 / 1_000);
    archive.append_data(&mut header, path, bytes)
}

impl Listed {
    fn of(path: String, content: &[u8]) -> Self {
        Self { path, bytes: content.len() as u64, sha256: sha256(content) }
    }

    /// The path below the store's directory, of a file that is restored.
    pub(super) fn of_store(&self) -> Option<&str> {
        self.path.strip_prefix(STORE)
    }
}

impl Manifest {
    /// Reads it and holds it to what a backup has; says what is wrong.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            v: u32,
        }
        let head: Head =
            serde_json::from_slice(text).map_err(|_| "it is no jsi backup".to_owned())?;
        if head.format != FORMAT {
            return Err("it is no jsi backup".to_owned());
        }
        if head.v != VERSION {
            return Err(format!(
                "it has version {} of the format, and this agent reads {VERSION}: restore it with \
                 the jsi that made it",
                head.v
            ));
        }
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| format!("its manifest is malformed ({error})"))?;
        manifest.checked()?;
        Ok(manifest)
    }

    fn checked(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !seen.insert(file.path.as_str()) {
                return Err(format!("its manifest names {:?} twice", file.path));
            }
            let known = match file.of_store() {
                Some(below) => name_of(below).is_some(),
                None => is_extra(&file.path),
            };
            if !known {
                return Err(format!("its manifest names {:?}, which no backup has", file.path));
            }
        }
        for file in self.files.iter().filter_map(Listed::of_store) {
            let Some(name) = file.strip_suffix(".json") else { continue };
            if !seen.contains(format!("{STORE}{name}.age").as_str()) {
                return Err(format!("its manifest names {STORE}{file} without the secret"));
            }
        }
        Ok(())
    }

    /// Each secret with the SHA-256 of its age file.
    pub(super) fn secrets(&self) -> BTreeMap<CredentialName, &str> {
        let age = |file: &Listed| file.of_store().is_some_and(|path| path.ends_with(".age"));
        let secrets = self.files.iter().filter(|file| age(file));
        secrets
            .filter_map(|file| Some((name_of(file.of_store()?)?, file.sha256.as_str())))
            .collect()
    }

    pub(super) fn summary(&self, text: &[u8]) -> Summary {
        Summary {
            made_at: self.made_at,
            secrets: self.secrets().len(),
            files: self.files.len(),
            manifest: sha256(text),
        }
    }
}

/// The secret that a file below the store's directory belongs to.
pub(super) fn name_of(below: &str) -> Option<CredentialName> {
    let name = below.strip_suffix(".age").or_else(|| below.strip_suffix(".json"))?;
    let name = CredentialName::new(name).ok()?;
    let unstorable = |parent: &str| parent.ends_with(".age") || parent.ends_with(".json");
    let storable = !name.parents().any(unstorable);
    storable.then_some(name)
}

/// The configuration, or a policy.
fn is_extra(path: &str) -> bool {
    let policy = path.strip_prefix("policy.d/");
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    path == "agent.toml" || policy.is_some_and(plain)
}

/// The seal of a manifest, lower-case hex.
pub(super) fn seal(key: &SecretBuf, manifest: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, LABEL).as_ref());
    data_encoding::HEXLOWER.encode(hmac::sign(&key, manifest).as_ref())
}
