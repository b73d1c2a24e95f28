//! Hours of the day and days of the week, as they are written on a command line.

/// The days that were named, 1 Monday to 7 Sunday.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weekdays(pub(super) Vec<u8>);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `09:00-17:00` as minutes of the day; `22:00-06:00` goes past midnight.
pub(super) fn between(text: &str) -> Result<(u16, u16), &'static str> {
    let wrong = "write it as 09:00-17:00";
    let (from, until) = text.split_once('-').ok_or(wrong)?;
    let from = minute(from).filter(|from| *from < 24 * 60).ok_or(wrong)?;
    let until = minute(until).ok_or(wrong)?;
    if from == until {
        return Err("it begins when it ends");
    }
    Ok((from, until))
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= 24 * 60).then_some(all)
}

/// `mon-fri`, `mon,wed`, `fri-mon`.
pub(super) fn weekdays(text: &str) -> Result<Weekdays, &'static str> {
    let wrong = "write it as mon-fri, or sat,sun";
    let day = |name: &str| {
        let at = DAYS.iter().position(|day| name.eq_ignore_ascii_case(day)).ok_or(wrong)?;
        u8::try_from(at + 1).map_err(|_| wrong)
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (from, until) = part.split_once('-').unwrap_or((part, part));
        let (mut at, until) = (day(from)?, day(until)?);
        days.push(at);
        while at != until {
            at = at % 7 + 1;
            days.push(at);
        }
    }
    days.sort_unstable();
    days.dedup();
    Ok(Weekdays(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_two_times_of_the_day() {
        assert_eq!(between("09:00-17:30"), Ok((540, 1_050)));
        assert_eq!(between("22:00-06:00"), Ok((1_320, 360)));
        assert_eq!(between("00:00-24:00"), Ok((0, 1_440)));
        for bad in [
            "",
            "9-17",
            "09:00",
            "09:00-09:00",
            "25:00-26:00",
            "09:60-10:00",
            "24:00-01:00",
            "+9:00-10:00",
            "09:00-17:00-18:00",
        ] {
            assert!(between(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_are_named_one_by_one_or_from_one_to_another() {
        assert_eq!(weekdays("mon-fri"), Ok(Weekdays(vec![1, 2, 3, 4, 5])));
        assert_eq!(weekdays("Sat,sun"), Ok(Weekdays(vec![6, 7])));
        assert_eq!(weekdays("fri-mon"), Ok(Weekdays(vec![1, 5, 6, 7])));
        for bad in ["", "monday", "mon-", "1-5", "mon fri"] {
            assert!(weekdays(bad).is_err(), "{bad}");
        }
    }
}
