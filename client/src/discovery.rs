//! Which socket to speak to, and who said so.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// The host agent's socket.
const SYSTEM_SOCKET: &str = "/run/jsi/agent.sock";

/// A socket and where its path came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Who named it.
    pub origin: Origin,
}

/// Who named a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable of that name.
    Variable(&'static str),
    /// `$XDG_RUNTIME_DIR/jsi`.
    RuntimeDir,
    /// The host agent's fixed place.
    System,
    /// It stands beside the agent socket.
    Beside,
    /// An inherited descriptor of that number, which `$JSI_AUTH_FD` names; the
    /// path is the one that it was connected to.
    Descriptor(i32),
    /// The program or a flag.
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "from ${name}"),
            Self::RuntimeDir => f.write_str("from $XDG_RUNTIME_DIR"),
            Self::System => f.write_str("the host agent's place"),
            Self::Beside => f.write_str("beside the agent socket; $JSI_ADMIN_SOCK overrides it"),
            Self::Descriptor(number) => write!(f, "by descriptor {number}, from $JSI_AUTH_FD"),
            Self::Given => f.write_str("as given"),
        }
    }
}

impl Socket {
    /// A socket that the program names itself.
    #[must_use]
    pub fn given(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), origin: Origin::Given }
    }
}

/// The agent socket: what the descriptor in `$JSI_AUTH_FD` leads to, where it is
/// one; else `$JSI_AUTH_SOCK`, else `$XDG_RUNTIME_DIR/jsi/agent.sock`
/// where there is one, else `/run/jsi/agent.sock` where there is one; where
/// there is neither, the first place that a user agent would take.
#[must_use]
pub fn agent_socket() -> Socket {
    inherited().unwrap_or_else(agent_socket_by_path)
}

/// The same without `$JSI_AUTH_FD`.
#[must_use]
pub(crate) fn agent_socket_by_path() -> Socket {
    agent_socket_in(&|name| std::env::var_os(name), &|path| path.symlink_metadata().is_ok())
}

/// The admin socket: `$JSI_ADMIN_SOCK`, else beside the agent socket.
#[must_use]
pub fn admin_socket() -> Socket {
    match std::env::var_os("JSI_ADMIN_SOCK").filter(|value| !value.is_empty()) {
        Some(path) => Socket { path: path.into(), origin: Origin::Variable("JSI_ADMIN_SOCK") },
        None => {
            Socket { path: beside(&agent_socket_by_path().path, "admin"), origin: Origin::Beside }
        }
    }
}

/// What `$JSI_AUTH_FD` names, where that is a connection to an agent's bootstrap
/// socket: programs often close what they inherit and leave the variable.
#[must_use]
pub fn inherited() -> Option<Socket> {
    let number = std::env::var("JSI_AUTH_FD").ok()?.parse().ok()?;
    let peer: nix::sys::socket::UnixAddr = nix::sys::socket::getpeername(number).ok()?;
    let path = peer.path()?.to_owned();
    let is_bootstrap = path.file_name()? == "bootstrap.sock"
        || path.extension().is_some_and(|end| end == "bootstrap");
    is_bootstrap.then_some(Socket { path, origin: Origin::Descriptor(number) })
}

/// The socket for packets of that agent.
pub(crate) fn bootstrap_beside(agent: &Socket) -> Socket {
    Socket { path: beside(&agent.path, "bootstrap"), origin: agent.origin.clone() }
}

fn agent_socket_in(
    variable: &dyn Fn(&str) -> Option<OsString>,
    exists: &dyn Fn(&Path) -> bool,
) -> Socket {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(path) = set("JSI_AUTH_SOCK") {
        return Socket { path: path.into(), origin: Origin::Variable("JSI_AUTH_SOCK") };
    }
    let system = Socket { path: SYSTEM_SOCKET.into(), origin: Origin::System };
    let Some(runtime_dir) = set("XDG_RUNTIME_DIR") else {
        return system;
    };
    let path = Path::new(&runtime_dir).join("jsi/agent.sock");
    if !exists(&path) && exists(&system.path) {
        return system;
    }
    Socket { path, origin: Origin::RuntimeDir }
}

/// `agent.sock` becomes `admin.sock`; any other name gains `.admin`.
fn beside(agent: &Path, what: &str) -> PathBuf {
    if agent.file_name() == Some(OsStr::new("agent.sock")) {
        return agent.with_file_name(format!("{what}.sock"));
    }
    let mut path = agent.as_os_str().to_owned();
    path.push(format!(".{what}"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(vars: &[(&str, &str)], files: &[&str]) -> Socket {
        agent_socket_in(
            &|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)),
            &|path| files.iter().any(|file| path == Path::new(file)),
        )
    }

    #[test]
    fn the_variable_wins_over_what_exists() {
        let vars = [("JSI_AUTH_SOCK", "/x/s"), ("XDG_RUNTIME_DIR", "/r")];
        let socket = found(&vars, &["/r/jsi/agent.sock"]);
        assert_eq!(socket.path, Path::new("/x/s"));
        assert_eq!(socket.origin, Origin::Variable("JSI_AUTH_SOCK"));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let socket = found(&[("JSI_AUTH_SOCK", ""), ("XDG_RUNTIME_DIR", "/r")], &[]);
        assert_eq!(socket.path, Path::new("/r/jsi/agent.sock"));
    }

    #[test]
    fn the_host_agent_is_found_where_the_user_has_none() {
        let vars = [("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(found(&vars, &[SYSTEM_SOCKET]).origin, Origin::System);
        let both = found(&vars, &[SYSTEM_SOCKET, "/r/jsi/agent.sock"]);
        assert_eq!(both.origin, Origin::RuntimeDir);
        assert_eq!(found(&[], &[]).origin, Origin::System);
    }

    #[test]
    fn the_other_sockets_stand_beside_the_agent_socket() {
        let beside = |agent: &str, what| beside(Path::new(agent), what);
        assert_eq!(beside("/r/agent.sock", "admin"), Path::new("/r/admin.sock"));
        assert_eq!(beside("/r/other", "admin"), Path::new("/r/other.admin"));
        assert_eq!(beside("/r/agent.sock", "bootstrap"), Path::new("/r/bootstrap.sock"));
    }
}
