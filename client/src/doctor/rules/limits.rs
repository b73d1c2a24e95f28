//! How much more fits.

use crate::doctor::facts::{Facts, Operator};
use crate::doctor::{Finding, bytes, count};
use jsi_client::v1::{Resources, StatusResponse};

const TOPIC: &str = "limits";
/// A region of guarded memory is four pages; the largest secret and what is
/// encoded round it, opened once, is a little more than 1 MiB.
const MEMLOCK_WANTED: u64 = 2 << 20;
const MEMLOCK_NEEDED: u64 = 64 << 10;
/// Processes that hold leases, and connections, at the same time.
const PROCESSES_WANTED: u64 = 256;
/// What a lease more takes in memory, with room for longer secrets than most.
const LEASE_BYTES: u64 = 2048;

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    match &facts.status {
        Operator::Answered(status) => {
            let mut found = of_agent(status);
            found.extend(leases(status, facts.host.memory_available));
            found
        }
        _ if facts.agent.is_none() => vec![
            memlock(facts.client.rlimit_memlock, 0, "an agent started here may lock"),
            descriptors(facts.client.rlimit_nofile, 64),
        ],
        _ => Vec::new(),
    }
}

fn of_agent(status: &StatusResponse) -> Vec<Finding> {
    let Some(Resources {
        memlock: most,
        descriptors: open,
        guarded_mapped,
        guarded_used,
        descriptors_kept,
    }) = status.resources
    else {
        return vec![Finding::note(
            TOPIC,
            "resources",
            "the agent is older and does not tell its own",
        )];
    };
    let mut locked = memlock(most, guarded_mapped, "the agent may lock");
    locked.text = format!(
        "{}; {} of {} by {}",
        locked.text,
        bytes(guarded_used),
        bytes(guarded_mapped),
        status.guarded_memory
    );
    vec![locked, descriptors(open, descriptors_kept)]
}

fn memlock(most: u64, used: u64, whose: &str) -> Finding {
    let name = "locked memory";
    let free = most.saturating_sub(used);
    let text = format!("{whose} {}, {} of it free", bytes(most), bytes(free));
    let mend = "LimitMEMLOCK=8M in its unit, or: ulimit -l 8192 before it starts";
    if most == u64::MAX {
        Finding::ok(TOPIC, name, format!("{whose} memory without limit"))
    } else if free < MEMLOCK_NEEDED {
        Finding::fail(TOPIC, name, text).mend(mend)
    } else if free < MEMLOCK_WANTED {
        Finding::warn(TOPIC, name, text).mend(mend)
    } else {
        Finding::ok(TOPIC, name, text)
    }
}

/// One descriptor for each process that leases are bound to, and for each
/// connection.
fn descriptors(open: u64, kept: u64) -> Finding {
    let name = "descriptors";
    let free = open.saturating_sub(kept);
    let text = format!(
        "RLIMIT_NOFILE {}: {} connections and processes that hold leases, together",
        count(open),
        count(free)
    );
    if free < PROCESSES_WANTED {
        Finding::warn(TOPIC, name, text)
            .mend("LimitNOFILE=65536 in its unit, or: ulimit -n 65536 before it starts")
    } else {
        Finding::ok(TOPIC, name, text)
    }
}

fn leases(status: &StatusResponse, memory: Option<u64>) -> Vec<Finding> {
    status
        .limits
        .iter()
        .map(|limit| {
            let left = limit.limit.saturating_sub(limit.used);
            let mut text = format!("{} of {} in use", limit.used, limit.limit);
            let mut fits = left;
            if limit.name == "leases" {
                if let Some(memory) = memory {
                    fits = left.min(memory / LEASE_BYTES);
                }
                text = format!("{text}; {fits} more fit");
            }
            let name = limit.name.clone();
            let mend =
                format!("raise {} in [limits] of the configuration, then: jsi reload", limit.name);
            if left == 0 {
                Finding::fail(TOPIC, name, text).mend(mend)
            } else if left < limit.limit / 10 {
                Finding::warn(TOPIC, name, text).mend(mend)
            } else if fits < left {
                Finding::note(TOPIC, name, format!("{text} into the memory that is free"))
            } else {
                Finding::ok(TOPIC, name, text)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;
    use jsi_client::v1::LimitUse;

    #[test]
    fn locked_memory_is_judged_by_what_is_free() {
        for (most, used, severity) in [
            (u64::MAX, 0, Severity::Ok),
            (8 << 20, 16 << 10, Severity::Ok),
            (1 << 20, 16 << 10, Severity::Warn),
            (64 << 10, 16 << 10, Severity::Fail),
        ] {
            assert_eq!(memlock(most, used, "it may lock").severity, severity, "{most}");
        }
    }

    #[test]
    fn few_descriptors_are_told() {
        assert_eq!(descriptors(65_536, 64).severity, Severity::Ok);
        assert_eq!(descriptors(128, 64).severity, Severity::Warn);
        assert_eq!(descriptors(u64::MAX, 64).severity, Severity::Ok);
    }

    #[test]
    fn how_many_leases_fit_counts_memory_too() {
        let mut status = StatusResponse {
            limits: vec![LimitUse { name: "leases".to_owned(), used: 10, limit: 1000 }],
            ..StatusResponse::default()
        };
        let judge = |status: &StatusResponse, memory| leases(status, Some(memory)).remove(0);
        assert!(judge(&status, 1 << 30).text.contains("990 more fit"));
        let little = judge(&status, 100 * LEASE_BYTES);
        assert!(little.text.contains("100 more fit") && little.severity == Severity::Note);
        status.limits[0].used = 950;
        assert_eq!(judge(&status, 1 << 30).severity, Severity::Warn);
        status.limits[0].used = 1000;
        assert_eq!(judge(&status, 1 << 30).severity, Severity::Fail);
    }

    #[test]
    fn an_agent_that_does_not_tell_its_resources_is_no_fault() {
        let mut facts = Facts::recorded();
        let Operator::Answered(status) = &mut facts.status else { unreachable!() };
        status.resources = None;
        assert_eq!(judge(&facts)[0].severity, Severity::Note);
    }

    #[test]
    fn without_an_agent_the_limits_that_one_would_get_are_judged() {
        let mut facts = Facts::recorded();
        facts.agent = None;
        facts.status = Operator::NotAsked;
        facts.client.rlimit_memlock = 0;
        assert_eq!(judge(&facts)[0].severity, Severity::Fail);
    }
}
