//! `keys.json`: which keys there are and when each signs, without private parts.

use super::super::IssuerError;
use super::schedule::Schedule;
use crate::names::IssuerName;
use crate::store::{PrivateDir, Store};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The directory of all issuers' keys, below the store's.
const AREA: &str = "jwt";
/// The file's name.
pub(super) const FILE: &str = "keys.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct KeysFile {
    v: u32,
    issuer: String,
    keys: Schedule,
}

/// The file's bytes.
pub(super) fn encode(name: &IssuerName, schedule: &Schedule) -> Result<Vec<u8>, IssuerError> {
    let file = KeysFile { v: VERSION, issuer: name.to_string(), keys: schedule.clone() };
    serde_json::to_vec_pretty(&file).map_err(|error| IssuerError::Unavailable(error.to_string()))
}

/// Reads `keys.json`, and forgets a key that was begun and never finished.
pub(super) fn load(
    store: &Store,
    name: &IssuerName,
) -> Result<(PrivateDir, Arc<Schedule>), String> {
    let dir = store.private_dir(AREA, name).map_err(|error| error.to_string())?;
    let shown = dir.path().join(FILE).display().to_string();
    let again =
        "bring it back from a backup; to begin anew with another key, move the directory away";
    let sealed = dir.sealed_names().map_err(|error| error.to_string())?;
    let Some(bytes) = dir.read_open(FILE).map_err(|error| error.to_string())? else {
        if sealed.is_empty() {
            return Ok((dir, Arc::default()));
        }
        return Err(format!("{shown} is missing, though there are keys beside it; {again}"));
    };
    let file: KeysFile = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{shown} is malformed ({error}); {again}"))?;
    if file.v > VERSION {
        return Err(format!("{shown} is of the newer version {}; use a newer agent", file.v));
    }
    if file.issuer != name.as_str() {
        return Err(format!("{shown} is of the issuer {:?}, moved or copied here", file.issuer));
    }
    if let Some(key) = file.keys.keys().iter().find(|key| key.jwk.thumbprint() != key.kid) {
        return Err(format!("{shown} was altered: the key {} has another name; {again}", key.kid));
    }
    let mut schedule = file.keys;
    let begun: Vec<String> = schedule
        .keys()
        .iter()
        .filter(|key| key.signs_from.is_none() && !sealed.contains(&key.kid))
        .map(|key| key.kid.clone())
        .collect();
    begun.iter().for_each(|kid| schedule.remove(kid));
    for kid in &sealed {
        if !schedule.find(kid).is_some_and(|key| key.private) {
            // It was being removed.
            store.remove_private(&dir, kid).map_err(|error| error.to_string())?;
        }
    }
    Ok((dir, Arc::new(schedule)))
}
