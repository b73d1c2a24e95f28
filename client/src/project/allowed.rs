//! Which project files somebody has read and allowed.
//!
//! A cloned repository, or a pull, must not choose unnoticed which credentials
//! go into which variables. So a file counts only once its user has allowed its
//! path with these very bytes, as direnv does with `.envrc`. What is allowed is
//! a file of mode 0600 below `$XDG_STATE_HOME/jsi/allowed`, named by the SHA-256
//! of path and content, with both in it. It is written beside and renamed, and one
//! that does not say what its name says allows nothing: nothing torn counts.
//!
//! This is against what others put into files. It is not against programs of
//! the same user, which could write here; policy is what decides about those.

use super::read::{ReadFile, own, writable_by_others};
use crate::failure::Failure;
use nix::fcntl::OFlag;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest record, in bytes: longer than any path, escaped.
const LONGEST: u64 = 64 * 1024;

/// The place where it is kept what is allowed.
pub(crate) struct Allowed {
    directory: PathBuf,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Allowed as it is.
    Allowed,
    /// Another content of it was allowed.
    Changed,
    /// Never seen.
    New,
}

/// What is written down, for people and for `deny`.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    path: PathBuf,
    sha256: String,
}

impl Record {
    fn of(file: &ReadFile) -> Self {
        Self { path: file.path.clone(), sha256: file.digest.clone() }
    }
}

impl Allowed {
    /// Of this user: `$XDG_STATE_HOME/jsi/allowed`, else `~/.local/state/jsi/allowed`.
    pub(crate) fn of_user() -> Result<Self, Failure> {
        let variable = |name| {
            std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute())
        };
        let state = variable("XDG_STATE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".local/state")));
        match state {
            Some(state) => Ok(Self::at(state.join("jsi/allowed"))),
            None => Err(Failure::new(
                "neither HOME nor XDG_STATE_HOME is set, so it is not known what was allowed",
            )
            .advise("set one of them, or leave the project file out: --no-project")),
        }
    }

    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// How a file stands, by its path and its bytes.
    pub(crate) fn standing(&self, file: &ReadFile) -> Result<Standing, Failure> {
        match fs::symlink_metadata(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::New),
            Err(error) => return Err(cannot("read", &self.directory, &error)),
            Ok(found) if !found.is_dir() || !own(&found) || writable_by_others(&found) => {
                return Err(Failure::new(format!(
                    "{} must be a directory of yours that nobody else can write",
                    self.directory.display()
                ))
                .code(3));
            }
            Ok(_) => {}
        }
        match recorded(&self.record(file)) {
            Some(record) if record == Record::of(file) => Ok(Standing::Allowed),
            _ if self.records_of(&file.path)?.is_empty() => Ok(Standing::New),
            _ => Ok(Standing::Changed),
        }
    }

    /// Allows a file as it is.
    pub(crate) fn allow(&self, file: &ReadFile) -> Result<(), Failure> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|error| cannot("make", &self.directory, &error))?;
        let text = serde_json::to_vec(&Record::of(file)).map_err(|error| {
            Failure::new(format!("{} cannot be written down: {error}", file.path.display()))
        })?;
        let path = self.record(file);
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let written = write_down(&beside, &text).and_then(|()| fs::rename(&beside, &path));
        written.and_then(|()| File::open(&self.directory)?.sync_all()).map_err(|error| {
            let _ = fs::remove_file(&beside); // it allows nothing under that name
            cannot("write", &path, &error)
        })
    }

    /// Forgets every content of a file that was allowed; says how many there were.
    pub(crate) fn deny(&self, path: &Path) -> Result<usize, Failure> {
        let records = self.records_of(path)?;
        for record in &records {
            fs::remove_file(record).map_err(|error| cannot("remove", record, &error))?;
        }
        Ok(records.len())
    }

    fn record(&self, file: &ReadFile) -> PathBuf {
        let mut context = Context::new(&SHA256);
        context.update(b"jsi project file\0");
        context.update(file.path.as_os_str().as_bytes());
        context.update(b"\0");
        context.update(file.digest.as_bytes());
        self.directory.join(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
    }

    fn records_of(&self, path: &Path) -> Result<Vec<PathBuf>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(cannot("read", &self.directory, &error)),
        };
        let records = entries.filter_map(Result::ok).map(|entry| entry.path());
        let of_path = |record: &PathBuf| recorded(record).is_some_and(|record| record.path == path);
        Ok(records.filter(of_path).collect())
    }
}

/// What a record says; `None`: it is not one that this user wrote, or not whole.
fn recorded(path: &Path) -> Option<Record> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let found = file.metadata().ok()?;
    let ours = found.is_file() && own(&found) && !writable_by_others(&found);
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok().filter(|_| ours)?;
    serde_json::from_slice(&text).ok()
}

fn write_down(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // a process with the same number may have left it
    }
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    made.write_all(text)?;
    made.sync_all()
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::read::read;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_counts_with_the_bytes_that_were_allowed_and_with_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = Allowed::at(dir.path().join("state/allowed"));
        let path = dir.path().join("jsi.toml");
        let standing = |text: &str| {
            fs::write(&path, text).unwrap();
            let file = read(&path).unwrap();
            (allowed.standing(&file).unwrap(), file)
        };
        let (first, file) = standing("a");
        assert_eq!(first, Standing::New);
        allowed.allow(&file).unwrap();
        allowed.allow(&file).unwrap();
        assert_eq!(standing("a").0, Standing::Allowed);
        assert_eq!(standing("b").0, Standing::Changed);
        assert_eq!(standing("a").0, Standing::Allowed);
        // The same bytes elsewhere are another file.
        let other = dir.path().join("other.toml");
        fs::write(&other, "a").unwrap();
        assert_eq!(allowed.standing(&read(&other).unwrap()).unwrap(), Standing::New);
        assert_eq!(allowed.deny(&path).unwrap(), 1);
        assert_eq!(standing("a").0, Standing::New);
    }

    #[test]
    fn a_record_that_does_not_say_what_its_name_says_allows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = Allowed::at(dir.path().join("allowed"));
        let (one, two) = (dir.path().join("one.toml"), dir.path().join("two.toml"));
        fs::write(&one, "a").unwrap();
        fs::write(&two, "a").unwrap();
        let (one, two) = (read(&one).unwrap(), read(&two).unwrap());
        allowed.allow(&one).unwrap();
        allowed.allow(&two).unwrap();
        let record = allowed.record(&one);
        for torn in [Vec::new(), b"{".to_vec(), fs::read(allowed.record(&two)).unwrap()] {
            fs::write(&record, torn).unwrap();
            assert_eq!(allowed.standing(&one).unwrap(), Standing::New);
            allowed.allow(&one).unwrap();
            assert_eq!(allowed.standing(&one).unwrap(), Standing::Allowed);
        }
        assert_eq!(fs::read_dir(dir.path().join("allowed")).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn records_are_private_and_a_loose_place_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("allowed");
        let allowed = Allowed::at(place.clone());
        let path = dir.path().join("jsi.toml");
        fs::write(&path, "a").unwrap();
        let file = read(&path).unwrap();
        allowed.allow(&file).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&allowed.record(&file)), 0o600);
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(allowed.standing(&file).is_err());
    }
}
