use super::*;
use crate::clock::Clock;
use crate::log::{Event, Log};
use crate::names::RequestId;
use std::collections::BTreeMap;
use std::path::Path;

fn audit(dir: &Path, words: &[&str]) -> Result<String, AuditError> {
    let before = ["audit", "--log", dir.to_str().unwrap()];
    let words = before.iter().chain(words).copied();
    let mut out = Vec::new();
    run(&AuditArgs::parse_from(words), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn denied(request: &str) -> Event {
    Event::Denied {
        request: RequestId::from_text(request),
        action: "request".to_owned(),
        credential: "db/orders".to_owned(),
        scope: BTreeMap::new(),
        code: "POLICY".to_owned(),
        reason: "no permit\u{1b}[2J".to_owned(),
        who: None,
    }
}

/// A log of a few segments, with denials a0, a1, … and its directory.
fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), Clock::system(), None, 2_000).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..30 {
        runtime.block_on(log.append(denied(&format!("a{n}")))).unwrap();
    }
    dir
}

#[test]
fn tail_prints_the_last_records_over_segments_without_control_characters() {
    let dir = log();
    let text = audit(dir.path(), &["tail", "-n", "12"]).unwrap();
    assert_eq!(text.lines().count(), 12);
    assert!(text.contains("request a29"), "{text}");
    assert!(text.contains("snapshot") && text.contains("denied"), "{text}");
    assert!(!text.contains('\u{1b}'));
    // The very last may be the snapshot of a segment that was just begun.
    let json = audit(dir.path(), &["-o", "json", "tail", "-n", "2"]).unwrap();
    let records = json.lines().map(|line| serde_json::from_str::<Record>(line).unwrap());
    assert!(records.map(|record| record.event).any(|event| event == denied("a29")));
    let all = audit(dir.path(), &["tail", "-n", "10000"]).unwrap();
    assert!(all.lines().count() >= 30);
}

#[test]
fn a_follower_crosses_into_the_next_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(dir.path(), Clock::system(), None, 500).unwrap();
    let (last, mut follower) = Follower::open(dir.path(), 5).unwrap();
    assert!(last.is_empty());
    for n in 0..10 {
        log.append_background(denied(&format!("a{n}")));
    }
    drop(log);
    let mut seen = Vec::new();
    while let Some((record, _)) = follower.next_record().unwrap() {
        seen.push(record.seq);
    }
    assert!(seen.len() >= 10, "{seen:?}");
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
}

#[test]
fn show_prints_what_belongs_to_an_id_and_nothing_else() {
    let dir = log();
    let text = audit(dir.path(), &["show", "a7"]).unwrap();
    assert_eq!(text.lines().count(), 1);
    let error = audit(dir.path(), &["show", "nothing"]).unwrap_err();
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn verify_says_ok_with_the_head_or_names_the_bad_record() {
    let dir = log();
    let head = audit(dir.path(), &["head"]).unwrap().trim().to_owned();
    let said = audit(dir.path(), &["verify", "--head", &head]).unwrap();
    let size = head.split_once(':').unwrap().0;
    assert_eq!(said, format!("ok: {size} records, head {head}\n"));
    let path = dir.path().join("00000000000000000000.jsonl");
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"a1\"", "\"b1\"", 1);
    std::fs::write(&path, text).unwrap();
    let error = audit(dir.path(), &["verify"]).unwrap_err();
    assert!(error.to_string().contains("line 2 (record 1)"), "{error}");
    assert_eq!(error.exit_code(), 1);
}
