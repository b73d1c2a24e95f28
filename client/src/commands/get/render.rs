//! A secret as the forms that `jsi get` prints. All of it is put together in
//! one buffer that is large enough from the start, and wiped.

use super::{Arguments, Form};
use crate::failure::Failure;
use crate::view;
use jsi_client::{Leased, SecretField};
use zeroize::Zeroizing;

/// The text that goes to standard output.
pub(super) fn render(
    leased: &Leased,
    arguments: &Arguments,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let fields = chosen(leased, arguments)?;
    let mut out = Zeroizing::new(Vec::with_capacity(room(&fields, arguments)));
    match arguments.form {
        Form::Raw => {
            fields.iter().for_each(|field| out.extend_from_slice(field.value()));
            if !arguments.no_newline {
                out.push(b'\n');
            }
        }
        Form::Json => json(&mut out, leased, &fields),
        Form::Env => lines(&mut out, &fields, arguments, shell)?,
        Form::Dotenv => lines(&mut out, &fields, arguments, dotenv)?,
    }
    Ok(out)
}

fn chosen<'a>(leased: &'a Leased, arguments: &Arguments) -> Result<Vec<&'a SecretField>, Failure> {
    let reference = &arguments.reference;
    let names = || leased.fields().iter().map(SecretField::name).collect::<Vec<_>>().join(", ");
    if let Some(name) = &reference.field {
        return match leased.field(name) {
            Some(field) => Ok(vec![field]),
            None => Err(Failure::new(format!("{} has no field {name}", reference.credential))
                .code(4)
                .advise(format!("it has: {}", names()))),
        };
    }
    if arguments.form != Form::Raw {
        return Ok(leased.fields().iter().collect());
    }
    match leased.default_field() {
        Some(field) => Ok(vec![field]),
        None => Err(Failure::new(format!("{} has no default field", reference.credential))
            .code(4)
            .advise(format!("name one of: {}", names()))),
    }
}

/// Enough for each byte's longest escape (`\u0000`, `'\''`), the lease and the names.
fn room(fields: &[&SecretField], arguments: &Arguments) -> usize {
    const LONGEST_ESCAPE: usize = 6;
    const ROUND_IT: usize = 512;
    let each = |field: &&SecretField| {
        LONGEST_ESCAPE * field.value().len()
            + field.name().len()
            + arguments.prefix.len()
            + ROUND_IT
    };
    fields.iter().map(each).sum::<usize>() + 64 * 1024
}

/// Values that are not UTF-8 stand under `fields_base64`.
fn json(out: &mut Vec<u8>, leased: &Leased, fields: &[&SecretField]) {
    let head = serde_json::json!({
        "credential": leased.lease().credential,
        "request_id": leased.request_id(),
        "default": leased.default_field().map(SecretField::name),
        "lease": view::lease(leased.lease()),
    });
    let head = head.to_string();
    // The object stays open for the fields.
    out.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
    let (text, binary): (Vec<_>, Vec<_>) =
        fields.iter().partition(|field| std::str::from_utf8(field.value()).is_ok());
    members(out, "fields", &text, |out, value| {
        out.push(b'"');
        for &b in value {
            match b {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                b'\n' => out.extend_from_slice(b"\\n"),
                0..0x20 | 0x7f => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
                _ => out.push(b),
            }
        }
        out.push(b'"');
    });
    if !binary.is_empty() {
        members(out, "fields_base64", &binary, |out, value| {
            let text = Zeroizing::new(data_encoding::BASE64.encode(value));
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        });
    }
    out.extend_from_slice(b"}\n");
}

fn members(
    out: &mut Vec<u8>,
    name: &str,
    fields: &[&&SecretField],
    value: impl Fn(&mut Vec<u8>, &[u8]),
) {
    out.extend_from_slice(format!(",\"{name}\":{{").as_bytes());
    for (number, field) in fields.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        out.extend_from_slice(format!("{comma}\"{}\":", field.name()).as_bytes());
        value(out, field.value());
    }
    out.push(b'}');
}

fn lines(
    out: &mut Vec<u8>,
    fields: &[&SecretField],
    arguments: &Arguments,
    line: fn(&mut Vec<u8>, &str, &[u8]),
) -> Result<(), Failure> {
    for field in fields {
        let name = variable(&arguments.prefix, field.name());
        if !crate::plan::is_variable(&name) {
            return Err(Failure::usage(format!("{name} is no name for a variable"))
                .advise("change it with --prefix"));
        }
        if field.value().contains(&0) {
            return Err(Failure::new(format!(
                "{} has a zero byte, which no variable can hold",
                field.name()
            ))
            .advise("print it with -o raw or -o json"));
        }
        line(out, &name, field.value());
    }
    Ok(())
}

/// `user-name` becomes `USER_NAME`.
fn variable(prefix: &str, field: &str) -> String {
    format!("{prefix}{}", field.to_ascii_uppercase().replace('-', "_"))
}

/// Single quotes keep everything but themselves.
fn shell(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(format!("export {name}='").as_bytes());
    for &b in value {
        match b {
            b'\'' => out.extend_from_slice(b"'\\''"),
            b => out.push(b),
        }
    }
    out.extend_from_slice(b"'\n");
}

/// Double quotes with the escapes that the dotenv libraries share.
fn dotenv(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(format!("{name}=\"").as_bytes());
    for &b in value {
        match b {
            b'"' | b'\\' | b'$' | b'`' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b => out.push(b),
        }
    }
    out.extend_from_slice(b"\"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: fn(&mut Vec<u8>, &str, &[u8]), value: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, "A", value.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_shell_reads_back_exactly_what_was_stored() {
        let value = "it's $HOME `x` \"q\" \\ \n!*";
        let script = format!("{}printf %s \"$A\"", line(shell, value));
        let shell = std::process::Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(shell.stdout, value.as_bytes());
    }

    #[test]
    fn dotenv_lines_escape_what_libraries_would_expand() {
        assert_eq!(line(dotenv, "a\"b\\c$d`e\nf#g"), "A=\"a\\\"b\\\\c\\$d\\`e\\nf#g\"\n");
    }

    #[test]
    fn fields_become_variables() {
        assert_eq!(variable("PG", "user-name"), "PGUSER_NAME");
    }
}
