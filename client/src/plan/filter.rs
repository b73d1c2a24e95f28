//! What a field goes through on its way into a text.

use zeroize::Zeroizing;

/// Their names, for messages.
pub(crate) const NAMES: &str = "urlencode, base64 and json";

/// A change of a value's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Percent-encoded but for the unreserved characters of RFC 3986, 2.3: fits
    /// every place of a URL.
    UrlEncode,
    /// RFC 4648, 4, with padding.
    Base64,
    /// A JSON string with its quotes (RFC 8259, 7).
    Json,
}

impl Filter {
    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "urlencode" => Self::UrlEncode,
            "base64" => Self::Base64,
            "json" => Self::Json,
            _ => return None,
        })
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UrlEncode => "urlencode",
            Self::Base64 => "base64",
            Self::Json => "json",
        }
    }

    /// The value in the other form; the error says why it has none.
    pub(crate) fn apply(self, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        match self {
            Self::UrlEncode => Ok(url_encoded(value)),
            Self::Base64 => Ok(Zeroizing::new(data_encoding::BASE64.encode(value).into_bytes())),
            Self::Json => json(value),
        }
    }
}

fn url_encoded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    // Exact, so that no growth leaves copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(3 * value.len()));
    for &b in value {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
        }
    }
    out
}

fn json(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if std::str::from_utf8(value).is_err() {
        return Err("is not UTF-8, so it cannot be a JSON string");
    }
    let mut out = Zeroizing::new(Vec::with_capacity(6 * value.len() + 2));
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
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_form_that_was_asked_for() {
        let apply = |name: &str, value: &[u8]| {
            let value = Filter::named(name).unwrap().apply(value).unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        assert_eq!(apply("urlencode", "p@ss/w:rd?#ä~".as_bytes()), "p%40ss%2Fw%3Ard%3F%23%C3%A4~");
        assert_eq!(apply("urlencode", &[0xff, 0]), "%FF%00");
        assert_eq!(apply("base64", b"\xff\x00a"), "/wBh");
        let text = "a\"\\\n\u{1}ä\u{7f}";
        let json: String = serde_json::from_str(&apply("json", text.as_bytes())).unwrap();
        assert_eq!(json, text);
        assert!(Filter::Json.apply(&[0xff]).is_err());
    }

    #[test]
    fn every_filter_is_found_by_its_own_name() {
        for filter in [Filter::UrlEncode, Filter::Base64, Filter::Json] {
            assert_eq!(Filter::named(filter.name()), Some(filter));
            assert!(NAMES.contains(filter.name()));
        }
        assert_eq!(Filter::named("URLENCODE"), None);
    }
}
