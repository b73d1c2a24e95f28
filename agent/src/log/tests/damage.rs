use super::*;

fn bad_record(dir: &Path) -> Damage {
    match verify(dir, None) {
        Err(VerifyError::Record(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_byte_changes_without_verify_naming_its_record_or_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open_log(dir.path());
    log.set_sealer(Some(sealer()));
    block(log.append(started())).unwrap();
    block(log.append_with_sealed(granted(1), SecretBuf::from_slice(b"s"))).unwrap();
    block(log.append(granted(2))).unwrap();
    drop(log);
    let path = first_segment(dir.path());
    let good = std::fs::read(&path).unwrap();
    let (mut line, mut at_line) = (1, Vec::new());
    for byte in &good {
        at_line.push(line);
        line += u64::from(*byte == b'\n');
    }
    // Line 2 is the sealed line of record 1, on line 3.
    let record_of = |line: u64| match line {
        1 => 0,
        2 | 3 => 1,
        _ => 2,
    };
    for at in 0..good.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            std::fs::write(&path, &bad).unwrap();
            let damage = bad_record(dir.path());
            assert_eq!(damage.seq, record_of(at_line[at]), "byte {at} of line {}", at_line[at]);
            assert_eq!(damage.file, path);
        }
    }
}

#[test]
fn a_start_refuses_a_changed_record_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4);
    let path = first_segment(dir.path());
    let text = std::fs::read_to_string(&path).unwrap().replacen("db/orders/2", "db/orders/9", 1);
    std::fs::write(&path, text).unwrap();
    match Log::open(dir.path(), Clock::system(), None, LARGE).err() {
        Some(LogError::Damaged(damage)) => {
            assert_eq!((damage.line, damage.seq, damage.file), (3, 2, path));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dropped_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 4);
    let path = first_segment(dir.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> =
        text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line).collect();
    std::fs::write(&path, kept.join("\n") + "\n").unwrap();
    let damage = bad_record(dir.path());
    assert_eq!((damage.line, damage.seq), (2, 1));
}

#[test]
fn a_record_rewritten_with_a_fitting_leaf_hash_shows_in_the_next_root() {
    let dir = tempfile::tempdir().unwrap();
    let kept = written(dir.path(), 4);
    let path = first_segment(dir.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let forged: Vec<u8> = text
        .lines()
        .flat_map(|line| {
            let rec = line.split_once("\"rec\":").unwrap().1.strip_suffix('}').unwrap();
            scan::frame(rec.replace("db/orders/1", "db/orders/7").as_bytes()).0
        })
        .collect();
    std::fs::write(&path, forged).unwrap();
    let damage = bad_record(dir.path());
    assert_eq!(damage.seq, 2, "{damage}");
    assert!(damage.why.contains("root"), "{damage}");
    assert!(verify(dir.path(), Some(&kept)).is_err());
}

#[test]
fn a_cut_tail_is_found_against_a_kept_head_and_not_without() {
    let dir = tempfile::tempdir().unwrap();
    let kept = written(dir.path(), 4);
    let path = first_segment(dir.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let cut: Vec<&str> = text.lines().take(3).collect();
    std::fs::write(&path, cut.join("\n") + "\n").unwrap();
    assert_eq!(verify(dir.path(), None).unwrap().size, 3);
    assert_eq!(verify(dir.path(), Some(&kept)), Err(VerifyError::Cut { records: 3, size: 4 }));
}

#[test]
fn a_log_written_anew_is_found_against_a_kept_head() {
    let dir = tempfile::tempdir().unwrap();
    let kept = written(dir.path(), 2);
    std::fs::remove_file(first_segment(dir.path())).unwrap();
    let (log, _) = open_log(dir.path());
    for n in 5..9 {
        block(log.append(granted(n))).unwrap();
    }
    drop(log);
    let error = verify(dir.path(), Some(&kept)).unwrap_err();
    assert!(matches!(error, VerifyError::Rewritten { size: 2, .. }), "{error}");
}

#[test]
fn a_head_is_read_as_it_is_printed() {
    let head = Head { size: 3, root: "ab".repeat(32) };
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "3", "3:", "x:00", &format!("3:{}", "AB".repeat(32))] {
        assert!(bad.parse::<Head>().is_err(), "{bad}");
    }
}

#[test]
fn an_empty_directory_never_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let error = verify(dir.path(), None).unwrap_err();
    assert!(matches!(error, VerifyError::Unreadable(_)), "{error}");
}
