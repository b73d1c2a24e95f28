//! Which servers a client speaks to. A secret put into a stranger's agent is
//! the stranger's, and a stranger's answer is a password of the stranger's
//! choice; so the server's uid and the socket's directory are checked first.

use serde::Deserialize;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whom to trust beside oneself and root.
#[derive(Clone, Debug)]
pub struct Trust {
    own_uid: u32,
    client_toml: PathBuf,
    passwd: PathBuf,
    file_owner: u32,
}

/// Why a server is not spoken to.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The server runs as somebody else.
    #[error(
        "the server at {} runs as uid {uid}, which is neither you, root, nor the `owner` in {}", socket.display(), client_toml.display()
    )]
    ForeignServer {
        /// The socket.
        socket: PathBuf,
        /// The server's uid.
        uid: u32,
        /// Where a trusted owner would be named.
        client_toml: PathBuf,
    },
    /// Anybody could put a socket of their own there.
    #[error("{} can be written by everybody, so anybody could serve a socket there", .0.display())]
    OpenDirectory(PathBuf),
    /// Its owner could put a socket there.
    #[error(
        "{} belongs to uid {uid}, which is neither you, root, nor the `owner` in {}", directory.display(), client_toml.display()
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its owner.
        uid: u32,
        /// Where a trusted owner would be named.
        client_toml: PathBuf,
    },
    /// Somebody other than root could have written the client configuration.
    #[error("{} must belong to root and be writable by root alone", .0.display())]
    LooseConfiguration(PathBuf),
    /// The client configuration cannot be read or says nothing sensible.
    #[error("{}: {why}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientToml {
    owner: Option<Owner>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Owner {
    Uid(u32),
    Name(String),
}

impl Trust {
    /// The rule of this host: oneself, root, and the `owner` (a uid or a name)
    /// in `/etc/jsi/client.toml`.
    #[must_use]
    pub fn host() -> Self {
        Self {
            own_uid: nix::unistd::geteuid().as_raw(),
            client_toml: "/etc/jsi/client.toml".into(),
            passwd: "/etc/passwd".into(),
            file_owner: 0,
        }
    }

    /// Checks the directory in which the socket stands.
    ///
    /// # Errors
    /// Says whose it is. A directory that is not there is no error: connecting
    /// will say so.
    pub fn check_directory(&self, socket: &Path) -> Result<(), TrustError> {
        const STICKY: u32 = 0o1000;
        const WRITABLE_BY_OTHERS: u32 = 0o002;
        let directory = match socket.parent() {
            None => return Ok(()),
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
        };
        let Ok(found) = fs::metadata(directory) else {
            return Ok(());
        };
        if found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0 {
            return Err(TrustError::OpenDirectory(directory.to_owned()));
        }
        if self.trusts(found.uid())? {
            return Ok(());
        }
        Err(TrustError::ForeignDirectory {
            directory: directory.to_owned(),
            uid: found.uid(),
            client_toml: self.client_toml.clone(),
        })
    }

    /// Checks the uid of a server, as SO_PEERCRED gives it.
    ///
    /// # Errors
    /// Says whose it is.
    pub fn check_server(&self, socket: &Path, uid: u32) -> Result<(), TrustError> {
        if self.trusts(uid)? {
            return Ok(());
        }
        Err(TrustError::ForeignServer {
            socket: socket.to_owned(),
            uid,
            client_toml: self.client_toml.clone(),
        })
    }

    /// The configuration is read only when the answer depends on it.
    fn trusts(&self, uid: u32) -> Result<bool, TrustError> {
        Ok(uid == self.own_uid || uid == 0 || self.owner()? == Some(uid))
    }

    fn owner(&self) -> Result<Option<u32>, TrustError> {
        let path = &self.client_toml;
        let fault = |why: String| TrustError::Configuration { path: path.clone(), why };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error.to_string())),
        };
        let found = file.metadata().map_err(|error| fault(error.to_string()))?;
        if found.uid() != self.file_owner || found.mode() & 0o022 != 0 {
            return Err(TrustError::LooseConfiguration(path.clone()));
        }
        let text = io::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let parsed: ClientToml =
            toml::from_str(&text).map_err(|error| fault(error.message().to_owned()))?;
        match parsed.owner {
            None => Ok(None),
            Some(Owner::Uid(uid)) => Ok(Some(uid)),
            Some(Owner::Name(name)) => match name.parse() {
                Ok(uid) => Ok(Some(uid)),
                Err(_) => match self.uid_of(&name) {
                    Some(uid) => Ok(Some(uid)),
                    None => Err(fault(format!(
                        "there is no user {name:?} in {}; give its uid as a number",
                        self.passwd.display()
                    ))),
                },
            },
        }
    }

    /// By hand: NSS look-ups in a static glibc program load shared objects and
    /// crash on an unknown uid.
    fn uid_of(&self, name: &str) -> Option<u32> {
        let text = fs::read_to_string(&self.passwd).ok()?;
        text.lines().find_map(|line| {
            let mut columns = line.split(':');
            (columns.next() == Some(name)).then(|| columns.nth(1)?.parse().ok())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const STRANGER: u32 = 4_000_001;

    /// A rule for a uid that is nobody here, with files of the test's own.
    fn rule(dir: &Path, client_toml: &str) -> Trust {
        let path = dir.join("client.toml");
        fs::write(&path, client_toml).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let passwd = dir.join("passwd");
        fs::write(&passwd, "root:x:0:0::/:/bin/sh\njsi:x:4000001:7::/:/bin/false\n").unwrap();
        Trust {
            own_uid: 4_000_000,
            client_toml: path,
            passwd,
            file_owner: nix::unistd::geteuid().as_raw(),
        }
    }

    #[test]
    fn a_server_of_another_uid_is_not_spoken_to() {
        let dir = tempfile::tempdir().unwrap();
        let rule = rule(dir.path(), "");
        let socket = Path::new("/x/agent.sock");
        assert!(rule.check_server(socket, 4_000_000).is_ok());
        assert!(rule.check_server(socket, 0).is_ok());
        let refused = rule.check_server(socket, STRANGER).unwrap_err().to_string();
        assert!(refused.contains("uid 4000001"), "{refused}");
    }

    #[test]
    fn the_owner_is_trusted_by_uid_and_by_name() {
        for text in ["owner = 4000001", "owner = \"jsi\"", "owner = \"4000001\""] {
            let dir = tempfile::tempdir().unwrap();
            let rule = rule(dir.path(), text);
            assert!(rule.check_server(Path::new("/x"), STRANGER).is_ok(), "{text}");
            assert!(rule.check_server(Path::new("/x"), STRANGER + 1).is_err(), "{text}");
        }
    }

    #[test]
    fn configuration_that_is_wrong_or_loose_is_not_believed() {
        for text in ["owner = \"nobody-here\"", "ownr = 4000001", "owner = -1", "owner ="] {
            let dir = tempfile::tempdir().unwrap();
            let rule = rule(dir.path(), text);
            assert!(rule.check_server(Path::new("/x"), STRANGER).is_err(), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut loose = rule(dir.path(), "owner = 4000001");
        fs::set_permissions(&loose.client_toml, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(
            loose.check_server(Path::new("/x"), STRANGER),
            Err(TrustError::LooseConfiguration(_))
        ));
        fs::set_permissions(&loose.client_toml, fs::Permissions::from_mode(0o644)).unwrap();
        loose.file_owner = STRANGER;
        assert!(loose.check_server(Path::new("/x"), STRANGER).is_err());
    }

    #[test]
    fn a_socket_in_a_world_writable_directory_is_not_used_unless_it_is_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust { own_uid: nix::unistd::geteuid().as_raw(), ..rule(dir.path(), "") };
        let place = dir.path().join("open");
        fs::create_dir(&place).unwrap();
        for (mode, good) in [(0o777, false), (0o1777, true), (0o755, true), (0o700, true)] {
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(trust.check_directory(&place.join("s")).is_ok(), good, "{mode:o}");
        }
    }
}
