//! Lifetimes as ssh-agent takes them (sshd_config(5), TIME FORMATS).

use std::time::Duration;

/// `90`, `15m`, `1h30m`, `2d`, `1w`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no lifetime; write 90, 15m, 1h30m, 2d or 1w");
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                let digit = u64::from(c.to_digit(10).unwrap_or(0));
                let grown = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                number = Some(grown.ok_or_else(wrong)?);
                continue;
            }
            's' | 'S' => 1,
            'm' | 'M' => 60,
            'h' | 'H' => 3600,
            'd' | 'D' => 24 * 3600,
            'w' | 'W' => 7 * 24 * 3600,
            _ => return Err(wrong()),
        };
        let span = number.take().and_then(|n| n.checked_mul(unit));
        total = span.and_then(|span| total.checked_add(span)).ok_or_else(wrong)?;
    }
    total = total.checked_add(number.unwrap_or(0)).ok_or_else(wrong)?;
    if total == 0 { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_add_up() {
        for (text, secs) in [("90", 90), ("15m", 900), ("1h30m", 5400), ("1W2d3", 777_603)] {
            assert_eq!(parse(text).unwrap().as_secs(), secs, "{text}");
        }
    }

    #[test]
    fn what_is_no_lifetime_is_refused() {
        for text in
            ["", "0", "0s", "m", "-1", "1x", "99999999999999999999", "9999999999999999999w", "1.5h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
