//! Directories that must be there before the broker begins.

use crate::config::{Config, Mode, RunAs};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode as Bits, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the directory {path:?}")]
pub struct PlaceError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// As root, before privileges go: what only root may make, owned by the
/// agent's user.
pub(super) fn prepare_as_root(config: &Config, user: &RunAs) -> Result<(), PlaceError> {
    let sockets =
        [&config.socket, &config.admin_socket].into_iter().filter_map(|path| path.parent());
    let wanted = sockets
        .map(|dir| (dir, 0o755))
        .chain([(config.store_dir.as_path(), 0o700), (config.log_dir.as_path(), 0o700)]);
    for (dir, bits) in wanted {
        give(dir, bits, user).map_err(|source| PlaceError { path: dir.to_owned(), source })?;
    }
    Ok(())
}

/// Makes the first missing directory on the way, where root owns the one above
/// it: in a directory that others may write, root would follow their links.
/// What lies below, the agent makes under its own uid.
fn give(dir: &Path, bits: u32, user: &RunAs) -> io::Result<()> {
    let Some(missing) = dir.ancestors().take_while(|dir| !dir.exists()).last() else {
        return Ok(());
    };
    let (Some(above), Some(name)) = (missing.parent(), missing.file_name()) else { return Ok(()) };
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let above = open(above, flags, Bits::empty())?;
    let is = fstat(&above)?;
    if is.st_uid != 0 || is.st_mode & 0o022 != 0 {
        return Ok(());
    }
    mkdirat(&above, name, Bits::from_bits_truncate(0o700))?;
    let made = nix::fcntl::openat(&above, name, flags, Bits::empty())?;
    fchown(&made, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    // Exactly these bits: the umask is 077.
    nix::sys::stat::fchmod(&made, Bits::from_bits_truncate(bits))?;
    Ok(())
}

/// Under the agent's own uid: what is still missing, mode 0700; for a user
/// agent the directories of these sockets too.
pub(super) fn prepare<'a>(
    config: &'a Config,
    sockets: impl Iterator<Item = &'a Path>,
) -> Result<(), PlaceError> {
    let mut dirs = vec![config.store_dir.as_path(), config.log_dir.as_path()];
    if config.mode == Mode::User {
        dirs.extend(sockets.filter_map(Path::parent));
    }
    for dir in dirs {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| PlaceError { path: dir.to_owned(), source })?;
    }
    Ok(())
}

/// Is this the place that configuration falls back to where there is no
/// runtime directory? Below the home directory a socket would outlive a boot,
/// and two agents could not run at once.
#[must_use]
pub fn in_state_directory(socket: &Path) -> bool {
    socket.ends_with("jsi/run/agent.sock")
}

/// A directory of mode 0700 below /tmp, as ssh-agent makes one.
#[derive(Debug)]
pub struct PrivateDir(PathBuf);

impl PrivateDir {
    /// Makes it.
    ///
    /// # Errors
    /// When /tmp cannot be written.
    pub fn create() -> io::Result<Self> {
        let mut template = b"/tmp/jsi-XXXXXX\0".to_vec();
        // SAFETY: the template is NUL-terminated and ours; mkdtemp(3) writes
        // over the X's only.
        if unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) }.is_null() {
            return Err(io::Error::last_os_error());
        }
        template.pop();
        Ok(Self(PathBuf::from(OsString::from_vec(template))))
    }

    /// One that an earlier process of this agent made.
    pub(super) fn inherited(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it and the agent's sockets in it; nothing else, and only if it is still ours.
    pub fn remove(self) {
        let ours = std::fs::symlink_metadata(&self.0)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw());
        if ours {
            for name in ["agent.sock", "admin.sock", "bootstrap.sock"] {
                let _ = std::fs::remove_file(self.0.join(name));
            }
            let _ = std::fs::remove_dir(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_directory_is_private_and_goes_with_its_sockets() {
        let dir = PrivateDir::create().unwrap();
        let path = dir.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(path.join("agent.sock"), "").unwrap();
        dir.remove();
        assert!(!path.exists());
    }

    #[test]
    fn root_makes_nothing_in_a_directory_that_another_owns() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = RunAs { user: "nobody".to_owned(), uid: 65534, gid: 65534 };
        let dir = tempfile::tempdir().unwrap();
        give(&dir.path().join("mine/deep"), 0o755, &user).unwrap();
        let meta = dir.path().join("mine").metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (65534, 0o755));
        assert!(!dir.path().join("mine/deep").exists());
        give(&dir.path().join("mine/deep"), 0o755, &user).unwrap();
        assert!(!dir.path().join("mine/deep").exists());
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        assert!(give(&dir.path().join("link/jsi-test-must-not-exist"), 0o755, &user).is_err());
    }
}
