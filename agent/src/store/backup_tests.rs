//! Rotation, snapshot, archive and restore, on a real directory.

use super::swap;
use super::tests::{Place, name, put, value};
use super::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

fn new_value(field: &str, value: &[u8]) -> NewValue {
    NewValue { field: field.to_owned(), value: SecretBuf::from_slice(value) }
}

fn archive(store: &Store) -> Vec<u8> {
    let extras = [("agent.toml".to_owned(), b"[agent]\n".to_vec())];
    let mut bytes = Vec::new();
    let key = store.journal_key().unwrap();
    let snapshot = store.snapshot().unwrap();
    write_archive(&snapshot, &extras, &key, WallTime(1_000_000), &mut bytes).unwrap();
    bytes
}

fn restore(store: &Store, archive: &[u8], how: RestoreHow) -> Result<Restored, StoreError> {
    let mut input = archive;
    store.restore(&mut input, how)
}

const REPLACE: RestoreHow =
    RestoreHow { replace: true, verify: true, dry_run: false, unsealed: false };

/// Every file of the store but directories, with its bytes.
fn files(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&place.store_dir(), &mut found);
    found
}

/// The same archive with its entries as `change` makes them.
fn altered(
    archive: &[u8],
    mut change: impl FnMut(&str, &mut Vec<u8>) -> Option<String>,
) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if let Some(path) = change(&path, &mut bytes) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            // Past what the library would refuse to write.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            out.append(&header, bytes.as_slice()).unwrap();
        }
    }
    out.into_inner().unwrap()
}

#[test]
fn a_rotation_keeps_all_but_the_values_that_were_given() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "db/a", b"old").unwrap();
    let done = store.rotate(&name("db/a"), vec![new_value("", b"new")], WallTime(9)).unwrap();
    assert_eq!((done.fields, done.info.version), (vec!["password".to_owned()], 2));
    assert_eq!(
        (done.info.owner.as_str(), done.info.purpose.as_str()),
        ("ops@example.org", "the test")
    );
    let secret = store.read(&name("db/a")).unwrap();
    assert_eq!(secret.field("password").unwrap().value.expose(), b"new");
    let user = secret.field("user").unwrap();
    assert_eq!((user.value.expose(), user.sensitive, user.is_default), (&b"app"[..], false, false));
    let again = vec![new_value("user", b"u2"), new_value("password", b"p2")];
    let done = store.rotate(&name("db/a"), again, WallTime(9)).unwrap();
    assert_eq!((done.fields.len(), done.info.version), (2, 3));
    store.remove(&name("db/a")).unwrap();
    put(&store, "db/a", b"anew").unwrap();
    assert_eq!(store.info(&name("db/a")).unwrap().version, 1);
}

#[test]
fn a_rotation_that_cannot_be_leaves_the_secret() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "db/a", b"old").unwrap();
    let refused = |values| store.rotate(&name("db/a"), values, WallTime(9)).err().unwrap();
    assert!(matches!(refused(vec![new_value("token", b"x")]), StoreError::NoField { .. }));
    assert!(matches!(refused(vec![new_value("", b"")]), StoreError::Unfit(_)));
    assert!(matches!(refused(Vec::new()), StoreError::Unfit(_)));
    let twice = vec![new_value("", b"x"), new_value("password", b"y")];
    assert!(matches!(refused(twice), StoreError::Unfit(_)));
    let long = vec![new_value("", &vec![1; jsi_proto::MAX_SECRET])];
    assert!(matches!(refused(long), StoreError::Unfit(_)));
    assert!(matches!(
        store.rotate(&name("db/b"), vec![new_value("", b"x")], WallTime(9)).err(),
        Some(StoreError::Missing(_))
    ));
    assert_eq!(value(&store, "db/a"), b"old");
    assert_eq!(store.info(&name("db/a")).unwrap().version, 1);
}

#[test]
fn a_generated_value_is_of_its_alphabet_and_every_letter_is_as_likely() {
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let value = generate(4096, letters).unwrap();
        assert_eq!(value.len(), 4096);
        value.expose().iter().for_each(|b| *seen.entry(*b).or_insert(0_u32) += 1);
    }
    assert_eq!(seen.len(), letters.len());
    // 2642 are to be expected of each; nine standard deviations either way.
    assert!(seen.values().all(|count| (2_180..3_105).contains(count)), "{seen:?}");
    for (length, alphabet) in [(0, "ab"), (4097, "ab"), (8, "a"), (8, "aa"), (8, "aä"), (8, "a b")]
    {
        assert!(generate(length, alphabet).is_err(), "{length} {alphabet}");
    }
}

#[test]
fn a_batch_stores_each_that_can_be_and_says_what_became_of_the_others() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "there", b"old").unwrap();
    let item = |at: &str, value: &[u8], replace, owner: &str| BatchItem {
        name: name(at),
        owner: owner.to_owned(),
        purpose: "p".to_owned(),
        replace,
        secret: super::tests::secret(&[("value", true, value)]),
    };
    let results = store.put_batch(
        vec![
            item("a/b", b"1", false, "o"),
            item("there", b"2", false, "o"),
            item("x.age/y", b"3", false, "o"),
            item("c", b"4", false, " "),
            item("a/b", b"5", false, "o"),
            item("d", b"\xff\0", false, "o"),
        ],
        WallTime(1),
    );
    let shown: Vec<_> =
        results.iter().map(|r| r.as_ref().map_err(|error| error.to_string())).collect();
    assert_eq!((&shown[0], &shown[5]), (&Ok(&Some(false)), &Ok(&Some(false))));
    assert_eq!(shown[1], Ok(&None));
    assert!([2, 3, 4].iter().all(|at| shown[*at].is_err()), "{shown:?}");
    assert_eq!((value(&store, "a/b"), value(&store, "there")), (b"1".to_vec(), b"old".to_vec()));
    let over = store.put_batch(vec![item("there", b"new", true, "o")], WallTime(1));
    assert!(matches!(over.as_slice(), [Ok(Some(true))]));
    drop(store);
    let store = place.open().unwrap();
    assert_eq!(value(&store, "there"), b"new");
    assert_eq!(store.info(&name("there")).unwrap().version, 2);
    let names: Vec<_> = store.list("").unwrap().into_iter().map(|i| i.name.to_string()).collect();
    assert_eq!(names, ["a/b", "d", "there"]);
    assert!(files(&place).keys().all(|path| !path.ends_with(".new")));
    store.lock();
    assert!(!store.sealed(&name("d")).unwrap().is_empty());
    let locked = store.put_batch(vec![item("e", b"1", false, "o")], WallTime(1));
    assert!(matches!(locked.as_slice(), [Err(StoreError::Locked)]));
}

#[test]
fn a_backup_comes_back_into_an_empty_store_and_over_another() {
    let place = Place::new();
    let store = place.open().unwrap();
    let long = format!("a/{}", "b".repeat(126));
    for at in ["db/orders", "db", "x", &long] {
        put(&store, at, at.as_bytes()).unwrap();
    }
    let backup = archive(&store);
    store.remove(&name("x")).unwrap();
    store.rotate(&name("db"), vec![new_value("", b"later")], WallTime(9)).unwrap();
    put(&store, "later/one", b"gone").unwrap();
    let before = files(&place);

    let occupied = restore(&store, &backup, RestoreHow { replace: false, ..REPLACE });
    assert!(matches!(occupied.err(), Some(StoreError::Occupied(4))));
    let plan = restore(&store, &backup, RestoreHow { dry_run: true, ..REPLACE }).unwrap();
    assert_eq!(files(&place), before);
    let done = restore(&store, &backup, REPLACE).unwrap();
    for done in [plan, done] {
        assert_eq!(done.added, [name("x")]);
        assert_eq!(done.changed, [name("db")]);
        assert_eq!(done.removed, [name("later/one")]);
        assert_eq!((done.unchanged, done.opened, done.sealed), (2, 4, true));
        assert_eq!((done.backup.secrets, done.backup.files), (4, 9));
    }
    for at in ["db/orders", "db", "x", &long] {
        assert_eq!(value(&store, at), at.as_bytes());
    }
    assert!(!store.exists(&name("later/one")));
    let left = std::fs::read_dir(place.store_dir()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));

    std::fs::remove_dir_all(place.store_dir()).unwrap();
    let store = place.open().unwrap();
    let done = restore(&store, &backup, RestoreHow { replace: false, ..REPLACE }).unwrap();
    assert_eq!(done.added.len(), 4);
    assert_eq!(value(&place.open().unwrap(), "db/orders"), b"db/orders");
}

#[test]
fn a_backup_that_is_cut_short_anywhere_changes_nothing() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "a", b"one").unwrap();
    put(&store, "b", b"two").unwrap();
    let backup = archive(&store);
    store.remove(&name("b")).unwrap();
    let before = files(&place);
    // The archive ends with 1024 bytes of nothing.
    for len in (0..backup.len() - 1024).step_by(97).chain([backup.len() - 1025]) {
        let cut = restore(&store, &backup[..len], REPLACE);
        let Some(StoreError::Archive(_)) = cut.err() else { panic!("{len} bytes were taken") };
        assert_eq!(files(&place), before, "{len}");
    }
}

#[test]
fn an_altered_backup_is_refused_and_changes_nothing() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "a", b"one").unwrap();
    let backup = archive(&store);
    store.rotate(&name("a"), vec![new_value("", b"two")], WallTime(9)).unwrap();
    let before = files(&place);
    let refused = |bytes: &[u8], part: &str| {
        let error = restore(&store, bytes, REPLACE).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(files(&place), before, "{part}");
    };
    let same = |path: &str| Some(path.to_owned());
    refused(b"not an archive at all", "no archive");
    refused(
        &altered(&backup, |path, bytes| {
            if path.ends_with("a.age") {
                *bytes.last_mut().unwrap() ^= 1;
            }
            same(path)
        }),
        "cut short or altered",
    );
    refused(
        &altered(&backup, |path, _| (path != "store/a.json").then(|| path.to_owned())),
        "missing",
    );
    // Whoever writes the manifest anew cannot seal it.
    refused(
        &altered(&backup, |path, bytes| {
            if path == "manifest.json" {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace("\"agent\":", "\"agent\" :").into_bytes();
            }
            same(path)
        }),
        "not sealed under this agent's identity",
    );
    refused(
        &altered(&backup, |path, _| (path != "manifest.seal").then(|| path.to_owned())),
        "seal",
    );
    let replaced = |from: &str, to: &str| {
        altered(&backup, |path, bytes| {
            if path == "manifest.json" {
                let text = String::from_utf8(bytes.clone()).unwrap();
                assert!(text.contains(from), "{text}");
                *bytes = text.replace(from, to).into_bytes();
            }
            same(path)
        })
    };
    refused(&replaced("\"v\": 1", "\"v\": 2"), "version 2");
    refused(&replaced("\"v\": 1", "\"v\": 0"), "version 0");
    refused(&replaced("jsi backup", "another"), "no jsi backup");
    for path in ["../../etc/passwd", "/etc/passwd", "store/../x.age", "store/.x.age", "other/x"] {
        refused(&replaced("store/a.age", path), "which no backup has");
        // Beside what the manifest names.
        let smuggled = altered(&backup, |old, _| {
            Some(if old == "agent.toml" { path.to_owned() } else { old.to_owned() })
        });
        refused(&smuggled, "is not in its manifest");
    }
}

#[test]
fn links_and_devices_in_an_archive_are_not_made() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "a", b"one").unwrap();
    let backup = archive(&store);
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(backup.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        if entry.path().unwrap().display().to_string() == "store/a.age" {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name("/etc/shadow").unwrap();
            header.set_size(0);
            header.set_cksum();
            out.append(&header, std::io::empty()).unwrap();
        } else {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            out.append(&header, bytes.as_slice()).unwrap();
        }
    }
    let error = restore(&store, &out.into_inner().unwrap(), REPLACE).err().unwrap().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    assert_eq!(value(&store, "a"), b"one");
}

#[test]
fn another_identitys_backup_needs_to_be_asked_for_and_does_not_verify() {
    let theirs = Place::new();
    let other = theirs.open().unwrap();
    put(&other, "a", b"one").unwrap();
    let backup = archive(&other);
    let place = Place::new();
    let store = place.open().unwrap();
    let refused = restore(&store, &backup, REPLACE);
    assert!(matches!(refused.err(), Some(StoreError::ForeignArchive)));
    let unsealed = RestoreHow { unsealed: true, ..REPLACE };
    let error = restore(&store, &backup, unsealed).err().unwrap().to_string();
    assert!(error.contains("1 of its 1 secrets do not open"), "{error}");
    assert!(files(&place).is_empty());
    let done = restore(&store, &backup, RestoreHow { verify: false, ..unsealed }).unwrap();
    assert!(!done.sealed);
    store.lock();
    assert!(store.exists(&name("a")));
}

#[test]
fn a_locked_store_is_not_replaced_by_what_it_cannot_check() {
    let place = Place::locked("passphrase");
    let store = place.open().unwrap();
    let passphrase = SecretBuf::from_slice(b"passphrase");
    store.unlock(&passphrase).unwrap();
    put(&store, "a", b"one").unwrap();
    let backup = archive(&store);
    store.lock();
    let how = RestoreHow { verify: false, ..REPLACE };
    assert!(matches!(restore(&store, &backup, how).err(), Some(StoreError::Locked)));
    assert!(matches!(restore(&store, &backup, REPLACE).err(), Some(StoreError::Locked)));
    assert!(restore(&store, &backup, RestoreHow { unsealed: true, ..how }).is_ok());
}

#[test]
fn a_snapshot_stays_as_it_was_while_the_store_goes_on() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "db/a", b"one").unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.files(), ["db/a.age", "db/a.json"]);
    let before = snapshot.read("db/a.age").unwrap();
    store.rotate(&name("db/a"), vec![new_value("", b"two")], WallTime(9)).unwrap();
    assert_eq!(snapshot.read("db/a.age").unwrap(), before);
    store.remove(&name("db/a")).unwrap();
    assert_eq!(snapshot.read("db/a.age").unwrap(), before);
    assert!(store.list("").unwrap().is_empty());
    drop(snapshot);
    assert_eq!(std::fs::read_dir(place.store_dir()).unwrap().count(), 0);
}

/// Stops a restore where the next step would begin, as SIGKILL would, and starts
/// anew: what is there is all of the old or all of the new.
#[test]
fn a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one() {
    let place = Place::new();
    let store = place.open().unwrap();
    for at in ["a", "db/a", "db/b"] {
        put(&store, at, b"new").unwrap();
    }
    let backup = archive(&store);
    let new = files(&place);
    for at in ["a", "db/a", "other/c"] {
        let _ = store.remove(&name(at));
        put(&store, at, b"old").unwrap();
    }
    let old = files(&place);
    drop(store);
    let kept = place.dir.path().join("kept");
    copy(&place.store_dir(), &kept);
    let mut outcomes = Vec::new();
    for step in 0.. {
        std::fs::remove_dir_all(place.store_dir()).unwrap();
        copy(&kept, &place.store_dir());
        let store = place.open().unwrap();
        swap::stop_after(step);
        let result = restore(&store, &backup, REPLACE);
        let stopped = swap::stopped();
        drop(store);
        swap::go_on();
        assert_eq!(result.is_err(), stopped, "step {step}");
        let store = place.open().unwrap();
        let now = files(&place);
        assert!(now == old || now == new, "step {step}: {:?}", now.keys());
        assert_eq!(value(&store, "a"), if now == new { b"new" } else { b"old" });
        outcomes.push(now == new);
        if !stopped {
            break;
        }
    }
    // Both came to pass, and never the old one behind the new one.
    assert!(outcomes.first() == Some(&false) && outcomes.last() == Some(&true), "{outcomes:?}");
    assert!(outcomes.is_sorted(), "{outcomes:?}");
    assert!(outcomes.len() > 10, "{outcomes:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn one_restore_at_a_time_and_what_a_dead_one_left_is_cleared() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "a", b"one").unwrap();
    let backup = archive(&store);
    let half = place.store_dir().join(".restore/new");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::File::create(half.join("a.age")).unwrap().write_all(b"half").unwrap();
    std::fs::create_dir_all(place.store_dir().join(".backup.0123/db")).unwrap();
    assert!(matches!(restore(&store, &backup, REPLACE).err(), Some(StoreError::Busy)));
    let store = place.open().unwrap();
    assert_eq!(value(&store, "a"), b"one");
    assert_eq!(std::fs::read_dir(place.store_dir()).unwrap().count(), 2);
    let issuer = place.store_dir().join("_issuers/jwt");
    std::fs::create_dir_all(&issuer).unwrap();
    std::fs::write(issuer.join("key.age"), "a signing key").unwrap();
    restore(&store, &backup, REPLACE).unwrap();
    // An issuer's own keys are no secrets of the store, and stay.
    assert_eq!(std::fs::read(issuer.join("key.age")).unwrap(), b"a signing key");
}
