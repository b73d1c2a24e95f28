//! Entries of pass and passage: the first line is the password, `key: value`
//! lines are fields, `otpauth://` lines are the field `otp`, and what is left goes
//! into `notes`.

use super::item::Item;
use super::names::field_of;
use crate::commands::secret::input::{Filled, ONLY_FIELD};
use zeroize::Zeroizing;

/// An entry as a secret. What is no text is one field of bytes.
pub(super) fn entry(source: String, text: &[u8]) -> Item {
    let lines = std::str::from_utf8(text).ok().filter(|text| !text.contains('\0'));
    let Some(text) = lines else {
        let whole = filled(ONLY_FIELD.to_owned(), text);
        return Item::new(source, vec![Filled { is_default: true, ..whole }]);
    };
    let mut lines = text.lines();
    let mut fields = Vec::new();
    let password = lines.next().unwrap_or_default();
    if !password.is_empty() {
        fields.push(filled("password".to_owned(), password.as_bytes()));
    }
    let mut notes: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    for line in lines {
        if line.starts_with("otpauth://") {
            add(&mut fields, "otp", line);
            continue;
        }
        let named = line
            .split_once(':')
            .filter(|(_, value)| value.starts_with([' ', '\t']) && !value.trim().is_empty());
        match named.and_then(|(key, value)| Some((field_of(key)?, value.trim()))) {
            Some((key, value)) => add(&mut fields, &key, value),
            None => {
                notes.extend_from_slice(line.as_bytes());
                notes.push(b'\n');
            }
        }
    }
    let kept = notes.trim_ascii();
    if !kept.is_empty() {
        let kept = std::str::from_utf8(kept).unwrap_or_default();
        add(&mut fields, "notes", kept);
    }
    let default = ["password", "otp"]
        .iter()
        .find_map(|name| fields.iter().position(|field| field.name == *name))
        .unwrap_or(0);
    if let Some(field) = fields.get_mut(default) {
        field.is_default = true;
    }
    Item::new(source, fields)
}

/// A field of that name, or of the next one that is free.
fn add(fields: &mut Vec<Filled>, name: &str, value: &str) {
    let taken = |name: &str| fields.iter().any(|field| field.name == name);
    let free = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(free);
    if let Some(name) = names.find(|name| !taken(name)) {
        fields.push(filled(name, value.as_bytes()));
    }
}

fn filled(name: String, value: &[u8]) -> Filled {
    let value = Zeroizing::new(value.to_vec());
    Filled { name, value, sensitive: true, is_default: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &[u8]) -> Vec<(String, Vec<u8>, bool)> {
        let item = entry("e".to_owned(), text);
        let field = |field: Filled| (field.name, field.value.to_vec(), field.is_default);
        item.fields.into_iter().map(field).collect()
    }

    fn names(text: &[u8]) -> Vec<String> {
        fields(text).into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn a_password_its_fields_its_otp_and_the_rest() {
        let text = b"hunter2\nUser Name: app\nurl: https://example.org:8080/\nhttps://other/\n\
                     otpauth://totp/x?secret=y\nfree text\nurl: second\n";
        let found = fields(text);
        let at = |name: &str| {
            let field = found.iter().find(|(known, ..)| known == name);
            field.unwrap_or_else(|| panic!("{name}")).1.clone()
        };
        assert_eq!(at("password"), b"hunter2");
        assert_eq!(at("user-name"), b"app");
        assert_eq!(at("url"), b"https://example.org:8080/");
        assert_eq!(at("url-2"), b"second");
        assert_eq!(at("otp"), b"otpauth://totp/x?secret=y");
        assert_eq!(at("notes"), b"https://other/\nfree text");
        assert_eq!(found.iter().filter(|(.., default)| *default).count(), 1);
        assert!(found[0].2);
    }

    #[test]
    fn an_entry_without_a_password_or_without_text_loses_nothing() {
        assert_eq!(names(b"\nuser: app\n"), ["user"]);
        assert_eq!(names(b"\notpauth://totp/x\nuser: a"), ["otp", "user"]);
        assert!(fields(b"\notpauth://totp/x\nuser: a")[0].2);
        assert_eq!(names(b"only"), ["password"]);
        assert_eq!(fields(b"\xff\0\x01")[0], ("value".to_owned(), b"\xff\0\x01".to_vec(), true));
        assert!(fields(b"").is_empty());
        assert_eq!(fields(b"p\r\nuser: a\r\n")[1].1, b"a");
    }
}
