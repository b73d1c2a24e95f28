use super::*;
use crate::memory::Field;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

pub(super) struct Place {
    pub(super) dir: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        NewIdentity::generate().write(&place.identity(), None, None).unwrap();
        place
    }

    pub(super) fn locked(passphrase: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let passphrase = SecretBuf::from_slice(passphrase.as_bytes());
        // Cheap: the default would take minutes without optimisation.
        NewIdentity::generate().write(&place.identity(), Some((&passphrase, 4)), None).unwrap();
        place
    }

    fn identity(&self) -> PathBuf {
        self.dir.path().join("identity")
    }

    pub(super) fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.store_dir(), &self.identity())
    }

    fn refused(&self) -> String {
        match self.open().err() {
            Some(error @ StoreError::Identity { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn name(text: &str) -> CredentialName {
    CredentialName::new(text).unwrap()
}

pub(super) fn secret(fields: &[(&str, bool, &[u8])]) -> Secret {
    let field = |(at, (name, sensitive, value)): (usize, &(&str, bool, &[u8]))| Field {
        name: (*name).to_owned(),
        sensitive: *sensitive,
        is_default: at == 0,
        value: SecretBuf::from_slice(value),
    };
    Secret::new(fields.iter().enumerate().map(field).collect()).unwrap()
}

pub(super) fn put(store: &Store, at: &str, value: &[u8]) -> Result<bool, StoreError> {
    let secret = secret(&[("password", true, value), ("user", false, b"app")]);
    store.put(&name(at), "ops@example.org", "the test", secret, false, WallTime(5))
}

pub(super) fn value(store: &Store, at: &str) -> Vec<u8> {
    store.read(&name(at)).unwrap().default_field().unwrap().value.expose().to_vec()
}

#[test]
fn what_was_put_is_read_again_also_after_a_restart() {
    let place = Place::new();
    let store = place.open().unwrap();
    assert!(!put(&store, "db/orders", b"hunter2 \"\\\n").unwrap());
    assert!(!put(&store, "db", &[0, 255, 1]).unwrap());
    assert!(!put(&store, "db.old", b"\x01control").unwrap());
    drop(store);
    let store = place.open().unwrap();
    assert_eq!(value(&store, "db/orders"), b"hunter2 \"\\\n");
    assert_eq!(value(&store, "db"), [0, 255, 1]);
    assert_eq!(value(&store, "db.old"), b"\x01control");
    let read = store.read(&name("db/orders")).unwrap();
    let user = read.field("user").unwrap();
    assert!(!user.sensitive && !user.is_default);
    assert_eq!(user.value.expose(), b"app");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(place.store_dir()), 0o700);
    assert_eq!(mode(place.store_dir().join("db")), 0o700);
    assert_eq!(mode(place.store_dir().join("db/orders.age")), 0o600);
    assert_eq!(mode(place.store_dir().join("db/orders.json")), 0o600);
}

#[test]
fn a_shielded_identity_opens_the_store_all_the_same() {
    let guard = crate::memory::Guard::new().unwrap();
    let shield = Arc::new(Shield::new(&guard).unwrap());
    let place = Place::locked("open sesame");
    let store = place.open().unwrap().with_shield(shield.clone()).unwrap();
    store.unlock(&SecretBuf::from_slice(b"open sesame")).unwrap();
    put(&store, "a", b"value").unwrap();
    assert_eq!(value(&store, "a"), b"value");
    let place = Place::new();
    let key = place.open().unwrap().journal_key().unwrap();
    let store = place.open().unwrap().with_shield(shield).unwrap();
    assert!(store.journal_key().unwrap().same(key.expose()));
    put(&store, "a", b"value").unwrap();
    assert_eq!(value(&store, "a"), b"value");
}

#[test]
fn the_largest_secret_fits() {
    let place = Place::new();
    let store = place.open().unwrap();
    let long = vec![0xff; jsi_proto::MAX_SECRET - 3];
    put(&store, "long", &long).unwrap();
    assert!(value(&store, "long") == long);
    let quotes = vec![b'"'; jsi_proto::MAX_SECRET - 3];
    put(&store, "quotes", &quotes).unwrap();
    assert!(value(&store, "quotes") == quotes);
}

#[test]
fn listing_works_while_locked_and_shows_no_value() {
    let place = Place::locked("open sesame");
    let store = place.open().unwrap();
    assert!(store.is_locked());
    assert!(store.journal_key().is_none());
    assert!(matches!(put(&store, "db/a", b"x"), Err(StoreError::Locked)));
    let wrong = store.unlock(&SecretBuf::from_slice(b"wrong"));
    assert!(matches!(wrong, Err(StoreError::WrongPassphrase)), "{wrong:?}");
    assert!(store.is_locked());
    store.unlock(&SecretBuf::from_slice(b"open sesame")).unwrap();
    for at in ["db/b", "db/a", "db", "dbx"] {
        put(&store, at, b"planted-value").unwrap();
    }
    store.lock();
    assert!(matches!(store.read(&name("db/a")), Err(StoreError::Locked)));
    let names = |prefix: &str| -> Vec<String> {
        store.list(prefix).unwrap().iter().map(|info| info.name.to_string()).collect()
    };
    assert_eq!(names(""), ["db", "db/a", "db/b", "dbx"]);
    assert_eq!(names("db"), ["db", "db/a", "db/b"]);
    assert_eq!(names("db/"), ["db", "db/a", "db/b"]);
    assert_eq!(names("db/a"), ["db/a"]);
    let info = store.info(&name("db/a")).unwrap();
    assert_eq!((info.owner.as_str(), info.stored_at), ("ops@example.org", WallTime(5)));
    assert_eq!(info.fields[1].name, "user");
    for file in ["db/a.age", "db/a.json"] {
        let bytes = std::fs::read(place.store_dir().join(file)).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"planted-value"));
    }
}

#[test]
fn the_journal_key_is_the_identitys_and_no_other() {
    let (one, two) = (Place::new(), Place::new());
    let key = |place: &Place| place.open().unwrap().journal_key().unwrap().expose().to_vec();
    assert_eq!(key(&one), key(&one));
    assert_ne!(key(&one), key(&two));
    assert_eq!(key(&one).len(), crate::log::JOURNAL_KEY_LEN);
    let text = std::fs::read(one.identity()).unwrap();
    assert!(!text.windows(8).any(|window| window == &key(&one)[..8]));
}

#[test]
fn a_secret_is_replaced_only_when_that_is_said_and_removed_whole() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "db/a", b"old").unwrap();
    assert!(matches!(put(&store, "db/a", b"new"), Err(StoreError::Exists(_))));
    assert_eq!(value(&store, "db/a"), b"old");
    let new = secret(&[("token", true, b"new")]);
    assert!(store.put(&name("db/a"), "o", "p", new, true, WallTime(6)).unwrap());
    assert_eq!(value(&store, "db/a"), b"new");
    store.remove(&name("db/a")).unwrap();
    assert!(matches!(store.remove(&name("db/a")), Err(StoreError::Missing(_))));
    assert!(matches!(store.read(&name("db/a")), Err(StoreError::Missing(_))));
    assert_eq!(std::fs::read_dir(place.store_dir()).unwrap().count(), 0);
}

#[test]
fn nothing_is_stored_without_owner_or_purpose_or_under_an_impossible_name() {
    let place = Place::new();
    let store = place.open().unwrap();
    let put = |at: &str, owner: &str, purpose: &str| {
        let secret = secret(&[("token", true, b"x")]);
        store.put(&name(at), owner, purpose, secret, false, WallTime(6)).err().unwrap()
    };
    assert!(matches!(put("a", " ", "p"), StoreError::Incomplete("owner")));
    assert!(matches!(put("a", "o", ""), StoreError::Incomplete("purpose")));
    assert!(matches!(put("db.age/a", "o", "p"), StoreError::Unstorable(_)));
    assert!(matches!(put("db.json/a", "o", "p"), StoreError::Unstorable(_)));
    assert!(store.list("").unwrap().is_empty());
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_the_chmod_that_mends_it() {
    let place = Place::new();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place.identity(), permissions).unwrap();
        let text = place.refused();
        assert!(text.contains(&format!("chmod 0600 {}", place.identity().display())), "{text}");
    }
    std::fs::set_permissions(place.identity(), std::fs::Permissions::from_mode(0o400)).unwrap();
    place.open().unwrap();
}

#[test]
fn a_key_file_is_never_reached_through_a_link_and_never_another_users() {
    let place = Place::new();
    let real = place.dir.path().join("real");
    std::fs::rename(place.identity(), &real).unwrap();
    std::os::unix::fs::symlink(&real, place.identity()).unwrap();
    assert!(place.refused().contains("symbolic link"));
    std::fs::remove_file(place.identity()).unwrap();
    assert!(place.refused().contains("jsi-agent init"));
    std::fs::create_dir(place.identity()).unwrap();
    assert!(place.refused().contains("not a regular file"));
    if nix::unistd::geteuid().is_root() {
        std::fs::remove_dir(place.identity()).unwrap();
        std::fs::rename(&real, place.identity()).unwrap();
        std::os::unix::fs::chown(place.identity(), Some(12345), None).unwrap();
        assert!(place.refused().contains("chown"));
    }
}

#[test]
fn what_is_no_identity_is_refused_without_being_quoted() {
    let place = Place::new();
    let secret_line = "AGE-SECRET-KEY-1QQQQ";
    for text in ["", "# only a comment\n", "planted", secret_line, "AGE-PLUGIN-YUBIKEY 1Q"] {
        std::fs::write(place.identity(), text).unwrap();
        let error = place.refused();
        assert!(!error.contains("planted") && !error.contains("QQQQ"), "{error}");
    }
}

#[test]
fn a_file_cut_short_altered_moved_or_foreign_is_never_used() {
    let place = Place::new();
    let store = place.open().unwrap();
    put(&store, "a", b"one").unwrap();
    put(&store, "b", b"two").unwrap();
    let file = |name: &str| place.store_dir().join(name);
    let damaged = |why: &str| match store.read(&name("a")).err() {
        Some(StoreError::Damaged { file: named, why: said }) => {
            assert_eq!(named, file("a.age"));
            assert!(said.contains(why), "{said}");
        }
        other => panic!("{other:?}"),
    };
    let (good, json) =
        (std::fs::read(file("a.age")).unwrap(), std::fs::read(file("a.json")).unwrap());
    for len in [0, 1, good.len() / 2, good.len() - 1] {
        std::fs::write(file("a.age"), &good[..len]).unwrap();
        damaged("cut short or altered");
    }
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(file("a.age"), &bad).unwrap();
    damaged("cut short or altered");
    // Even where the recorded hash is made to fit.
    let metadata = String::from_utf8(json.clone()).unwrap();
    let refit = |sealed: &[u8]| metadata.replace(&plain::sha256(&good), &plain::sha256(sealed));
    std::fs::write(file("a.json"), refit(&bad)).unwrap();
    damaged("does not open");
    // Another secret's file in its place.
    let other = std::fs::read(file("b.age")).unwrap();
    std::fs::write(file("a.age"), &other).unwrap();
    std::fs::write(file("a.json"), refit(&other)).unwrap();
    damaged("moved or copied");
    std::fs::copy(file("b.json"), file("a.json")).unwrap();
    damaged("belongs to another");
    // Metadata that says something else.
    std::fs::write(file("a.age"), &good).unwrap();
    std::fs::write(file("a.json"), metadata.replace("ops@", "mallory@")).unwrap();
    damaged("does not say what");
    std::fs::write(file("a.json"), "{").unwrap();
    damaged("malformed");
    std::fs::remove_file(file("a.json")).unwrap();
    damaged("missing");
    let listed = store.list("").unwrap();
    assert!(listed[0].fault.is_some() && listed[1].fault.is_none());
    // Sealed for another identity.
    std::fs::write(file("a.json"), &json).unwrap();
    std::fs::remove_file(place.identity()).unwrap();
    NewIdentity::generate().write(&place.identity(), None, None).unwrap();
    let store = place.open().unwrap();
    let error = store.read(&name("a")).err().unwrap().to_string();
    assert!(error.contains("another identity"), "{error}");
}

#[test]
fn a_replacement_cut_short_is_finished_or_forgotten_at_the_next_start() {
    let place = Place::new();
    let store = place.open().unwrap();
    let file = |name: &str| place.store_dir().join(name);
    put(&store, "a", b"old").unwrap();
    let old = (std::fs::read(file("a.age")).unwrap(), std::fs::read(file("a.json")).unwrap());
    store.remove(&name("a")).unwrap();
    put(&store, "a", b"new").unwrap();
    let new = (std::fs::read(file("a.age")).unwrap(), std::fs::read(file("a.json")).unwrap());
    drop(store);
    // Before either rename.
    std::fs::write(file("a.age"), &old.0).unwrap();
    std::fs::write(file("a.json"), &old.1).unwrap();
    std::fs::write(file(".a.age.new"), &new.0).unwrap();
    std::fs::write(file(".a.json.new"), &new.1).unwrap();
    assert_eq!(value(&place.open().unwrap(), "a"), b"old");
    // Between them.
    std::fs::write(file("a.age"), &new.0).unwrap();
    std::fs::write(file(".a.json.new"), &new.1).unwrap();
    assert_eq!(value(&place.open().unwrap(), "a"), b"new");
    // In the middle of a removal, and beside a file that is not ours.
    std::fs::remove_file(file("a.age")).unwrap();
    std::fs::write(file("notes.json"), "[]").unwrap();
    assert!(place.open().unwrap().list("").unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(place.store_dir()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.store_dir()).unwrap();
    std::fs::set_permissions(place.store_dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(place.open().err(), Some(StoreError::Exposed { .. })));
}

#[test]
fn an_identity_is_never_overwritten() {
    let place = Place::new();
    let before = std::fs::read(place.identity()).unwrap();
    assert!(NewIdentity::generate().write(&place.identity(), None, None).is_err());
    assert_eq!(std::fs::read(place.identity()).unwrap(), before);
}
