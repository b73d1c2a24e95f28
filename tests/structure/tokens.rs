//! Rust source as words and signs, without comments, strings and characters.

/// Identifiers and signs in order; `::` is one token.
pub(crate) fn tokens(source: &str) -> Vec<String> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            at += block_comment(rest);
        } else if let Some(length) = literal(rest) {
            at += length;
        } else if is_word(rest[0]) {
            let length = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
            found.push(String::from_utf8_lossy(&rest[..length]).into_owned());
            at += length;
        } else if rest.starts_with(b"::") {
            found.push("::".into());
            at += 2;
        } else {
            if !rest[0].is_ascii_whitespace() {
                found.push(char::from(rest[0]).to_string());
            }
            at += 1;
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Length of the string or character literal that begins here.
fn literal(rest: &[u8]) -> Option<usize> {
    let raw = rest.strip_prefix(b"b").unwrap_or(rest);
    if let Some(behind) = raw.strip_prefix(b"r") {
        let hashes = behind.iter().take_while(|b| **b == b'#').count();
        if behind.get(hashes) == Some(&b'"') {
            let end: Vec<u8> = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let body = &behind[hashes + 1..];
            let length = body.windows(end.len()).position(|w| w == end).unwrap_or(body.len());
            return Some(rest.len() - body.len() + length + end.len());
        }
    }
    let text = rest.strip_prefix(b"b").or(rest.strip_prefix(b"c")).unwrap_or(rest);
    let quote = *text.first()?;
    if quote != b'"' && (quote != b'\'' || !is_character(text)) {
        return None;
    }
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    Some(rest.len() - text.len() + (at + 1).min(text.len()))
}

/// A quote begins a character, not a lifetime, where another follows at once.
fn is_character(text: &[u8]) -> bool {
    match text.get(1) {
        Some(b'\\') => true,
        Some(_) => text
            .iter()
            .skip(2)
            .take(4)
            .position(|b| *b == b'\'')
            .is_some_and(|quote| quote == 0 || text[1] >= 0x80),
        None => false,
    }
}
