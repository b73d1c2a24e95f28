//! The clocks. Leases count by CLOCK_BOOTTIME, which nobody sets; the wall
//! clock dates the log and what issuers sign.

use crate::doctor::Finding;
use crate::doctor::facts::{Facts, Operator};

const TOPIC: &str = "clock";
/// 2025-01-01: no jsi is older.
const EARLIEST: i64 = 1_735_689_600;
/// 2100-01-01.
const LATEST: i64 = 4_102_444_800;
/// What clocks may differ by without anybody having set them.
const SLACK_S: i64 = 5;
/// An error at which other hosts begin to refuse tokens, in microseconds.
const LARGE_ERROR_US: i64 = 1_000_000;

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![wall(facts)];
    found.extend(source(facts));
    found
}

fn wall(facts: &Facts) -> Finding {
    let host = &facts.host;
    let name = "wall clock";
    let mend = "set it: timedatectl set-ntp true, or: chronyc makestep";
    if !(EARLIEST..LATEST).contains(&host.now) {
        let text = format!("it says {} seconds since 1970, which cannot be", host.now);
        return Finding::fail(TOPIC, name, text).mend(mend);
    }
    if host.since_boot <= 0 || host.since_boot >= host.now {
        let text = format!("{} seconds since boot cannot be", host.since_boot);
        return Finding::fail(TOPIC, name, text)
            .mend("lease times count by CLOCK_BOOTTIME: reboot");
    }
    let started = match &facts.status {
        Operator::Answered(status) => status.started_at.as_ref().map(|at| at.seconds),
        _ => None,
    };
    match started {
        Some(started) if started > host.now + SLACK_S => Finding::warn(
            TOPIC,
            name,
            format!("it has been set back: the agent started {} s from now", started - host.now),
        )
        .mend("records of the log are dated wrongly; leases are not affected. See the time source"),
        _ => Finding::ok(TOPIC, name, "it is plausible, and the clock of leases (boottime) runs"),
    }
}

fn source(facts: &Facts) -> Option<Finding> {
    let name = "time source";
    let clock = &facts.local.as_ref()?.clock;
    let by = match facts.host.time_daemon.as_str() {
        "" => "no daemon that is known here".to_owned(),
        daemon => daemon.to_owned(),
    };
    let hardware = &facts.host.clock_source;
    if !clock.error.is_empty() {
        let text = format!("the kernel does not say how the clock is kept: {}", clock.error);
        return Some(Finding::note(TOPIC, name, text));
    }
    if !clock.synchronised {
        let text = format!("the clock is not synchronised ({by}; counter: {hardware})");
        return Some(
            Finding::warn(TOPIC, name, text)
                .mend("timedatectl set-ntp true, or install chrony; a container takes its host's"),
        );
    }
    let error = format!("at most {} ms off", clock.max_error_us / 1000);
    let text = format!("the clock is synchronised by {by}, {error} (counter: {hardware})");
    Some(if clock.max_error_us > LARGE_ERROR_US {
        Finding::warn(TOPIC, name, text)
            .mend("see that the time source is reached: chronyc tracking")
    } else {
        Finding::ok(TOPIC, name, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn a_clock_of_1970_and_one_that_was_set_back_are_told() {
        let mut facts = Facts::recorded();
        assert_eq!(wall(&facts).severity, Severity::Ok);
        let now = facts.host.now;
        facts.host.now = 1000;
        assert_eq!(wall(&facts).severity, Severity::Fail);
        facts.host.now = now;
        let Operator::Answered(status) = &mut facts.status else { unreachable!() };
        status.started_at = Some(prost_types::Timestamp { seconds: now + 3600, nanos: 0 });
        assert_eq!(wall(&facts).severity, Severity::Warn);
        facts.host.since_boot = 0;
        assert_eq!(wall(&facts).severity, Severity::Fail);
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_told() {
        let mut facts = Facts::recorded();
        assert_eq!(source(&facts).unwrap().severity, Severity::Ok);
        facts.local.as_mut().unwrap().clock.max_error_us = 16_000_000;
        assert_eq!(source(&facts).unwrap().severity, Severity::Warn);
        facts.local.as_mut().unwrap().clock.synchronised = false;
        assert_eq!(source(&facts).unwrap().severity, Severity::Warn);
        facts.local.as_mut().unwrap().clock.error = "EPERM".to_owned();
        assert_eq!(source(&facts).unwrap().severity, Severity::Note);
        facts.local = None;
        assert!(source(&facts).is_none());
    }
}
