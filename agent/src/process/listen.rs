//! Sockets that a service manager opened (sd_listen_fds(3)).

use super::sys::fds;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, getsockname, getsockopt, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// First descriptor that sd_listen_fds(3) passes.
const FIRST: RawFd = 3;
/// One more than there are kinds of them.
const MOST: usize = 4;

/// Listening sockets that this process inherited.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    /// `FileDescriptorName=agent`, or the only one.
    pub agent: Option<OwnedFd>,
    /// `FileDescriptorName=admin`.
    pub admin: Option<OwnedFd>,
    /// The one for packets (`ListenSequentialPacket=`), which systemd names like
    /// the agent socket of the same unit.
    pub bootstrap: Option<OwnedFd>,
}

/// The operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Too many, or a name that means nothing.
    #[error(
        "LISTEN_FDS passes {count} sockets named {names:?}; name them agent and admin \
         (systemd: FileDescriptorName=), each once, or pass the agent socket alone; one for \
         packets (ListenSequentialPacket=) may come with the agent socket"
    )]
    Names {
        /// How many.
        count: usize,
        /// What they are called.
        names: String,
    },
    /// Not what we can listen on.
    #[error("descriptor {0} of LISTEN_FDS is not a listening Unix socket for streams or packets")]
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
        let mut sockets = Vec::new();
        for fd in (FIRST..).take(count.min(MOST)) {
            let socket = fds::inherited(fd).map_err(|error| ListenError::Closed(fd, error))?;
            let is_packets = check(&socket)?;
            sockets.push((socket, is_packets));
        }
        let packets: Vec<bool> = sockets.iter().map(|(_, is_packets)| *is_packets).collect();
        let roles = roles(count, &packets, &names).ok_or_else(|| ListenError::Names {
            count,
            names: names.chars().take(200).collect(),
        })?;
        let mut taken = Self::default();
        for ((socket, _), role) in sockets.into_iter().zip(roles) {
            match role {
                Which::Agent => taken.agent = Some(socket),
                Which::Admin => taken.admin = Some(socket),
                Which::Bootstrap => taken.bootstrap = Some(socket),
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
    Bootstrap,
}

/// Which descriptor is which, and which of them are for packets; `None`: it
/// cannot be told.
fn roles(count: usize, packets: &[bool], names: &str) -> Option<Vec<Which>> {
    let mut roles = Vec::new();
    if count == 1 && packets == [false] && names != "admin" {
        return Some(vec![Which::Agent]);
    }
    for (name, is_packets) in names.split(':').zip(packets) {
        let role = match (name, is_packets) {
            ("agent", false) => Which::Agent,
            ("admin", false) => Which::Admin,
            ("agent" | "bootstrap", true) => Which::Bootstrap,
            _ => return None,
        };
        if roles.contains(&role) {
            return None;
        }
        roles.push(role);
    }
    (roles.len() == count && names.split(':').count() == count).then_some(roles)
}

/// Whether it is for packets.
fn check(socket: &OwnedFd) -> Result<bool, ListenError> {
    let wrong = || ListenError::Kind(socket.as_raw_fd());
    let listens = getsockopt(socket, sockopt::AcceptConn).map_err(|_| wrong())?;
    let kind = getsockopt(socket, sockopt::SockType).map_err(|_| wrong())?;
    let address: nix::sys::socket::SockaddrStorage =
        getsockname(socket.as_raw_fd()).map_err(|_| wrong())?;
    let unix = address.family() == Some(AddressFamily::Unix);
    match kind {
        SockType::Stream if listens && unix => Ok(false),
        SockType::SeqPacket if listens && unix => Ok(true),
        _ => Err(wrong()),
    }
}

fn path(socket: &OwnedFd) -> Option<PathBuf> {
    let address: nix::sys::socket::UnixAddr = getsockname(socket.as_raw_fd()).ok()?;
    address.path().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds_say_which_socket_is_which() {
        use Which::{Admin, Agent, Bootstrap};
        let (stream, packets) = (false, true);
        assert_eq!(roles(1, &[stream], ""), Some(vec![Agent]));
        assert_eq!(roles(1, &[stream], "jsi-agent.socket"), Some(vec![Agent]));
        assert_eq!(roles(1, &[stream], "admin"), Some(vec![Admin]));
        assert_eq!(roles(2, &[stream; 2], "admin:agent"), Some(vec![Admin, Agent]));
        let all = roles(3, &[stream, packets, stream], "agent:agent:admin");
        assert_eq!(all, Some(vec![Agent, Bootstrap, Admin]));
        assert_eq!(roles(2, &[packets, stream], "bootstrap:agent"), Some(vec![Bootstrap, Agent]));
    }

    #[test]
    fn sockets_that_cannot_be_told_apart_are_refused() {
        let streams = [false; 3];
        for (count, names) in
            [(2, ""), (2, "agent"), (2, "agent:agent"), (2, "agent:x"), (3, "agent:admin:x")]
        {
            assert_eq!(roles(count, &streams[..count], names), None, "{count} {names}");
        }
        assert_eq!(roles(2, &[true, true], "agent:bootstrap"), None);
        assert_eq!(roles(1, &[true], "admin"), None);
        assert_eq!(roles(5, &[false; 4], "agent:admin:x:y:z"), None);
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
