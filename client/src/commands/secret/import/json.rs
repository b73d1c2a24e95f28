//! A JSON object of strings, or of objects of strings, which are fields.
//!
//! Numbers and booleans become their text. A value may be written
//! `{"base64": "…"}`, with `"sensitive"` and `"default"` beside it. Values are never
//! copied into anything that is not wiped: serde_json only finds where they stand.

use super::item::{Fault, Found, Item};
use super::names::field_of;
use crate::commands::secret::input::{Filled, ONLY_FIELD};
use crate::failure::Failure;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use zeroize::Zeroizing;

/// The secrets of an object, in its order.
///
/// # Errors
/// It is no JSON object.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Found>, Failure> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // serde_json's own message would quote what it found.
    let object: Members<'_> = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::new(format!("it is no JSON object of secrets, at line {line} column {column}"))
            .advise("write it as {\"NAME\": \"value\"} or {\"NAME\": {\"FIELD\": \"value\"}}")
    })?;
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in &object.0 {
        *places.entry(name).or_default() += 1;
    }
    let mut told = BTreeSet::new();
    let found = object.0.iter().filter_map(|(name, raw)| {
        if places.get(name.as_str()) == Some(&1) {
            return Some(item(name, raw));
        }
        // Told once, where it stands first.
        let why = "it stands there twice: keep one of them";
        told.insert(name).then(|| Err(Fault::failed(name.clone(), why)))
    });
    Ok(found.collect())
}

/// An object's members as they stand, in order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

fn item(name: &str, raw: &RawValue) -> Found {
    let failed = |(path, why): (String, String)| {
        let why = if path == name { why } else { format!("{path}: {why}") };
        Fault::failed(name, why)
    };
    let mut fields = Vec::new();
    match members(raw) {
        Some(object) if !is_marked(&object) => {
            for (key, raw) in &object {
                let path = format!("{name}.{key}");
                let Some(field) = field_of(key) else {
                    return Err(failed((path, "nothing of it can stand in a field's name".into())));
                };
                fields.push(value(&path, field, raw).map_err(failed)?);
            }
        }
        _ => fields.push(value(name, ONLY_FIELD.to_owned(), raw).map_err(failed)?),
    }
    Ok(Item::new(name.to_owned(), fields))
}

fn members(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    raw.get()
        .starts_with('{')
        .then(|| serde_json::from_str::<Members<'_>>(raw.get()).ok())?
        .map(|m| m.0)
}

/// `{"base64": …}` or `{"value": …, "sensitive": …}`: a value with marks, not fields.
fn is_marked(object: &[(String, &RawValue)]) -> bool {
    let has = |name: &str| object.iter().any(|(key, _)| key == name);
    let marks = |key: &str| matches!(key, "base64" | "value" | "sensitive" | "default");
    object.iter().all(|(key, _)| marks(key)) && (has("base64") != has("value"))
}

/// One field's value; where it stands and what is wrong with it otherwise.
fn value(path: &str, name: String, raw: &RawValue) -> Result<Filled, (String, String)> {
    let wrong = |why: &str| (path.to_owned(), why.to_owned());
    let mut filled =
        Filled { name, value: Zeroizing::default(), sensitive: true, is_default: false };
    match raw.get().bytes().next() {
        Some(b'"') => filled.value = text(raw).ok_or_else(|| wrong(LONE))?,
        Some(b'{') => {
            let object = members(raw).ok_or_else(|| wrong("it is malformed"))?;
            if !is_marked(&object) {
                return Err(wrong("objects stand no deeper than a secret's fields"));
            }
            for (key, raw) in &object {
                let flag = || match raw.get() {
                    "true" => Ok(true),
                    "false" => Ok(false),
                    _ => Err((format!("{path}.{key}"), "it is neither true nor false".to_owned())),
                };
                match key.as_str() {
                    "sensitive" => filled.sensitive = flag()?,
                    "default" => filled.is_default = flag()?,
                    "base64" => {
                        let text = text(raw).and_then(|text| decoded(&text));
                        filled.value = text.ok_or_else(|| wrong("its base64 is malformed"))?;
                    }
                    _ => filled.value = value(path, String::new(), raw)?.value,
                }
            }
        }
        Some(b'[') => return Err(wrong("a list is no value; write it as a string")),
        Some(b'n') | None => return Err(wrong("null is no value")),
        Some(_) => filled.value = Zeroizing::new(raw.get().as_bytes().to_vec()),
    }
    Ok(filled)
}

const LONE: &str = "half of a surrogate pair stands in it, which no text can hold";

fn decoded(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let trimmed = text.trim_ascii();
    data_encoding::BASE64.decode(trimmed).ok().map(Zeroizing::new)
}

/// A JSON string without its quotes and escapes; serde_json has found it well
/// formed, but for halves of surrogate pairs.
fn text(raw: &RawValue) -> Option<Zeroizing<Vec<u8>>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Zeroizing::new(Vec::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let letter = *escape.as_bytes().get(1)?;
        let mut used = 2;
        match letter {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (c, len) = unicode(escape)?;
                used = len;
                let mut bytes = Zeroizing::new([0; 4]);
                out.extend_from_slice(c.encode_utf8(&mut *bytes).as_bytes());
            }
            letter => out.push(letter),
        }
        rest = escape.get(used..)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// `\uXXXX` or a pair of them; the character and how long that is.
fn unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u32::from_str_radix(escape.get(at..at + 4)?, 16).ok();
    let first = unit(2)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    if escape.get(6..8)? != "\\u" {
        return None;
    }
    let second = unit(8).filter(|unit| (0xdc00..0xe000).contains(unit))?;
    let c = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(c)?, 12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Found {
        let mut found = parse(text.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    fn fields(text: &str) -> Vec<(String, Vec<u8>, bool, bool)> {
        let item = one(text).map_err(|fault| fault.why).ok().unwrap();
        let field = |f: Filled| (f.name, f.value.to_vec(), f.sensitive, f.is_default);
        item.fields.into_iter().map(field).collect()
    }

    #[test]
    fn strings_numbers_and_booleans_become_text_and_base64_bytes() {
        let value = |text: &str| fields(text)[0].1.clone();
        assert_eq!(value(r#"{"a": "x\n\"\u00e9\ud83d\ude00\/"}"#), "x\n\"é😀/".as_bytes());
        assert_eq!(value(r#"{"a": 12.50}"#), b"12.50");
        assert_eq!(value(r#"{"a": true}"#), b"true");
        assert_eq!(value(r#"{"a": {"base64": "AAH/"}}"#), [0, 1, 255]);
        assert_eq!(value("{\"a\": \"nul\\u0000\"}"), b"nul\0");
    }

    #[test]
    fn objects_are_fields_and_marks_are_kept() {
        let all = fields(
            r#"{"db": {"User Name": {"value": "app", "sensitive": false},
                       "key": {"base64": "AAE=", "default": true}, "port": 5432}}"#,
        );
        assert_eq!(all[0], ("user-name".to_owned(), b"app".to_vec(), false, false));
        assert_eq!(all[1], ("key".to_owned(), vec![0, 1], true, true));
        assert_eq!(all[2].1, b"5432");
        // Fields that happen to have such names.
        assert_eq!(fields(r#"{"a": {"value": "1", "user": "2"}}"#).len(), 2);
    }

    #[test]
    fn what_stands_too_deep_or_is_no_value_is_named_by_its_path_and_not_shown() {
        for (text, path) in [
            (r#"{"a": {"b": {"c": "hunter2"}}}"#, "a.b"),
            (r#"{"a": {"b": ["hunter2"]}}"#, "a.b"),
            (r#"{"a": {"b": null}}"#, "a.b"),
            (r#"{"a": {"b": {"base64": "hunter2?"}}}"#, "a.b"),
            (r#"{"a": {"b": {"value": "hunter2", "sensitive": 1}}}"#, "a.b.sensitive"),
            (r#"{"a": {"b": "hunter2\ud800"}}"#, "a.b"),
            (r#"{"a": {"€": "hunter2"}}"#, "a.€"),
        ] {
            let fault = one(text).err().unwrap();
            assert!(fault.failed && fault.source == "a", "{text}");
            assert!(fault.why.contains(path) && !fault.why.contains("hunter2"), "{}", fault.why);
        }
        let twice = one(r#"{"a": "1", "a": "2"}"#).err().unwrap();
        assert!(twice.why.contains("twice"));
    }

    #[test]
    fn what_is_no_object_is_refused_without_being_shown() {
        for text in ["", "[\"hunter2\"]", "\"hunter2\"", "{\"a\": \"hunter2\"", "{\"a\": hunter2}"]
        {
            let failure = parse(text.as_bytes()).err().unwrap();
            assert!(!format!("{failure:?}").contains("hunter2"), "{text}");
        }
        assert!(parse(b"{\"a\": \"\xff\"}").is_err());
    }

    proptest! {
        #[test]
        fn strings_are_read_as_serde_json_reads_them(value in any::<String>(), ascii in any::<bool>()) {
            let mut json = serde_json::json!({ "a": value }).to_string();
            if ascii {
                json = json.chars().map(|c| match c {
                    c if c.is_ascii() => c.to_string(),
                    c => c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04x}")).collect(),
                }).collect();
            }
            prop_assert_eq!(&fields(&json)[0].1, value.as_bytes());
        }

        #[test]
        fn nothing_that_is_read_makes_it_panic(text in "[\\[\\]{}\":,a\\\\u0d8 ]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
