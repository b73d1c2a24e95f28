//! The forms in which a value is printed: as it is, in base64 and base64url at
//! every alignment, percent-encoded, as JSON writes it, in hex, line by line.

use super::SHORTEST;
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

type Form = Zeroizing<Vec<u8>>;

/// Shorter lines of a value are not looked for: `{` stands everywhere.
const SHORTEST_LINE: usize = 8;
/// Columns at which base64(1) and `openssl base64` break their lines.
const COLUMNS: [usize; 2] = [76, 64];

/// Every form of a value, each once.
pub(super) fn of(value: &[u8]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    whole(value, &mut forms);
    let lines = || value.split(|b| matches!(b, b'\n' | b'\r'));
    if lines().count() > 1 {
        for line in lines() {
            let framing = line.starts_with(b"-----"); // the lines round a key in PEM
            if line.len() >= SHORTEST_LINE && !framing {
                whole(line, &mut forms);
            }
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b));
    forms.dedup_by(|a, b| **a == **b);
    forms
}

fn whole(value: &[u8], forms: &mut Vec<Form>) {
    forms.push(Zeroizing::new(value.to_vec()));
    base64(value, forms);
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        // RFC 3986's unreserved characters; what encodeURIComponent keeps besides;
        // the form encoding with its plus for a space.
        forms.push(percent(value, digits, b"-._~", false));
        forms.push(percent(value, digits, b"-._~!'()*", false));
        forms.push(percent(value, digits, b"-._~", true));
        forms.push(percent(value, digits, b"-._~/", false));
        forms.push(json(value, digits, false));
        forms.push(json(value, digits, true));
    }
    forms.push(text(HEXLOWER.encode(value)));
    forms.push(text(HEXUPPER.encode(value)));
}

fn text(encoded: String) -> Form {
    Zeroizing::new(encoded.into_bytes())
}

/// What base64 of any text with the value in it has in common: the characters
/// that its bits alone decide, for each place that it can begin at.
fn base64(value: &[u8], forms: &mut Vec<Form>) {
    for encoding in [BASE64, BASE64URL] {
        for before in 0..3 {
            let mut padded = Zeroizing::new(vec![0; before]);
            padded.reserve_exact(value.len());
            padded.extend_from_slice(value);
            let encoded = text(encoding.encode(&padded));
            let first = (before * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            let Some(own) = encoded.get(first..end) else { continue };
            forms.push(Zeroizing::new(own.to_vec()));
            if before == 0 {
                for columns in COLUMNS.into_iter().filter(|columns| own.len() > *columns) {
                    let lines = own.chunks(columns).filter(|line| line.len() >= SHORTEST_LINE);
                    forms.extend(lines.map(|line| Zeroizing::new(line.to_vec())));
                }
            }
        }
    }
}

fn percent(value: &[u8], digits: &[u8; 16], kept: &[u8], plus: bool) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(3 * value.len()));
    for &b in value {
        match b {
            b' ' if plus => out.push(b'+'),
            b if b.is_ascii_alphanumeric() || kept.contains(&b) => out.push(b),
            b => out.extend_from_slice(&[b'%', high(b, digits), low(b, digits)]),
        }
    }
    out
}

/// RFC 8259, with or without the escape of `/`; bytes beyond ASCII as they are.
fn json(value: &[u8], digits: &[u8; 16], slash: bool) -> Form {
    let mut out = Zeroizing::new(Vec::with_capacity(6 * value.len()));
    for &b in value {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'/' if slash => out.extend_from_slice(b"\\/"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[high(b, digits), low(b, digits)]);
            }
            b => out.push(b),
        }
    }
    out
}

fn high(b: u8, digits: &[u8; 16]) -> u8 {
    digits[usize::from(b >> 4)]
}

fn low(b: u8, digits: &[u8; 16]) -> u8 {
    digits[usize::from(b & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(forms: &[Form], wanted: &str) -> bool {
        forms.iter().any(|form| **form == wanted.as_bytes())
    }

    #[test]
    fn base64_is_found_wherever_the_value_begins() {
        let value = b"correct horse battery staple";
        let forms = of(value);
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "!", "!!", "\n"] {
                let whole = [before.as_bytes(), value, after.as_bytes()].concat();
                for text in [BASE64.encode(&whole), BASE64URL.encode(&whole)] {
                    let found = forms.iter().any(|form| {
                        text.as_bytes().windows(form.len()).any(|window| window == &***form)
                            && form.len() > value.len()
                    });
                    assert!(found, "{before:?} {after:?}");
                }
            }
        }
    }

    #[test]
    fn urls_and_json_are_known_in_both_spellings() {
        let forms = of(b"p@ss/w rd\"\n\x01");
        for wanted in [
            "p%40ss%2Fw%20rd%22%0A%01",
            "p%40ss%2fw%20rd%22%0a%01",
            "p%40ss%2Fw+rd%22%0A%01",
            "p%40ss/w%20rd%22%0A%01",
            "p@ss/w rd\\\"\\n\\u0001",
            "p@ss\\/w rd\\\"\\n\\u0001",
            "704073732f77207264220a01",
        ] {
            assert!(has(&forms, wanted), "{wanted}");
        }
    }

    #[test]
    fn each_long_line_is_a_form_and_the_frame_of_a_key_is_none() {
        let forms = of(b"-----BEGIN KEY-----\r\nMIIBVQIBADANBg\r\n}\r\n-----END KEY-----\r\n");
        assert!(has(&forms, "MIIBVQIBADANBg"));
        assert!(!has(&forms, "-----BEGIN KEY-----") && !has(&forms, "}"));
    }
}
