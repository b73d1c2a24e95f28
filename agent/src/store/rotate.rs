//! New values for a secret that is stored already.

use super::Store;
use super::error::StoreError;
use super::plain::StoredInfo;
use crate::clock::WallTime;
use crate::memory::{Field, Secret, SecretBuf, random};
use crate::names::CredentialName;
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// Longest value that is generated, in characters.
const MAX_GENERATED: usize = 4096;

/// A field's new value; the field is the default one where none is named.
pub struct NewValue {
    /// Its name; empty: the default one.
    pub field: String,
    /// Its value.
    pub value: SecretBuf,
}

/// What a rotation did.
pub struct RotatedInfo {
    /// The secret as it is stored now.
    pub info: StoredInfo,
    /// The fields that got another value, in the secret's order.
    pub fields: Vec<String>,
}

impl Store {
    /// Replaces the values of those fields; owner, purpose, the other fields and
    /// what is known of each field stay.
    ///
    /// # Errors
    /// As [`Store::read`]; [`StoreError::NoField`]; [`StoreError::Unfit`] for a
    /// value that is empty, twice there, or makes the secret too long.
    pub fn rotate(
        &self,
        name: &CredentialName,
        values: Vec<NewValue>,
        now: WallTime,
    ) -> Result<RotatedInfo, StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (info, sealed) = {
            let _shared = self.access.read().unwrap_or_else(PoisonError::into_inner);
            self.files.read(name)?
        };
        let old = self.decrypted(&info, &sealed)?;
        let fields = renamed(&info, values.iter().map(|value| value.field.as_str()))?;
        let mut values: Vec<_> =
            fields.iter().cloned().zip(values.into_iter().map(|value| value.value)).collect();
        if values.iter().any(|(_, value)| value.is_empty()) {
            return Err(StoreError::Unfit("a value is empty".to_owned()));
        }
        let mut new = Vec::with_capacity(old.fields().len());
        for field in old.fields() {
            let at = values.iter().position(|(name, _)| *name == field.name);
            let value = match at {
                Some(at) => values.swap_remove(at).1,
                None => SecretBuf::from_slice(field.value.expose()),
            };
            let name = field.name.clone();
            let Field { sensitive, is_default, .. } = *field;
            new.push(Field { name, sensitive, is_default, value });
        }
        drop(old);
        let secret = Secret::new(new).map_err(|error| StoreError::Unfit(error.to_string()))?;
        let info = self.write(name, &info.owner, &info.purpose, &secret, now)?;
        let fields = in_order(&info, &fields);
        Ok(RotatedInfo { info, fields })
    }

    /// What [`Store::rotate`] would do with new values for those fields; works
    /// while locked.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Damaged`], [`StoreError::NoField`],
    /// [`StoreError::Unfit`].
    pub fn rotation(
        &self,
        name: &CredentialName,
        fields: &[String],
    ) -> Result<RotatedInfo, StoreError> {
        let info = self.info(name)?;
        let fields = renamed(&info, fields.iter().map(String::as_str))?;
        let fields = in_order(&info, &fields);
        Ok(RotatedInfo { info, fields })
    }
}

/// The names of those fields, the default one's where none is given; each once.
fn renamed<'a>(
    info: &StoredInfo,
    fields: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for field in fields {
        let known = info.fields.iter().find(|known| match field {
            "" => known.default,
            field => known.name == field,
        });
        let Some(known) = known else {
            let has: Vec<_> = info.fields.iter().map(|field| field.name.as_str()).collect();
            let field = field.chars().take(64).collect();
            return Err(StoreError::NoField {
                name: info.name.clone(),
                field,
                has: has.join(", "),
            });
        };
        if !seen.insert(known.name.as_str()) {
            return Err(StoreError::Unfit(format!("{} is given twice", known.name)));
        }
        names.push(known.name.clone());
    }
    if names.is_empty() {
        return Err(StoreError::Unfit("no field is given another value".to_owned()));
    }
    Ok(names)
}

fn in_order(info: &StoredInfo, fields: &[String]) -> Vec<String> {
    let names = info.fields.iter().map(|field| &field.name);
    names.filter(|name| fields.contains(name)).cloned().collect()
}

/// A random value of `length` characters, each as likely as the others.
///
/// # Errors
/// [`StoreError::Unfit`] for a length or an alphabet that makes none.
pub fn generate(length: usize, alphabet: &str) -> Result<SecretBuf, StoreError> {
    let letters: BTreeSet<u8> = alphabet.bytes().collect();
    let printable = |b: &u8| b.is_ascii_graphic();
    if letters.len() < 2 || letters.len() != alphabet.len() || !letters.iter().all(printable) {
        let why = "the characters to choose from are not at least two different ones of printable \
                   ASCII";
        return Err(StoreError::Unfit(why.to_owned()));
    }
    if length == 0 || length > MAX_GENERATED {
        return Err(StoreError::Unfit(format!(
            "a generated value has 1 to {MAX_GENERATED} characters"
        )));
    }
    let alphabet = alphabet.as_bytes();
    // What does not divide evenly is drawn again, so that none is more likely.
    let fair = 256 - 256 % alphabet.len();
    let mut value = Vec::with_capacity(length);
    let mut draw = [0_u8; 64];
    while value.len() < length {
        random(&mut draw);
        let fit = draw.iter().map(|byte| usize::from(*byte)).filter(|at| *at < fair);
        let left = length - value.len();
        value.extend(fit.take(left).filter_map(|at| alphabet.get(at % alphabet.len())));
    }
    zeroize::Zeroize::zeroize(&mut draw);
    Ok(SecretBuf::new(value))
}
