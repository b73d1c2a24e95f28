//! The socket file: made with its mode from the first moment, never in the
//! place of anything but a dead socket of our own, and taken away at the end.

use crate::mutants::{Check, on};
use crate::process::peer::{name_senders, refuse_descriptors};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr,
    getsockname, getsockopt, listen, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod, umask};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes of a path in `sockaddr_un`, without the NUL at its end (unix(7)).
const LONGEST_PATH: usize = 107;
/// Connections that wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;
/// How often, and how far apart, the directory's lock is tried: another agent
/// that is just binding holds it for a moment.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a socket cannot be listened on. All are the operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Longer than a socket address can be.
    #[error(
        "the socket path {path} has {len} bytes, but a socket path has at most {LONGEST_PATH}; choose a shorter one"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        len: usize,
    },
    /// Somebody listens there.
    #[error("{0} is served already, by another agent; stop that one or choose another path")]
    Served(PathBuf),
    /// Something that must not be replaced is there.
    #[error("{path} is {what}, which is not replaced; remove it or choose another path")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Others could put their own socket there.
    #[error(
        "the directory {path} {why}, so that others could replace the socket; use one that only its owner can write to"
    )]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another process holds the directory's lock.
    #[error("the directory {0} is locked by another process, as while an agent starts; try again")]
    Locked(PathBuf),
    /// A descriptor that was passed in cannot be served.
    #[error(
        "the inherited descriptor {fd} is not a listening unix stream socket; check the socket unit's ListenStream="
    )]
    NotAListener {
        /// Its number.
        fd: i32,
    },
    /// A system call failed.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A socket that is listened on, and its file.
pub struct BoundSocket {
    /// For [`super::accept_loop`]; does not block.
    pub listener: UnixListener,
    /// Removes the file when it is dropped.
    pub file: SocketFile,
}

/// The file of a socket that we bound; removed on drop, if it is still that one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and, since an inode's number is used again, when it was made
/// (where the file system says so).
type Identity = (u64, u64, Option<SystemTime>);

/// The umask is the whole process's: two that bind must not restore each other's.
static UMASK: Mutex<()> = Mutex::new(());

/// Listens on `path`. The file has `mode` from the first moment, and `gid`, if
/// one is named, before anybody can connect.
///
/// Changes the process's umask for a moment: to be called before other threads
/// create files. The senders of all bytes will be named, and descriptors are
/// refused where the kernel can, both from the first connection on.
///
/// # Errors
/// See [`BindError`].
pub fn bind(path: &Path, mode: u32, gid: Option<u32>) -> Result<BoundSocket, BindError> {
    bind_as(SockType::Stream, path, mode, gid)
}

/// The same for packets (`SOCK_SEQPACKET`), for [`super::accept_loop`]'s bootstrap.
///
/// # Errors
/// See [`BindError`].
pub fn bind_packets(path: &Path, mode: u32) -> Result<BoundSocket, BindError> {
    bind_as(SockType::SeqPacket, path, mode, None)
}

fn bind_as(
    kind: SockType,
    path: &Path,
    mode: u32,
    gid: Option<u32>,
) -> Result<BoundSocket, BindError> {
    let len = path.as_os_str().as_bytes().len();
    if len > LONGEST_PATH {
        return Err(BindError::TooLong { path: path.to_owned(), len });
    }
    let io = |what| move |source: Errno| failed(what, path)(source.into());
    let directory = safe_directory(path)?;
    let _lock = lock(directory)?;
    clear(path)?;
    let address = UnixAddr::new(path).map_err(io("name a socket"))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, kind, flags, None).map_err(io("make a socket for"))?;
    name_senders(&socket).map_err(failed("set SO_PASSCRED for", path))?;
    if on(Check::PassRights) {
        refuse_descriptors(&socket).map_err(failed("set SO_PASSRIGHTS for", path))?;
    }
    // The file gets the mode of the socket's own inode, less the umask. So the
    // umask need not touch the execute bits, and a directory that another
    // thread makes meanwhile stays usable.
    fchmod(&socket, Mode::from_bits_truncate(mode & 0o777))
        .map_err(io("set the mode of the socket for"))?;
    let bound = {
        let _one_at_a_time = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        let before = umask(Mode::from_bits_truncate(!mode & 0o666));
        let bound = nix::sys::socket::bind(socket.as_raw_fd(), &address);
        umask(before);
        bound
    };
    bound.map_err(io("bind a socket to"))?;
    let made = std::fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&made) };
    if let Some(gid) = gid {
        let group = Some(nix::unistd::Gid::from_raw(gid));
        let follow = AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(nix::fcntl::AT_FDCWD, path, None, group, follow)
            .map_err(io("change the group of"))?;
    }
    // Nobody can connect before this.
    let backlog = Backlog::new(BACKLOG).map_err(io("listen on"))?;
    listen(&socket, backlog).map_err(io("listen on"))?;
    Ok(BoundSocket { listener: UnixListener::from(socket), file })
}

/// Takes a listener that was passed in (`LISTEN_FDS`, sd_listen_fds(3)).
///
/// Connections made before this call came to a socket that did not name
/// senders: what they sent without credentials is refused, and they try again.
///
/// # Errors
/// `NotAListener`, or `Io` where its options cannot be set.
pub fn inherited(fd: OwnedFd) -> Result<UnixListener, BindError> {
    inherited_as(SockType::Stream, fd)
}

/// The same for packets.
///
/// # Errors
/// As [`inherited`].
pub fn inherited_packets(fd: OwnedFd) -> Result<UnixListener, BindError> {
    inherited_as(SockType::SeqPacket, fd)
}

fn inherited_as(kind: SockType, fd: OwnedFd) -> Result<UnixListener, BindError> {
    let number = fd.as_raw_fd();
    let listens = getsockname::<SockaddrStorage>(number)
        .is_ok_and(|name| name.family() == Some(AddressFamily::Unix))
        && getsockopt(&fd, sockopt::SockType) == Ok(kind)
        && getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
    if !listens {
        return Err(BindError::NotAListener { fd: number });
    }
    let path = PathBuf::from(format!("inherited descriptor {number}"));
    name_senders(&fd).map_err(failed("set SO_PASSCRED for", &path))?;
    if on(Check::PassRights) {
        refuse_descriptors(&fd).map_err(failed("set SO_PASSRIGHTS for", &path))?;
    }
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|e| failed("set close-on-exec for", &path)(e.into()))?;
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(true).map_err(failed("set O_NONBLOCK for", &path))?;
    Ok(listener)
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity);
        if ours {
            // Nothing more can be done where it fails: it is stale then, and
            // the next agent replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino(), file.created().ok())
}

/// The directory of `path`, in which nobody but its owner can replace a file.
fn safe_directory(path: &Path) -> Result<&Path, BindError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let is = std::fs::metadata(directory).map_err(failed("look at the directory", directory))?;
    let refuse = |why| Err(BindError::UnsafeDirectory { path: directory.to_owned(), why });
    if is.mode() & 0o002 != 0 && is.mode() & 0o1000 == 0 {
        return refuse("is writable by everybody and not sticky");
    }
    if is.uid() != 0 && is.uid() != nix::unistd::geteuid().as_raw() {
        return refuse("belongs to another user");
    }
    Ok(directory)
}

/// Keeps two agents that start at once from each removing the other's socket.
fn lock(directory: &Path) -> Result<Flock<File>, BindError> {
    let mut file = File::open(directory).map_err(failed("open the directory", directory))?;
    for _ in 0..LOCK_TRIES {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, error)) => return Err(failed("lock the directory", directory)(error.into())),
        };
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(BindError::Locked(directory.to_owned()))
}

/// Removes a stale socket of ours; anything else stays and is an error.
fn clear(path: &Path) -> Result<(), BindError> {
    let is = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        is => is.map_err(failed("look at", path))?,
    };
    let in_the_way = |what| Err(BindError::InTheWay { path: path.to_owned(), what });
    if is.file_type().is_symlink() {
        return in_the_way("a symbolic link");
    }
    if !is.file_type().is_socket() {
        return in_the_way("not a socket");
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(BindError::Served(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
            return Err(BindError::Served(path.to_owned())); // by packets
        }
        // A full backlog, for one, is a sign of life.
        Err(error) => return Err(failed("find out whether somebody serves", path)(error)),
    }
    if is.uid() != nix::unistd::geteuid().as_raw() {
        return in_the_way("a socket of another user");
    }
    std::fs::remove_file(path).map_err(failed("remove the stale socket", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_mode_and_is_removed_by_the_one_who_bound_it() {
        let dir = tempfile::tempdir().unwrap();
        for wanted in [0o600, 0o660, 0o666] {
            let path = dir.path().join("s");
            let bound = bind(&path, wanted, Some(nix::unistd::getegid().as_raw())).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(bound);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_served_socket_is_not_replaced_and_a_stale_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = bind(&path, 0o600, None).unwrap();
        assert!(matches!(bind(&path, 0o600, None), Err(BindError::Served(_))));
        let BoundSocket { listener, file } = first;
        drop(listener); // as after a crash
        let second = bind(&path, 0o600, None).unwrap();
        drop(file);
        assert!(path.exists(), "another's socket is not removed");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn neither_a_symlink_nor_a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        let bound = bind(&target, 0o600, None).unwrap();
        drop(bound.listener);
        symlink(&target, &link).unwrap();
        assert!(matches!(bind(&link, 0o600, None), Err(BindError::InTheWay { .. })));
        let dangling = dir.path().join("dangling");
        symlink(dir.path().join("nothing"), &dangling).unwrap();
        assert!(matches!(bind(&dangling, 0o600, None), Err(BindError::InTheWay { .. })));
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(matches!(bind(&file, 0o600, None), Err(BindError::InTheWay { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }

    #[test]
    fn a_path_that_is_too_long_is_named_with_its_length_and_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let room = LONGEST_PATH - dir.path().as_os_str().len() - 1;
        drop(bind(&dir.path().join("x".repeat(room)), 0o600, None).unwrap());
        let error = bind(&dir.path().join("x".repeat(room + 1)), 0o600, None).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("108 bytes") && text.contains("at most 107"), "{text}");
    }

    #[test]
    fn a_directory_in_which_others_can_replace_the_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(bind(&path, 0o600, None), Err(BindError::UnsafeDirectory { .. })));
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        drop(bind(&path, 0o600, None).unwrap());
    }
}
