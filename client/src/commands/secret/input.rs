//! The fields of a secret as they come from a person or a pipe.

use crate::failure::Failure;
use crate::terminal;
use jsi_client::field_name;
use serde::Deserialize;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Most fields of one secret; the agent's own limit.
const MAX_FIELDS: usize = 32;
/// The field's name where none is given.
pub(super) const ONLY_FIELD: &str = "value";

/// A field as a flag names it.
#[derive(Clone, Debug)]
pub(super) struct Field {
    name: String,
    from_input: bool,
}

/// A field with its value.
pub(super) struct Filled {
    pub(super) name: String,
    pub(super) value: Zeroizing<Vec<u8>>,
    pub(super) sensitive: bool,
    pub(super) is_default: bool,
}

impl Field {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// For clap: `NAME` or `NAME=-`. A value on the command line would be seen by
/// every process of the host, and stay in the shell's history.
pub(super) fn field(text: &str) -> Result<Field, String> {
    let (name, from_input) = match text.split_once('=') {
        None => (text, false),
        Some((name, "-")) => (name, true),
        Some(_) => {
            return Err("values are not given on the command line: write NAME=- or NAME".to_owned());
        }
    };
    Ok(Field { name: field_name(name).map_err(|error| error.to_string())?, from_input })
}

/// Values for named fields: one from standard input, the others asked for.
pub(super) fn from_flags(mut fields: Vec<Field>, exact: bool) -> Result<Vec<Filled>, Failure> {
    if fields.is_empty() {
        fields.push(Field { name: ONLY_FIELD.to_owned(), from_input: false });
    }
    let piped = !terminal::present();
    if let [only] = fields.as_mut_slice() {
        only.from_input |= piped;
    }
    if fields.iter().filter(|field| field.from_input).count() > 1 {
        return Err(Failure::usage("only one field can be standard input")
            .advise("give several as JSON: --fields-from json"));
    }
    if piped && !fields.iter().any(|field| field.from_input) {
        return Err(Failure::usage("which field standard input is, is not said")
            .advise("mark it: --field NAME=-")
            .advise("or give all of them as JSON: --fields-from json"));
    }
    fields.into_iter().map(|field| filled(field, exact, piped)).collect()
}

fn filled(field: Field, exact: bool, piped: bool) -> Result<Filled, Failure> {
    let value = if field.from_input && piped {
        let mut value = terminal::all_input()?;
        if !exact {
            terminal::strip_newline(&mut value);
        }
        value
    } else {
        terminal::ask_secret(&format!("Value of {}", field.name))?
    };
    Ok(Filled { name: field.name, value, sensitive: true, is_default: false })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonField {
    Value(String),
    Whole(JsonWhole),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonWhole {
    value: Option<String>,
    base64: Option<String>,
    sensitive: Option<bool>,
    default: Option<bool>,
}

/// Fields from a JSON object.
pub(super) fn from_json(text: &[u8]) -> Result<Vec<Filled>, Failure> {
    // serde_json's own message would quote what it found.
    let fields: BTreeMap<String, JsonField> = serde_json::from_slice(text).map_err(|error| {
        Failure::usage(format!(
            "standard input is not the JSON that is meant, at line {} column {}",
            error.line(),
            error.column()
        ))
        .advise("write it as {\"user\": \"…\", \"password\": \"…\"}")
    })?;
    fields.into_iter().map(|(name, field)| json_field(&name, field)).collect()
}

fn json_field(name: &str, field: JsonField) -> Result<Filled, Failure> {
    let name = field_name(name).map_err(|error| Failure::usage(error.to_string()))?;
    let JsonWhole { value, base64, sensitive, default } = match field {
        JsonField::Value(value) => {
            JsonWhole { value: Some(value), base64: None, sensitive: None, default: None }
        }
        JsonField::Whole(whole) => whole,
    };
    let value = match (value, base64.map(Zeroizing::new)) {
        (Some(value), None) => Zeroizing::new(value.into_bytes()),
        (None, Some(text)) => Zeroizing::new(
            data_encoding::BASE64
                .decode(text.as_bytes())
                .map_err(|_| Failure::usage(format!("{name}: base64 is malformed")))?,
        ),
        _ => return Err(Failure::usage(format!("{name} needs either value or base64"))),
    };
    let sensitive = sensitive.unwrap_or(true);
    Ok(Filled { name, value, sensitive, is_default: default.unwrap_or(false) })
}

/// Decides which field is the default one and which are sensitive.
pub(super) fn settle(
    mut fields: Vec<Filled>,
    default: Option<&str>,
    plain: &[String],
) -> Result<Vec<Filled>, Failure> {
    let known = |fields: &[Filled], name: &str| fields.iter().any(|field| field.name == name);
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(Failure::usage("a secret has 1 to 32 fields"));
    }
    for (at, field) in fields.iter().enumerate() {
        if known(fields.get(..at).unwrap_or_default(), &field.name) {
            return Err(Failure::usage(format!("{} is given twice", field.name)));
        }
        if field.value.is_empty() {
            return Err(Failure::usage(format!("the value of {} is empty", field.name)));
        }
    }
    if let Some(name) =
        plain.iter().chain(default.map(str::to_owned).iter()).find(|n| !known(&fields, n))
    {
        return Err(Failure::usage(format!("there is no field {name}")));
    }
    for field in &mut fields {
        field.sensitive &= !plain.contains(&field.name);
    }
    if fields.iter().map(|field| field.value.len()).sum::<usize>() > jsi_proto::MAX_SECRET {
        return Err(Failure::usage("the secret is longer than 1 MiB").code(7));
    }
    let name = default_name(&fields, default)?;
    for field in &mut fields {
        field.is_default = field.name == name;
    }
    Ok(fields)
}

fn default_name(fields: &[Filled], default: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = default {
        return Ok(name.to_owned());
    }
    let marked: Vec<_> = fields.iter().filter(|field| field.is_default).collect();
    let sensitive: Vec<_> = fields.iter().filter(|field| field.sensitive).collect();
    let all: Vec<_> = fields.iter().collect();
    match (all.as_slice(), marked.as_slice(), sensitive.as_slice()) {
        ([only], _, _) | (_, [only], _) | (_, [], [only]) => Ok(only.name.clone()),
        (_, [], _) => Err(Failure::usage("which field is the default one, is not said")
            .advise("name it with --default FIELD")),
        _ => Err(Failure::usage("more than one field is marked as the default one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_fields_are_read_in_both_forms() {
        let fields =
            from_json(br#"{"user":{"value":"o","sensitive":false},"key":{"base64":"AAE="}}"#)
                .unwrap();
        let fields = settle(fields, None, &[]).unwrap();
        let key = fields.iter().find(|field| field.name == "key").unwrap();
        assert!(key.is_default && key.sensitive);
        assert_eq!(*key.value, [0, 1]);
        assert!(fields.iter().any(|field| field.name == "user" && !field.sensitive));
    }

    #[test]
    fn bad_json_is_refused_without_repeating_it() {
        for bad in [
            "",
            "[]",
            "\"hunter2\"",
            "{\"a\":1}",
            "{\"a\":{\"value\":\"hunter2\",\"x\":1}}",
            "{\"A\":\"hunter2\"}",
            "{\"a\":{}}",
            "{\"a\":{\"value\":\"x\",\"base64\":\"\"}}",
            "{\"a\":{\"base64\":\"?hunter2\"}}",
        ] {
            let Err(failure) = from_json(bad.as_bytes()) else { panic!("{bad}") };
            assert!(!format!("{failure:?}").contains("hunter2"), "{bad}");
        }
    }

    #[test]
    fn the_default_field_must_be_clear() {
        let two = || from_json(br#"{"a":"1","b":"2"}"#).unwrap();
        assert!(settle(two(), None, &[]).is_err());
        assert!(settle(two(), Some("c"), &[]).is_err());
        assert!(settle(two(), None, &["c".to_owned()]).is_err());
        let settled = settle(two(), None, &["a".to_owned()]).unwrap();
        assert!(settled.iter().all(|field| field.is_default == (field.name == "b")));
        assert!(settle(Vec::new(), None, &[]).is_err());
        assert!(settle(from_json(br#"{"a":""}"#).unwrap(), None, &[]).is_err());
    }

    #[test]
    fn a_value_is_not_taken_from_the_command_line() {
        assert!(field("password=hunter2").is_err());
        assert!(field("password=-").unwrap().from_input);
        assert!(!field("password").unwrap().from_input);
        assert!(field("Pass").is_err());
    }
}
