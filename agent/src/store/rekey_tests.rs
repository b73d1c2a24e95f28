use super::*;
use crate::clock::WallTime;
use crate::memory::{Field, Secret};
use crate::names::CredentialName;
use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

const NAMES: [&str; 3] = ["db/orders", "db", "token"];

impl Place {
    /// A store with some secrets and a file that is none of them.
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        NewIdentity::generate().write(&place.identity(), None, None).unwrap();
        let store = Store::open(&place.store(), &place.identity()).unwrap();
        for name in NAMES {
            let value = SecretBuf::from_slice(name.as_bytes());
            let field =
                Field { name: "value".to_owned(), sensitive: true, is_default: true, value };
            let secret = Secret::new(vec![field]).unwrap();
            let name = CredentialName::new(name).unwrap();
            store.put(&name, "o", "p", secret, false, WallTime(1)).unwrap();
        }
        let kept = store.kept();
        let recipient = kept.as_ref().unwrap().recipient().unwrap();
        let sealed = plain::seal(b"a signing key", &*recipient).unwrap();
        std::fs::create_dir(place.store().join(".issuer")).unwrap();
        std::fs::write(place.other(), sealed).unwrap();
        drop(kept);
        place
    }

    fn identity(&self) -> PathBuf {
        self.dir.path().join("identity")
    }
    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
    fn other(&self) -> PathBuf {
        self.store().join(".issuer/key.age")
    }

    fn alone(&self) -> Store {
        Store::open_alone(&self.store(), &self.identity()).unwrap()
    }

    /// Every file opens under the identity that is there now; gives its text.
    fn check(&self, journal: &SecretBuf) -> Vec<u8> {
        let store = Store::open(&self.store(), &self.identity()).unwrap();
        for name in NAMES {
            let read = store.read(&CredentialName::new(name).unwrap()).unwrap();
            assert_eq!(read.default_field().unwrap().value.expose(), name.as_bytes());
        }
        let keys = store.kept().as_ref().unwrap().keys().unwrap();
        let other = plain::open(&std::fs::read(self.other()).unwrap(), &keys).unwrap();
        assert_eq!(other.expose(), b"a signing key");
        assert!(store.journal_key().unwrap().same(journal.expose()), "the log opens as before");
        assert!(!self.store().join(STAGE).exists());
        assert!(!beside(&self.identity()).exists());
        std::fs::read(self.identity()).unwrap()
    }

    fn journal(&self) -> SecretBuf {
        Store::open(&self.store(), &self.identity()).unwrap().journal_key().unwrap()
    }

    fn backups(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        let old = |path: &PathBuf| path.to_string_lossy().contains("identity.old-");
        entries.map(|entry| entry.path()).filter(old).collect()
    }
}

fn new_bytes() -> NewBytes {
    NewBytes {
        file: NewIdentity::generate().text(),
        opened_by: SecretBuf::new(Vec::new()),
        remote: None,
    }
}

#[test]
fn every_file_opens_by_the_new_identity_and_the_old_one_is_kept() {
    let place = Place::new();
    let journal = place.journal();
    let old = std::fs::read(place.identity()).unwrap();
    let (mut heard, new) = (Vec::new(), new_bytes());
    let wanted = new.file.expose().to_vec();
    let done = place.alone().rekey(new, "now", &mut |done, all| heard.push((done, all))).unwrap();
    assert_eq!(heard, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    assert_eq!(place.check(&journal), wanted);
    assert_eq!(std::fs::read(&done.kept).unwrap(), old);
    use std::os::unix::fs::PermissionsExt;
    for path in [&done.kept, &place.identity()] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    // Again: the journal key is one of the files now.
    place.alone().rekey(new_bytes(), "now", &mut |_, _| {}).unwrap();
    place.check(&journal);
    assert_eq!(place.backups().len(), 2, "no backup is overwritten");
}

#[test]
fn wherever_it_is_cut_short_all_files_open_by_one_identity() {
    let journal_and_end = |place: &Place, stop_at: usize| {
        let journal = place.journal();
        let mut steps = 0;
        let crash = || StoreError::Bug("crash".to_owned());
        // What a crash leaves: nothing is undone.
        let cut = place.alone().rekey_by_steps(new_bytes(), "now", &mut |_| {
            steps += 1;
            if steps == stop_at { Err(crash()) } else { Ok(()) }
        });
        (journal, cut.is_ok())
    };
    let (mut before, mut after) = (0, 0);
    for stop_at in 1.. {
        let place = Place::new();
        let old = std::fs::read(place.identity()).unwrap();
        let (journal, whole) = journal_and_end(&place, stop_at);
        let found = place.check(&journal);
        if found == old {
            before += 1;
            assert!(place.backups().is_empty());
        } else {
            after += 1;
            assert_eq!(std::fs::read(&place.backups()[0]).unwrap(), old);
        }
        // Nothing in the way of another one.
        place.alone().rekey(new_bytes(), "again", &mut |_, _| {}).unwrap();
        place.check(&journal);
        if whole {
            break;
        }
    }
    assert!(before > 10 && after > 10, "{before} forgotten, {after} finished");
}

#[test]
fn a_start_in_the_middle_of_finishing_finishes_it_again() {
    let place = Place::new();
    let journal = place.journal();
    for stop_at in [18, 20, 22, 24] {
        let mut steps = 0;
        let _ = place.alone().rekey_by_steps(new_bytes(), "now", &mut |_| {
            steps += 1;
            if steps == stop_at { Err(StoreError::Bug("crash".to_owned())) } else { Ok(()) }
        });
        let files = Files::open(&place.store(), true).unwrap();
        let mut again = 0;
        if place.store().join(STAGE).join(COMMIT).exists() {
            let _ = finish(&files, &mut |_| {
                again += 1;
                if again == 3 { Err(StoreError::Bug("crash".to_owned())) } else { Ok(()) }
            });
        }
        drop(files);
        place.check(&journal);
    }
}

#[test]
fn a_file_that_does_not_open_is_named_and_nothing_changes() {
    let place = Place::new();
    let journal = place.journal();
    let old = std::fs::read(place.identity()).unwrap();
    let path = place.other();
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 3]).unwrap();
    let refused = place.alone().rekey(new_bytes(), "now", &mut |_, _| {}).unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged { file, .. } if *file == path), "{refused}");
    std::fs::write(&path, &good).unwrap();
    assert_eq!(place.check(&journal), old);
    // An identity that does not open what is sealed for it, or is none.
    let mut nonsense = new_bytes();
    nonsense.file = SecretBuf::from_slice(b"nonsense");
    assert!(place.alone().rekey(nonsense, "now", &mut |_, _| {}).is_err());
    assert_eq!(place.check(&journal), old);
}

#[test]
fn a_store_in_use_is_not_changed_and_no_agent_opens_one_that_is() {
    let place = Place::new();
    let agent = Store::open(&place.store(), &place.identity()).unwrap();
    let refused = Store::open_alone(&place.store(), &place.identity()).err().unwrap();
    assert!(refused.to_string().contains("stop it first"), "{refused}");
    drop(agent);
    let rekeying = place.alone();
    let refused = Store::open(&place.store(), &place.identity()).err().unwrap();
    assert!(refused.to_string().contains("jsi-agent rekey"), "{refused}");
    drop(rekeying);
    Store::open(&place.store(), &place.identity()).unwrap();
}
