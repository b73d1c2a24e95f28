//! Sockets that a service manager opened (sd_listen_fds(3)).

use super::sys::fds;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, getsockname, getsockopt, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// First descriptor that sd_listen_fds(3) passes.
const FIRST: RawFd = 3;

/// Listening sockets that this process inherited.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    /// `FileDescriptorName=agent`, or the only one.
    pub agent: Option<OwnedFd>,
    /// `FileDescriptorName=admin`.
    pub admin: Option<OwnedFd>,
}

/// The operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Too many, or a name that means nothing.
    #[error(
        "LISTEN_FDS passes {count} sockets named {names:?}; name them agent and admin \
         (systemd: FileDescriptorName=), each once, or pass the agent socket alone"
    )]
    Names {
        /// How many.
        count: usize,
        /// What they are called.
        names: String,
    },
    /// Not what we can listen on.
    #[error("descriptor {0} of LISTEN_FDS is not a listening Unix stream socket")]
    Kind(RawFd),
    /// Not open.
    #[error("descriptor {0} of LISTEN_FDS cannot be used")]
    Closed(RawFd, #[source] io::Error),
}

impl InheritedListeners {
    /// What LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say, if they mean this process.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn from_environment() -> Result<Option<Self>, ListenError> {
        let var = |name| std::env::var(name).unwrap_or_default();
        if var("LISTEN_PID").parse() != Ok(std::process::id()) {
            return Ok(None);
        }
        let count: usize = var("LISTEN_FDS").parse().unwrap_or(0);
        let names = var("LISTEN_FDNAMES");
        if count == 0 {
            return Ok(None);
        }
        let roles = roles(count, &names).ok_or_else(|| ListenError::Names {
            count,
            names: names.chars().take(200).collect(),
        })?;
        let mut taken = Self::default();
        for (fd, role) in (FIRST..).zip(roles) {
            let socket = fds::inherited(fd).map_err(|error| ListenError::Closed(fd, error))?;
            check(&socket)?;
            match role {
                Which::Agent => taken.agent = Some(socket),
                Which::Admin => taken.admin = Some(socket),
            }
        }
        Ok(Some(taken))
    }

    /// The path of the agent socket, where it has one.
    #[must_use]
    pub fn agent_path(&self) -> Option<PathBuf> {
        path(self.agent.as_ref()?)
    }

    /// The path of the admin socket, where it has one.
    #[must_use]
    pub fn admin_path(&self) -> Option<PathBuf> {
        path(self.admin.as_ref()?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Agent,
    Admin,
}

/// Which descriptor is which; `None`: it cannot be told.
fn roles(count: usize, names: &str) -> Option<Vec<Which>> {
    let mut roles = Vec::new();
    if count == 1 && names != "admin" {
        return Some(vec![Which::Agent]);
    }
    for name in names.split(':') {
        let role = match name {
            "agent" => Which::Agent,
            "admin" => Which::Admin,
            _ => return None,
        };
        if roles.contains(&role) {
            return None;
        }
        roles.push(role);
    }
    (roles.len() == count).then_some(roles)
}

fn check(socket: &OwnedFd) -> Result<(), ListenError> {
    let wrong = || ListenError::Kind(socket.as_raw_fd());
    let listens = getsockopt(socket, sockopt::AcceptConn).map_err(|_| wrong())?;
    let kind = getsockopt(socket, sockopt::SockType).map_err(|_| wrong())?;
    let address: nix::sys::socket::SockaddrStorage =
        getsockname(socket.as_raw_fd()).map_err(|_| wrong())?;
    let unix = address.family() == Some(AddressFamily::Unix);
    if listens && kind == SockType::Stream && unix { Ok(()) } else { Err(wrong()) }
}

fn path(socket: &OwnedFd) -> Option<PathBuf> {
    let address: nix::sys::socket::UnixAddr = getsockname(socket.as_raw_fd()).ok()?;
    address.path().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_socket_is_which() {
        assert_eq!(roles(1, ""), Some(vec![Which::Agent]));
        assert_eq!(roles(1, "jsi-agent.socket"), Some(vec![Which::Agent]));
        assert_eq!(roles(1, "admin"), Some(vec![Which::Admin]));
        assert_eq!(roles(2, "admin:agent"), Some(vec![Which::Admin, Which::Agent]));
    }

    #[test]
    fn sockets_that_cannot_be_told_apart_are_refused() {
        for (count, names) in
            [(2, ""), (2, "agent"), (2, "agent:agent"), (2, "agent:x"), (3, "agent:admin:x")]
        {
            assert_eq!(roles(count, names), None, "{count} {names}");
        }
    }

    #[test]
    fn only_listening_unix_stream_sockets_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let good = OwnedFd::from(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(check(&good).is_ok());
        assert_eq!(super::path(&good), Some(path.clone()));
        assert!(check(&std::os::unix::net::UnixStream::connect(path).unwrap().into()).is_err());
        assert!(check(&std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()).is_err());
        assert!(check(&std::os::unix::net::UnixDatagram::unbound().unwrap().into()).is_err());
        assert!(check(&tempfile::tempfile().unwrap().into()).is_err());
    }
}
