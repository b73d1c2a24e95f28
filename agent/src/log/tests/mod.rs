//! Tests of the log against real files.

mod crash;
mod damage;
mod full;
mod rotation;

use super::*;
use crate::clock::{BootTime, Clock, WallTime};
use crate::memory::SecretBuf;
use crate::names::{LeaseId, RequestId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Large enough that nothing rotates.
const LARGE: u64 = 1 << 30;

fn lease(n: u32) -> LeaseRecord {
    LeaseRecord {
        id: LeaseId::from_text(&format!("db/orders/{n}")),
        request: RequestId::from_text("request"),
        credential: "db/orders".to_owned(),
        scope: BTreeMap::from([("role".to_owned(), "reader".to_owned())]),
        issuer: "store".to_owned(),
        issuer_name: None,
        class: "static".to_owned(),
        revocation: "none".to_owned(),
        state: LeaseState::Active,
        issued: BootTime(1),
        issued_wall: WallTime(1),
        expires: BootTime(100),
        expires_at_most: BootTime(1000),
        ttl_ms: 99,
        renewable: true,
        binding: BindingRecord::Process { pid: 7, start_time: 9, pidfs: None, exe: None },
        holder: HolderRecord {
            pid: 7,
            start_time: 9,
            uid: 1000,
            gid: 1000,
            exe: Some("/usr/bin/psql".to_owned()),
            digest: None,
            unit: None,
            invocation: None,
            container: None,
            container_runtime: None,
            pod: None,
            lsm: None,
            assurance: 1,
            assurance_with_jit: None,
            missed: Vec::new(),
            caller: None,
            target: None,
        },
        uses_left: None,
        delivery: "caller".to_owned(),
        hold_none: false,
        handle: BTreeMap::new(),
        sealed: None,
        end_reason: None,
        note: String::new(),
        policies: vec!["psql".to_owned()],
        outdated: false,
    }
}

fn granted(n: u32) -> Event {
    Event::Granted { lease: lease(n) }
}

fn started() -> Event {
    Event::Started {
        version: "0".to_owned(),
        boot_id: "boot-1".to_owned(),
        pid: 1,
        mode: "user".to_owned(),
        advisory: Vec::new(),
    }
}

/// A child that another test has just forked has the lock too, until it executes
/// its program.
fn open_log(dir: &Path) -> (Log, Folded) {
    for _ in 0..500 {
        match Log::open(dir, Clock::system(), None, LARGE) {
            Err(LogError::InUse { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("somebody else has the log open");
}

fn sealer() -> Sealer {
    Sealer::new(SecretBuf::new(vec![7; JOURNAL_KEY_LEN])).unwrap()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A log of `records` leases, closed again; its head.
fn written(dir: &Path, records: u32) -> Head {
    let (log, _) = open_log(dir);
    for n in 0..records {
        block(log.append(granted(n))).unwrap();
    }
    log.head()
}

fn first_segment(dir: &Path) -> PathBuf {
    dir.join("00000000000000000000.jsonl")
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, folded) = open_log(dir.path());
    assert_eq!(folded, Folded::default());
    block(log.append(started())).unwrap();
    block(log.append(granted(1))).unwrap();
    log.append_background(granted(2));
    let request = RequestId::from_text("r");
    let id = |n| lease(n).id;
    let delivered = Event::Delivered {
        request,
        lease: id(1),
        delivery: "caller".to_owned(),
        uses_left: Some(3),
    };
    log.append_background(delivered);
    let reason = EndReason::Released;
    log.append_background(Event::Ended { lease: id(2), reason, outcome: String::new() });
    block(log.flush()).unwrap();
    let head = log.head();
    assert_eq!(head.size, 5);
    drop(log);
    assert_eq!(verify(dir.path(), Some(&head)), Ok(head.clone()));
    let (log, folded) = open_log(dir.path());
    assert_eq!(log.head(), head);
    assert_eq!(folded.boot_id.as_deref(), Some("boot-1"));
    assert_eq!(folded.records, 5);
    assert_eq!(folded.leases.len(), 1);
    assert_eq!(folded.leases[&id(1)].uses_left, Some(3));
}

#[test]
fn what_is_sealed_opens_after_a_restart_and_never_stands_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_log(dir.path());
    let secret = || SecretBuf::from_slice(b"revocation-token");
    let refused = block(log.append_with_sealed(granted(1), secret()));
    assert_eq!(refused, Err(LogError::NoSealer));
    log.set_sealer(Some(sealer()));
    block(log.append_with_sealed(granted(1), secret())).unwrap();
    drop(log);
    let text = std::fs::read_to_string(first_segment(dir.path())).unwrap();
    assert!(!text.contains("revocation-token"));
    verify(dir.path(), None).unwrap();
    let (_log, folded) = open_log(dir.path());
    let id = lease(1).id;
    let opened = sealer().open(&id, &folded.sealed[&id]).unwrap();
    assert_eq!(opened.expose(), b"revocation-token");
}

#[test]
fn many_appends_at_once_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_log(dir.path());
    block(async {
        let all: Vec<_> = (0..500).map(|n| log.append(granted(n))).collect();
        for one in all {
            one.await.unwrap();
        }
    });
    let syncs = log.stats().syncs.load(Ordering::Relaxed);
    assert!(syncs < 250, "{syncs} syncs for 500 records");
    assert_eq!(verify(dir.path(), None).unwrap().size, 500);
}

#[test]
fn two_agents_never_write_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open_log(dir.path());
    let second = Log::open(dir.path(), Clock::system(), None, LARGE).err();
    assert_eq!(second, Some(LogError::InUse { dir: dir.path().to_owned() }));
    drop(first);
    open_log(dir.path());
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::create_dir(&log).unwrap();
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Log::open(&log, Clock::system(), None, LARGE).err().unwrap();
    assert!(error.to_string().contains("chmod 0700"), "{error}");
}

#[test]
fn segments_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 1);
    let mode = std::fs::metadata(first_segment(dir.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_record_that_names_a_sealed_line_never_comes_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_log(dir.path());
    let mut lease = lease(1);
    lease.sealed = Some("0".repeat(64));
    let error = block(log.append(Event::Granted { lease })).unwrap_err();
    assert_eq!(error.blame(), Blame::Bug);
    assert_eq!(log.head().size, 0);
}

#[test]
fn a_newer_schema_is_refused_as_such() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 1);
    let path = first_segment(dir.path());
    let line = std::fs::read_to_string(&path).unwrap();
    let rec = line.split_once("\"rec\":").unwrap().1.trim_end();
    let (now, newer) = (format!("\"v\":{VERSION}"), format!("\"v\":{}", VERSION + 1));
    let rec = rec.strip_suffix('}').unwrap().replacen(&now, &newer, 1);
    std::fs::write(&path, scan::frame(rec.as_bytes()).0).unwrap();
    let error = Log::open(dir.path(), Clock::system(), None, LARGE).err().unwrap();
    assert!(
        matches!(error, LogError::Newer { version, line: 1, .. } if version == VERSION + 1),
        "{error}"
    );
}
