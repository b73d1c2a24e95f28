//! How deep a policy may be: whatever reads it (Cedar's validator, its printer,
//! our explanations) goes down by recursion, and a stack that overflows ends the
//! agent with every lease. Looked for in the text, before anything else reads it.

/// Operators and brackets of one policy that may lie within each other. A chain
/// of `&&` is as deep as it is long.
const MAX_DEPTH: usize = 256;

/// Where the first policy that is too deep begins to be, as an offset in the
/// text, and what to do about it.
pub(super) fn too_deep(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let (mut at, mut deep) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match (byte, next) {
            (b'"', _) => at = end_of_string(bytes, at),
            (b'/', Some(b'/')) => at = end_of_line(bytes, at),
            (b';', _) => deep = 0,
            (b'&', Some(b'&')) | (b'|', Some(b'|')) => {
                deep += 1;
                at += 1;
            }
            (b'+' | b'-' | b'*' | b'!' | b'(' | b'[' | b'{' | b'.', _) => deep += 1,
            (b'i', Some(b'f')) => deep += 1,
            (b')' | b']' | b'}', _) => deep = deep.saturating_sub(1),
            _ => {}
        }
        if deep > MAX_DEPTH {
            return Some((
                at,
                format!(
                    "a policy with more than {MAX_DEPTH} operators is not read; name many values as a set ([…].contains(…), principal in […]), or part it"
                ),
            ));
        }
        at += 1;
    }
    None
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at,
            _ => at += 1,
        }
    }
    at
}

fn end_of_line(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_as_deep_as_it_is_long_and_strings_and_comments_are_not_read() {
        let chain = |many: usize| vec!["true"; many].join(" && ");
        assert!(too_deep(&chain(200)).is_none());
        assert!(too_deep(&chain(300)).is_some());
        assert!(too_deep(&format!("{};{}", chain(200), chain(200))).is_none());
        assert!(too_deep(&format!("\"{}\"", "(".repeat(1_000))).is_none());
        assert!(too_deep(&format!("// {}\n", "(".repeat(1_000))).is_none());
        assert!(too_deep(&"(".repeat(1_000)).is_some());
        assert!(too_deep(&"!".repeat(1_000)).is_some());
        assert!(too_deep("\"\\").is_none() && too_deep("\"").is_none());
        let set = format!("[{}]", vec!["\"a\""; 10_000].join(", "));
        assert!(too_deep(&set).is_none());
    }
}
