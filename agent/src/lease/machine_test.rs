use super::*;
use proptest::prelude::*;

const REASONS: [EndReason; 10] = [
    EndReason::Released,
    EndReason::Expired,
    EndReason::ProcessExited,
    EndReason::ConnectionClosed,
    EndReason::Revoked,
    EndReason::AgentStopping,
    EndReason::UsesSpent,
    EndReason::HealthLost,
    EndReason::ApprovalWithdrawn,
    EndReason::Rebooted,
];

const ACTIVE: State = State::Active { expires: BootTime(100), at_most: BootTime(200) };

/// The rows of the table at the top of the machine's file.
fn rows() -> Vec<[String; 4]> {
    include_str!("machine.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .skip(1)
        .map(|row| {
            let cells: Vec<String> =
                row.trim_end_matches(" |").split('|').map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap()
        })
        .collect()
}

fn states(name: &str) -> Vec<State> {
    let ending = |failures| State::Ending { reason: EndReason::Released, failures };
    match name {
        "pending" => vec![State::Pending],
        "active" => vec![ACTIVE],
        "ending" => vec![ending(0), ending(REVOKE_TRIES - 1)],
        "stuck" => vec![State::Stuck { reason: EndReason::Released }],
        "ended" => vec![State::Ended { reason: EndReason::Released }],
        "failed" => vec![State::Failed],
        other => panic!("no state {other:?}"),
    }
}

/// The event of a cell, with the time at which it comes; all of them for "an end event".
fn events(cell: &str, state: State) -> Vec<(Event, BootTime)> {
    let late = BootTime(150);
    let tries = |left: bool| match state {
        State::Ending { failures, .. } => (failures + 1 < REVOKE_TRIES) == left,
        _ => true,
    };
    let transient = (Event::RevokeFailed(Failure::Transient), late);
    match cell {
        "granted" => vec![(Event::Granted { expires: BootTime(9), at_most: BootTime(9) }, late)],
        "mint failed" => vec![(Event::MintFailed, late)],
        "renewed" => vec![(Event::Renewed { expires: BootTime(180) }, BootTime(50))],
        "expiry, too early" => vec![(Event::ExpiryReached, BootTime(99))],
        "an end event" => REASONS.iter().map(|reason| (Event::ending(*reason), late)).collect(),
        "revoked" => vec![(Event::Revoked, late)],
        "revoke failed, transient, tries left" if tries(true) => vec![transient],
        "revoke failed, transient, none left" if tries(false) => vec![transient],
        "revoke failed, transient, tries left" | "revoke failed, transient, none left" => vec![],
        "revoke failed, final" => vec![(Event::RevokeFailed(Failure::Final), late)],
        "revoke failed" => {
            vec![transient, (Event::RevokeFailed(Failure::Final), late)]
        }
        "retry due" => vec![(Event::RetryDue, late)],
        other => panic!("no event {other:?}"),
    }
}

fn words(effects: Effects) -> String {
    let words: Vec<&str> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Record(_) => "record",
            Effect::StartRevocation => "start revocation",
            Effect::ScheduleRetry(_) => "schedule retry",
            Effect::WipeSecret => "wipe",
            Effect::NotifyHolder => "notify",
            Effect::ScheduleExpiry(_) => "schedule expiry",
        })
        .collect();
    words.join(", ")
}

#[test]
fn the_table_in_the_documentation_is_what_the_function_does() {
    let rows = rows();
    assert!(rows.len() >= 14, "{} rows", rows.len());
    for [from, event, to, effects] in &rows[1..] {
        if from == "any" {
            continue;
        }
        let effects = effects.trim_end_matches("(nothing once expired)").trim();
        for state in states(from) {
            for (event, now) in events(event, state) {
                let (next, done) = transition(state, event, now);
                assert!(states(to).iter().any(|s| s.name() == next.name()), "{state:?} {event:?}");
                assert_eq!(words(done), effects, "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn what_the_table_does_not_name_changes_nothing() {
    let rows = rows();
    for name in ["pending", "active", "ending", "stuck", "ended", "failed"] {
        for state in states(name) {
            let named: Vec<_> = rows
                .iter()
                .filter(|row| row[0] == name)
                .flat_map(|row| events(&row[1], state))
                .map(|(event, _)| std::mem::discriminant(&event))
                .collect();
            for event in every_event() {
                if !named.contains(&std::mem::discriminant(&event)) {
                    let (next, effects) = transition(state, event, BootTime(150));
                    assert_eq!((next, words(effects)), (state, String::new()), "{event:?}");
                }
            }
        }
    }
}

#[test]
fn an_expired_lease_is_not_renewed() {
    let (next, effects) =
        transition(ACTIVE, Event::Renewed { expires: BootTime(200) }, BootTime(100));
    assert_eq!((next, words(effects)), (ACTIVE, String::new()));
}

#[test]
fn revocation_is_tried_six_times_with_doubling_pauses_and_then_daily() {
    let mut state = State::Ending { reason: EndReason::Released, failures: 0 };
    let mut pauses = Vec::new();
    while let State::Ending { .. } = state {
        let failed = Event::RevokeFailed(Failure::Transient);
        let (next, effects) = transition(state, failed, BootTime(0));
        pauses.extend(effects.iter().filter_map(|effect| match effect {
            Effect::ScheduleRetry(at) => Some(at.0 / 1_000),
            _ => None,
        }));
        state = next;
    }
    assert_eq!(pauses, [10, 20, 40, 80, 160, 86_400]);
}

fn every_event() -> Vec<Event> {
    let mut all: Vec<Event> = REASONS.iter().map(|reason| Event::ending(*reason)).collect();
    all.extend([
        Event::Granted { expires: BootTime(10), at_most: BootTime(20) },
        Event::MintFailed,
        Event::Renewed { expires: BootTime(15) },
        Event::Revoked,
        Event::RevokeFailed(Failure::Transient),
        Event::RevokeFailed(Failure::Final),
        Event::RetryDue,
    ]);
    all
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..1_000_u64, 0..1_000_u64).prop_map(|(a, b)| Event::Granted {
            expires: BootTime(a),
            at_most: BootTime(b)
        }),
        3 => (0..1_000_u64).prop_map(|at| Event::Renewed { expires: BootTime(at) }),
        6 => proptest::sample::select(every_event()),
    ]
}

proptest! {
    #[test]
    fn every_path_keeps_the_promises(steps in prop::collection::vec((event(), 0..50_u64), 1..40)) {
        let mut state = State::Pending;
        let mut now = BootTime(0);
        let mut wiped = 0;
        let mut was_active = false;
        for (event, pause) in steps {
            now = BootTime(now.0 + pause);
            let (next, effects) = transition(state, event, now);
            wiped += effects.iter().filter(|effect| *effect == Effect::WipeSecret).count();
            match (state, next) {
                (State::Ended { .. } | State::Failed, _) => {
                    prop_assert_eq!(state, next);
                    prop_assert_eq!(effects.iter().count(), 0);
                }
                (State::Active { expires, at_most }, State::Active { expires: later, at_most: same }) => {
                    prop_assert_eq!(at_most, same);
                    prop_assert!(later <= at_most);
                    let renewed = matches!(event, Event::Renewed { .. });
                    prop_assert!(renewed || later == expires);
                }
                (State::Active { .. }, other) => {
                    let ending = matches!(other, State::Ending { .. });
                    prop_assert!(ending);
                    prop_assert_eq!(wiped, 1);
                }
                _ => {}
            }
            if let State::Active { expires, at_most } = next {
                prop_assert!(expires <= at_most);
                was_active = true;
            }
            state = next;
        }
        let over = !matches!(state, State::Active { .. });
        prop_assert_eq!(wiped, usize::from(was_active && over));
    }
}
