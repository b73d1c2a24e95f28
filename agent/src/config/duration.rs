//! Durations as people write them: `15m`, `1h30m`, `2d`, `250ms`.

use std::time::Duration;

/// Units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {why} (write 15m, 8h, 1h30m, 2d, 30s, 250ms)")]
pub struct DurationError {
    /// The text, shortened to what is fit to print.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads `1h30m`: whole numbers, each with a unit (`d h m s ms`), each unit once,
/// longest first. A bare number is refused: nobody knows its unit.
///
/// # Errors
/// Says which rule is broken.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let fail = |why| DurationError { text: text.chars().take(40).collect(), why };
    if text.is_empty() {
        return Err(fail("it is empty"));
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(fail("a whole number must stand before each unit"));
        }
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(fail("a number has no unit"));
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(fail("the units are d, h, m, s and ms"));
        }
        let Some((_, scale)) = units.find(|(name, _)| *name == unit) else {
            return Err(fail("each unit stands once, the longest first"));
        };
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*scale));
        millis = part
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| fail("it is too long to count"))?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// The shortest text that [`parse_duration`] reads as that many milliseconds;
/// `0s` for nothing.
#[must_use]
pub fn format_duration(span: Duration) -> String {
    let mut left = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, scale) in UNITS {
        if left >= scale {
            text.push_str(&format!("{}{name}", left / scale));
            left %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("15m", 900_000),
            ("8h", 28_800_000),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("250ms", 250),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_malformed_duration_is_not_taken() {
        for text in [
            "",
            "15",
            "m",
            "-1m",
            "1.5h",
            "15 m",
            "1m1h",
            "1h1h",
            "1w",
            "15M",
            "99999999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?} was taken");
        }
    }
}
