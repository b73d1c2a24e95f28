use super::*;
use proptest::prelude::*;

fn segments(dir: &Path) -> usize {
    segment::Segment::list(dir).unwrap().len()
}

#[test]
fn rotation_keeps_leases_sealed_lines_and_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), Clock::system(), Some(sealer()), 8_000).unwrap();
    block(log.append(started())).unwrap();
    block(log.append_with_sealed(granted(0), SecretBuf::from_slice(b"kept"))).unwrap();
    for n in 1..60 {
        block(log.append(granted(n))).unwrap();
        let reason = EndReason::Expired;
        let ended = Event::Ended { lease: lease(n).id, reason, outcome: String::new() };
        block(log.append(ended)).unwrap();
    }
    let head = log.head();
    drop(log);
    assert!(segments(dir.path()) > 3);
    assert_eq!(verify(dir.path(), Some(&head)), Ok(head.clone()));
    let (log, folded) = open_log(dir.path());
    assert_eq!(log.head(), head);
    assert_eq!(folded.leases.keys().collect::<Vec<_>>(), [&lease(0).id]);
    assert_eq!(folded.boot_id.as_deref(), Some("boot-1"));
    let line = &folded.sealed[&lease(0).id];
    assert_eq!(sealer().open(&lease(0).id, line).unwrap().expose(), b"kept");
}

#[test]
fn a_start_believes_no_checkpoint_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), Clock::system(), None, 4_000).unwrap();
    for n in 0..20 {
        let reason = EndReason::Expired;
        block(log.append(granted(n))).unwrap();
        let ended = Event::Ended { lease: lease(n).id, reason, outcome: String::new() };
        block(log.append(ended)).unwrap();
    }
    let head = log.head();
    drop(log);
    let checkpoints = || {
        std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "frontier"))
    };
    assert!(checkpoints().count() > 1);
    for path in checkpoints() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (start, rest) = text.split_once('[').unwrap();
        std::fs::write(&path, format!("{start}[\"{}{}", "0".repeat(64), &rest[65..])).unwrap();
    }
    assert_eq!(open_log(dir.path()).0.head(), head);
    for path in checkpoints() {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(open_log(dir.path()).0.head(), head);
    // Made again, and used: the first segment may now be archived elsewhere.
    std::fs::remove_file(first_segment(dir.path())).unwrap();
    assert_eq!(open_log(dir.path()).0.head(), head);
    assert!(verify(dir.path(), None).is_err());
}

#[test]
fn a_snapshot_larger_than_a_segment_does_not_rotate_each_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), Clock::system(), None, 1_000).unwrap();
    for n in 0..200 {
        block(log.append(granted(n))).unwrap();
    }
    drop(log);
    assert!(segments(dir.path()) < 12, "{} segments", segments(dir.path()));
}

fn event(kind: u8, n: u32) -> Event {
    let id = lease(n).id;
    let reason = EndReason::Revoked;
    match kind {
        0 => granted(n),
        1 => Event::Intent { lease: LeaseRecord { state: LeaseState::Pending, ..lease(n) } },
        2 => Event::Delivered {
            request: RequestId::from_text("r"),
            lease: id,
            delivery: "file".to_owned(),
            uses_left: Some(n),
        },
        3 => Event::Renewed {
            lease: id,
            expires: BootTime(500 + u64::from(n)),
            expires_at: String::new(),
        },
        4 => Event::Ending { lease: id, reason },
        5 => Event::Ended { lease: id, reason, outcome: String::new() },
        6 => Event::Stuck { lease: id, reason, error: "no".to_owned() },
        7 => Event::Failed { lease: id, error: "no".to_owned() },
        _ => started(),
    }
}

fn fold(start: Folded, events: &[Event]) -> Folded {
    events.iter().fold(start, |mut folded, event| {
        let record = Record {
            v: VERSION,
            seq: folded.records,
            root: String::new(),
            at: String::new(),
            boot: BootTime(0),
            event: event.clone(),
        };
        // As a reader gets it.
        let text = serde_json::to_string(&record).unwrap();
        folded.apply(&serde_json::from_str(&text).unwrap(), &[]);
        folded
    })
}

proptest! {
    #[test]
    fn a_snapshot_stands_for_all_that_came_before_it(
        kinds in proptest::collection::vec((0u8..9, 0u32..5), 0..40),
        cut in 0usize..40,
    ) {
        let events: Vec<Event> = kinds.into_iter().map(|(kind, n)| event(kind, n)).collect();
        let cut = cut.min(events.len());
        let all = fold(Folded::default(), &events);
        let (snapshot, _) = fold(Folded::default(), &events[..cut]).into_snapshot();
        let rest: Vec<Event> = std::iter::once(snapshot).chain(events[cut..].to_vec()).collect();
        let resumed = fold(Folded::default(), &rest);
        prop_assert_eq!(all.leases, resumed.leases);
        prop_assert_eq!(all.boot_id, resumed.boot_id);
    }
}
