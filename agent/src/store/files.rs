//! The store's files: `<name>.age` and `<name>.json` beside it, nested as
//! names are. Replaced atomically: written beside, synced, renamed.

use super::error::StoreError;
use super::plain::{Metadata, StoredInfo, sha256};
use crate::names::CredentialName;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Longest file that is read: [`jsi_proto::MAX_SECRET`] in base64, and room.
pub(super) const MAX_LEN: u64 = 4 * jsi_proto::MAX_SECRET as u64;

/// Where a change of identity is prepared; nothing in it is the store's yet.
pub(super) const STAGE: &str = ".rekey";

/// The store's directory, and the lock on it: shared by whoever uses the store,
/// alone for a change of identity.
pub(super) struct Files(PathBuf, #[expect(dead_code, reason = "held, not read")] File);

impl Files {
    pub(super) fn open(dir: &Path, alone: bool) -> Result<Self, StoreError> {
        let io = StoreError::io(dir);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let facts = made.and_then(|()| std::fs::metadata(dir)).map_err(io)?;
        if facts.mode() & 0o022 != 0 {
            return Err(StoreError::Exposed { path: dir.to_owned() });
        }
        let handle = File::open(dir).map_err(StoreError::io(dir))?;
        let locked = if alone { handle.try_lock() } else { handle.try_lock_shared() };
        match locked {
            Ok(()) => Ok(Self(dir.to_owned(), handle)),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::InUse { dir: dir.to_owned(), rekeying: !alone })
            }
            Err(TryLockError::Error(error)) => Err(StoreError::io(dir)(error)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    pub(super) fn secret_path(&self, name: &CredentialName) -> PathBuf {
        self.0.join(format!("{name}.age"))
    }

    /// Inode and ctime (in nanoseconds) of the age file: a replacement is
    /// another inode, an edit in place another ctime, which no caller can set.
    pub(super) fn version(&self, name: &CredentialName) -> Result<u128, StoreError> {
        let path = self.secret_path(name);
        match std::fs::symlink_metadata(&path) {
            Ok(facts) => {
                let nanos = facts.ctime().wrapping_mul(1_000_000_000);
                let changed = nanos.wrapping_add(facts.ctime_nsec());
                Ok(u128::from(facts.ino()) << 64 | u128::from(changed.cast_unsigned()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(StoreError::Missing(name.clone()))
            }
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    fn metadata_path(&self, name: &CredentialName) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// A directory of that name must not be in the way of another's file.
    pub(super) fn check_name(&self, name: &CredentialName) -> Result<(), StoreError> {
        let taken = |parent: &str| parent.ends_with(".age") || parent.ends_with(".json");
        if name.parents().any(taken) {
            return Err(StoreError::Unstorable(name.clone()));
        }
        Ok(())
    }

    pub(super) fn exists(&self, name: &CredentialName) -> bool {
        self.secret_path(name).symlink_metadata().is_ok_and(|facts| facts.is_file())
    }

    /// Replaces both files. A crash in between leaves the metadata under its
    /// temporary name, where the next start finds it.
    pub(super) fn write(&self, info: &StoredInfo, sealed: &[u8]) -> Result<(), StoreError> {
        let secret = self.secret_path(&info.name);
        let metadata = self.metadata_path(&info.name);
        let parent = secret.parent().unwrap_or(&self.0);
        let text = serde_json::to_vec_pretty(&Metadata::of(info, sealed))
            .map_err(|error| StoreError::Bug(error.to_string()))?;
        self.make_dirs(parent).map_err(StoreError::io(parent))?;
        write_beside(&secret, sealed, 0o600).map_err(StoreError::io(&secret))?;
        write_beside(&metadata, &text, 0o600).map_err(StoreError::io(&metadata))?;
        let renames = || {
            std::fs::rename(beside(&secret), &secret)?;
            sync_dir(parent)?;
            std::fs::rename(beside(&metadata), &metadata)?;
            sync_dir(parent)
        };
        renames().map_err(StoreError::io(&secret))
    }

    /// As [`Files::write`] for many: what became of each. Between the steps the
    /// file system is synced once, so that no rename outlives what it depends on.
    pub(super) fn write_batch(
        &self,
        secrets: &[(&StoredInfo, &[u8])],
        access: &RwLock<()>,
    ) -> Vec<Result<(), StoreError>> {
        let mut done: Vec<_> =
            secrets.iter().map(|(info, sealed)| self.write_aside(info, sealed)).collect();
        let mut step = |work: &dyn Fn(&StoredInfo) -> Result<(), StoreError>| {
            let synced = self.sync_all();
            for ((info, _), done) in secrets.iter().zip(&mut done) {
                if done.is_ok() {
                    *done = match &synced {
                        Ok(()) => work(info),
                        Err(error) => {
                            Err(StoreError::io(&self.0)(io::Error::other(error.to_string())))
                        }
                    };
                }
            }
        };
        let rename =
            |path: PathBuf| std::fs::rename(beside(&path), &path).map_err(StoreError::io(&path));
        // The long wait, while readers go on.
        step(&|_| Ok(()));
        {
            let _alone = access.write().unwrap_or_else(PoisonError::into_inner);
            step(&|info| rename(self.secret_path(&info.name)));
            step(&|info| rename(self.metadata_path(&info.name)));
        }
        step(&|_| Ok(()));
        for ((info, _), done) in secrets.iter().zip(&done) {
            if done.is_err() {
                self.clear_aside(info);
            }
        }
        done
    }

    fn write_aside(&self, info: &StoredInfo, sealed: &[u8]) -> Result<(), StoreError> {
        let (secret, metadata) = (self.secret_path(&info.name), self.metadata_path(&info.name));
        let text = serde_json::to_vec_pretty(&Metadata::of(info, sealed))
            .map_err(|error| StoreError::Bug(error.to_string()))?;
        let parent = secret.parent().unwrap_or(&self.0);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(StoreError::io(parent))?;
        write_unsynced(&secret, sealed).map_err(StoreError::io(&secret))?;
        write_unsynced(&metadata, &text).map_err(StoreError::io(&metadata))
    }

    /// What is left of one that failed, but for metadata whose secret is in place:
    /// that is the last step, which a start takes.
    fn clear_aside(&self, info: &StoredInfo) {
        let (secret, metadata) = (self.secret_path(&info.name), self.metadata_path(&info.name));
        if std::fs::remove_file(beside(&secret)).is_ok() || !secret.exists() {
            let _ = std::fs::remove_file(beside(&metadata)); // else a start clears it
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(nix::unistd::syncfs(File::open(&self.0)?)?)
    }

    pub(super) fn remove(&self, name: &CredentialName) -> Result<(), StoreError> {
        let (secret, metadata) = (self.secret_path(name), self.metadata_path(name));
        let parent = secret.parent().unwrap_or(&self.0);
        match std::fs::remove_file(&secret) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::Missing(name.clone()));
            }
            result => result.map_err(StoreError::io(&secret))?,
        }
        match std::fs::remove_file(&metadata) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.map_err(StoreError::io(&metadata))?,
        }
        sync_dir(parent).map_err(StoreError::io(parent))?;
        // Directories that are empty now; the first that is not ends it.
        let below = parent.ancestors().take_while(|dir| *dir != self.0);
        for dir in below {
            if std::fs::remove_dir(dir).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Metadata, and the hash that the age file must have.
    pub(super) fn info(&self, name: &CredentialName) -> Result<(StoredInfo, String), StoreError> {
        let file = self.secret_path(name);
        if !self.exists(name) {
            return Err(StoreError::Missing(name.clone()));
        }
        let damaged = |why| StoreError::Damaged { file: file.clone(), why };
        let path = self.metadata_path(name);
        let bytes = match read_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged("its metadata (.json beside it) is missing".to_owned()));
            }
            result => result.map_err(StoreError::io(&path))?,
        };
        let metadata = Metadata::parse(&bytes).map_err(&damaged)?;
        if metadata.info.name != *name {
            return Err(damaged("its metadata belongs to another secret".to_owned()));
        }
        Ok((metadata.info, metadata.sha256))
    }

    /// Metadata and sealed file, held against each other.
    pub(super) fn read(&self, name: &CredentialName) -> Result<(StoredInfo, Vec<u8>), StoreError> {
        let (info, hash) = self.info(name)?;
        let file = self.secret_path(name);
        let sealed = read_file(&file).map_err(StoreError::io(&file))?;
        if sha256(&sealed) != hash {
            let why = "it was cut short or altered (its hash is not the recorded one)".to_owned();
            return Err(StoreError::Damaged { file, why });
        }
        Ok((info, sealed))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<StoredInfo>, StoreError> {
        let prefix = prefix.trim_end_matches('/');
        let mut found = Vec::new();
        self.walk(&mut |path| {
            if let Some(name) = self.name_of(path, ".age")
                && below(name.as_str(), prefix)
            {
                found.push(self.info(&name).map_or_else(|error| faulty(&name, &error), |i| i.0));
            }
            Ok(())
        })?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The secret that a file of that ending belongs to.
    pub(super) fn name_of(&self, path: &Path, ending: &str) -> Option<CredentialName> {
        let name = path.strip_prefix(&self.0).ok()?.to_str()?.strip_suffix(ending)?;
        CredentialName::new(name).ok()
    }

    /// Every file, links not followed; nothing of what is under way beside them.
    pub(super) fn walk(
        &self,
        each: &mut dyn FnMut(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut dirs = vec![self.0.clone()];
        while let Some(dir) = dirs.pop() {
            let entries = std::fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in entries.map_err(StoreError::io(&dir))? {
                let path = entry.path();
                let kind = entry.file_type().map_err(StoreError::io(&path))?;
                if kind.is_dir() {
                    if dir != self.0 || !is_under_way(&entry.file_name()) {
                        dirs.push(path);
                    }
                } else if kind.is_file() {
                    each(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Metadata of the secret in that age file, where it has any and they fit.
    pub(super) fn metadata_of(&self, path: &Path, sealed: &[u8]) -> Option<(PathBuf, StoredInfo)> {
        let name = self.name_of(path, ".age")?;
        let (info, hash) = self.info(&name).ok()?;
        (hash == sha256(sealed)).then(|| (self.metadata_path(&name), info))
    }

    fn make_dirs(&self, parent: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // Each new directory is an entry of the one above it.
        for dir in parent.ancestors().take_while(|dir| *dir != self.0) {
            if let Some(above) = dir.parent() {
                sync_dir(above)?;
            }
        }
        Ok(())
    }
}

/// A change of identity, a restore or a backup: nothing in it is the store's yet, or
/// all of it is there already.
fn is_under_way(name: &std::ffi::OsStr) -> bool {
    let begins = |with: &str| name.as_encoded_bytes().starts_with(with.as_bytes());
    name == STAGE || begins(super::swap::WORK) || begins(super::snapshot::PREFIX)
}

fn below(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The names of all secrets in a directory, which is not locked for that; none
/// where there is no such directory.
pub(super) fn names_in(dir: &Path) -> Result<BTreeSet<CredentialName>, StoreError> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(below) = dirs.pop() {
        let entries = std::fs::read_dir(&below).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match entries {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(StoreError::io(&below))?,
        };
        for entry in entries {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            } else if let Ok(relative) = path.strip_prefix(dir) {
                let name = relative.to_str().and_then(|name| name.strip_suffix(".age"));
                found.extend(name.and_then(|name| CredentialName::new(name).ok()));
            }
        }
    }
    Ok(found)
}

fn faulty(name: &CredentialName, error: &StoreError) -> StoredInfo {
    StoredInfo {
        name: name.clone(),
        owner: String::new(),
        purpose: String::new(),
        stored_at: crate::clock::WallTime(0),
        fields: Vec::new(),
        version: 0,
        fault: Some(error.to_string()),
    }
}

/// `.<file>.new`: no credential's name begins with a dot.
pub(super) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

/// Replaces one file atomically: written beside, synced, renamed.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, bytes, mode)?;
    std::fs::rename(beside(path), path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let path = beside(path);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_as(&path, bytes, mode)
}

/// A file that was not there, of mode 0600, synced.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_as(path, bytes, 0o600)
}

/// As [`write_beside`], to be synced with others.
fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = beside(path);
    let _ = std::fs::remove_file(&path); // what is there still will be in the way
    new_file(&path, 0o600, |file| file.write_all(bytes))
}

fn write_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    new_file(path, mode, |file| file.write_all(bytes).and_then(|()| file.sync_all()))
}

fn new_file(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    fill(&mut file).inspect_err(|_| {
        // A start would clear it; what can be cleared now is.
        let _ = std::fs::remove_file(path);
    })
}

pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > MAX_LEN {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no file of this store"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(0));
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
