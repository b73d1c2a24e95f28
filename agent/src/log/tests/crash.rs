use super::*;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn append_raw(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn last_event(dir: &Path) -> Event {
    let mut last = None;
    for_each_record(dir, |record, _| last = Some(record.event.clone())).unwrap();
    last.unwrap()
}

#[test]
fn a_torn_last_line_is_moved_aside_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = first_segment(dir.path());
    written(dir.path(), 2);
    let good = std::fs::read(&path).unwrap();
    let second = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in second..good.len() {
        std::fs::write(&path, &good[..cut]).unwrap();
        let (log, folded) = open_log(dir.path());
        drop(log);
        verify(dir.path(), None).unwrap();
        assert_eq!(folded.leases.len(), 1, "cut at {cut}");
        if cut > second {
            let Event::Recovered { moved_to, bytes } = last_event(dir.path()) else { panic!() };
            assert_eq!(bytes, (cut - second) as u64);
            let aside = std::fs::read(dir.path().join(moved_to)).unwrap();
            assert_eq!(aside, &good[second..cut]);
        }
    }
}

#[test]
fn a_sealed_line_whose_record_was_lost_goes_aside_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = first_segment(dir.path());
    written(dir.path(), 1);
    let line = sealer().seal(&lease(2).id, &SecretBuf::from_slice(b"s")).unwrap() + "\n";
    append_raw(&path, line.as_bytes());
    assert!(verify(dir.path(), None).is_err());
    let (log, _) = open_log(dir.path());
    block(log.append(granted(3))).unwrap();
    drop(log);
    assert_eq!(verify(dir.path(), None).unwrap().size, 3);
}

#[test]
fn a_rotation_cut_short_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3);
    let next = dir.path().join("00000000000000000003.jsonl");
    for torn in [&b""[..], b"{\"leaf\":\"00"] {
        std::fs::write(&next, torn).unwrap();
        let (log, folded) = open_log(dir.path());
        assert_eq!(folded.leases.len(), 3);
        drop(log);
        assert!(!next.exists());
        assert!(matches!(last_event(dir.path()), Event::Recovered { .. }));
    }
}

/// Writes until it is killed; run by the test below only.
#[test]
fn child_that_writes() {
    let Some(dir) = std::env::var_os("JSI_TEST_LOG_WRITER") else { return };
    let segment_bytes = 40_000;
    let (log, _) = Log::open(Path::new(&dir), Clock::system(), None, segment_bytes).unwrap();
    log.set_sealer(Some(sealer()));
    for n in 0.. {
        for extra in 1..8 {
            let id = lease(n).id;
            log.append_background(granted(n));
            let reason = EndReason::Expired;
            if extra % 3 == 0 {
                log.append_background(Event::Ended { lease: id, reason, outcome: String::new() });
            }
        }
        drop(log.append_with_sealed(granted(n), SecretBuf::from_slice(b"s")));
        if block(log.append(granted(n))).is_err() {
            return;
        }
        // What stands here was acknowledged.
        std::fs::write(Path::new(&dir).join("acknowledged"), log.head().to_string()).unwrap();
        let reason = EndReason::Expired;
        let id = lease(n).id;
        log.append_background(Event::Ended { lease: id, reason, outcome: String::new() });
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    for round in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::tests::crash::child_that_writes"])
            .env("JSI_TEST_LOG_WRITER", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let acknowledged = dir.path().join("acknowledged");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !acknowledged.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(40 + 23 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // The kill may have hit the acknowledgement itself.
        let kept = std::fs::read_to_string(&acknowledged).unwrap().parse::<Head>().ok();
        let (log, folded) = open_log(dir.path());
        block(log.append(granted(1))).unwrap();
        assert!(folded.records > 0);
        drop(log);
        verify(dir.path(), kept.as_ref()).unwrap();
    }
}
