//! Durations as people write them: `90s`, `15m`, `1h30m`, `2d`.

use std::time::Duration;

/// The longest TTL that means anything: what an agent takes at most.
pub const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Why a TTL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// Not of the form.
    #[error("write it as 90s, 15m, 1h30m or 2d")]
    Malformed,
    /// Nothing could be done with it.
    #[error("it must be longer than nothing")]
    Zero,
    /// Beyond [`LONGEST_TTL`].
    #[error("it must not be longer than 3650d")]
    Huge,
}

/// Reads a TTL. Units go from large to small, each at most once.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_ttl(text: &str) -> Result<Duration, TtlError> {
    let mut seconds: u64 = 0;
    let mut number = String::new();
    let mut units = UNITS.iter();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let (_, factor) = units.find(|(unit, _)| *unit == c).ok_or(TtlError::Malformed)?;
        if number.is_empty() {
            return Err(TtlError::Malformed);
        }
        let part: u64 = number.parse().map_err(|_| TtlError::Huge)?;
        let part = part.checked_mul(*factor).ok_or(TtlError::Huge)?;
        seconds = seconds.checked_add(part).ok_or(TtlError::Huge)?;
        number.clear();
    }
    if !number.is_empty() || text.is_empty() {
        return Err(TtlError::Malformed);
    }
    match Duration::from_secs(seconds) {
        Duration::ZERO => Err(TtlError::Zero),
        ttl if ttl > LONGEST_TTL => Err(TtlError::Huge),
        ttl => Ok(ttl),
    }
}

/// Writes a duration in its two largest units: `1h30m`, `2d`, `45s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    let mut shown = 0;
    for (unit, factor) in UNITS {
        let count = seconds / factor;
        seconds %= factor;
        if count > 0 && shown < 2 {
            text.push_str(&format!("{count}{unit}"));
        }
        if count > 0 || shown > 0 {
            shown += 1;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h30m", 5_400), ("2d", 172_800), ("1d1s", 86_401)]
        {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn zero_negative_huge_and_malformed_ttls_are_not_taken() {
        use TtlError::{Huge, Malformed, Zero};
        for (text, error) in [
            ("0s", Zero),
            ("0h0m", Zero),
            ("-5m", Malformed),
            ("", Malformed),
            ("15", Malformed),
            ("m", Malformed),
            ("1m1h", Malformed),
            ("1m1m", Malformed),
            ("1.5h", Malformed),
            ("1 h", Malformed),
            ("3651d", Huge),
            ("99999999999999999999s", Huge),
            ("18446744073709551615d", Huge),
        ] {
            assert_eq!(parse_ttl(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn durations_are_shown_in_their_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (45, "45s"), (90, "1m30s"), (5_400, "1h30m"), (86_401, "1d"), (3_605, "1h")]
        {
            assert_eq!(show_duration(Duration::from_secs(seconds)), text);
        }
    }
}
