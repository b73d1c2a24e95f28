//! Which project files somebody has read and allowed.
//!
//! A cloned repository, or a pull, must not choose unnoticed which credentials
//! go into which variables. So a file counts only once its user has allowed its
//! path with these very bytes, as direnv does with `.envrc`. What is allowed is
//! a file of mode 0600 below `$XDG_STATE_HOME/jsi/allowed`, named by the SHA-256
//! of path and content: nothing is ever rewritten, so nothing can be torn.
//!
//! This is against what others put into files. It is not against programs of
//! the same user, which could write here; policy is what decides about those.

use super::read::{ReadFile, own, writable_by_others};
use crate::failure::Failure;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
#[derive(Serialize, Deserialize)]
struct Record {
    path: PathBuf,
    sha256: String,
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
        let record = self.record(file);
        match fs::symlink_metadata(&record) {
            Ok(found) if found.is_file() && own(&found) && !writable_by_others(&found) => {
                Ok(Standing::Allowed)
            }
            _ if self.records_of(&file.path)?.is_empty() => Ok(Standing::New),
            _ => Ok(Standing::Changed),
        }
    }

    /// Allows a file as it is.
    pub(crate) fn allow(&self, file: &ReadFile) -> Result<(), Failure> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|error| cannot("make", &self.directory, &error))?;
        let record = Record { path: file.path.clone(), sha256: file.digest.clone() };
        let text = serde_json::to_vec(&record).map_err(|error| {
            Failure::new(format!("{} cannot be written down: {error}", file.path.display()))
        })?;
        let path = self.record(file);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            opened => opened.and_then(|mut made| made.write_all(&text)).map_err(|error| {
                let _ = fs::remove_file(&path); // half of a record allows nothing
                cannot("write", &path, &error)
            }),
        }
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
        let of_path = |record: &PathBuf| {
            let text = fs::read(record).unwrap_or_default();
            serde_json::from_slice::<Record>(&text).is_ok_and(|record| record.path == path)
        };
        Ok(records.filter(of_path).collect())
    }
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
