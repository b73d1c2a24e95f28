//! The program that `jsi exec` will become: found, opened and measured before
//! anything is asked for.

use crate::failure::Failure;
use crate::plan::scrub;
use jsi_client::v1::TargetClaim;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use ring::digest::{Context, SHA256};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Not executable; as the shell says it.
const CANNOT_RUN: u8 = 126;
/// Not there; as the shell says it.
const NOT_FOUND: u8 = 127;
/// Where programs are looked for without PATH, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// Largest file that is measured, in bytes; the agent's own limit.
const MAX_HASHED: u64 = 512 * 1024 * 1024;

/// A program, and what it was when it was looked at.
pub(in crate::commands) struct Target {
    path: PathBuf,
    seen: Metadata,
    claim: TargetClaim,
}

impl Target {
    /// Finds a program as execvp would, and measures it.
    pub(in crate::commands) fn find(
        program: &OsStr,
        path: Option<&OsStr>,
    ) -> Result<Self, Failure> {
        let (found, opened) = search(program, path)?;
        Self::of(&opened).map_err(|error| cannot_run(&found, &error))
    }

    /// All from the one file that is open: a name could lead elsewhere the next
    /// time.
    fn of(opened: &Opened) -> io::Result<Self> {
        let path = opened.link().read_link()?;
        let seen = opened.file.metadata()?;
        let digest = match File::open(opened.link()) {
            Ok(file) => digest(file, &seen)?,
            // A program may be executable and yet unreadable: no digest then.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => String::new(),
            Err(error) => return Err(error),
        };
        let claim = TargetClaim { exe: path.to_string_lossy().into_owned(), digest };
        Ok(Self { path, seen, claim })
    }

    /// What becomes of this process: the file that was measured, by its own path
    /// and not by a link to it, under the name it was called by. Variables that
    /// let others' code in are taken away unless `keep_env`.
    pub(in crate::commands) fn command(&self, words: &[OsString], keep_env: bool) -> Command {
        let mut command = Command::new(&self.path);
        if let Some((program, rest)) = words.split_first() {
            command.arg0(program).args(rest);
        }
        if !keep_env {
            for name in scrub::dangerous(std::env::vars_os().map(|(name, _)| name)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Its path, with all links resolved.
    pub(in crate::commands) fn path(&self) -> &Path {
        &self.path
    }

    /// The measurement, for the agent.
    pub(in crate::commands) fn claim(&self) -> TargetClaim {
        self.claim.clone()
    }

    /// It is still the file that was measured.
    pub(in crate::commands) fn unchanged(&self) -> Result<(), Failure> {
        let same = |now: &Metadata| {
            let key = |m: &Metadata| {
                (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
            };
            key(now) == key(&self.seen)
        };
        match std::fs::metadata(&self.path) {
            Ok(now) if same(&now) => Ok(()),
            Ok(_) => Err(Failure::new(format!("{} was changed meanwhile", self.path.display()))
                .code(CANNOT_RUN)
                .advise("run it again")),
            Err(error) => Err(cannot_run(&self.path, &error)),
        }
    }
}

/// The failure that execution of a file gave.
pub(in crate::commands) fn cannot_run(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    let failure = Failure::new(format!("cannot run {}: {error}", path.display())).code(code);
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return failure.advise("its variables are too long together: hand long ones over by --fd");
    }
    failure
}

/// A file that can be executed, open for nothing else.
struct Opened {
    file: File,
}

impl Opened {
    /// Fails as execution would.
    fn at(path: &Path) -> io::Result<Self> {
        let fd: OwnedFd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let opened = Self { file: fd.into() };
        if !opened.file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "not a regular file"));
        }
        nix::unistd::access(&opened.link(), nix::unistd::AccessFlags::X_OK)?;
        Ok(opened)
    }

    /// A path that leads to this very file: proc_pid_fd(5).
    fn link(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn search(program: &OsStr, path: Option<&OsStr>) -> Result<(PathBuf, Opened), Failure> {
    let not_found =
        || Failure::new(format!("{}: command not found", program.display())).code(NOT_FOUND);
    if program.is_empty() {
        return Err(not_found());
    }
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match Opened::at(&path) {
            Ok(opened) => Ok((path, opened)),
            Err(error) => Err(cannot_run(&path, &error)),
        };
    }
    let mut refused = None;
    let places = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    for place in places.as_bytes().split(|b| *b == b':') {
        let place =
            if place.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(place)) };
        let candidate = place.join(program);
        match Opened::at(&candidate) {
            Ok(opened) => return Ok((candidate, opened)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert((candidate, error));
            }
            Err(_) => {}
        }
    }
    match refused {
        Some((candidate, error)) => Err(cannot_run(&candidate, &error)),
        None => Err(not_found()),
    }
}

/// The SHA-256 of a file, lower-case hex.
pub(in crate::commands) fn measure(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let seen = file.metadata()?;
    match digest(file, &seen)? {
        found if found.is_empty() => Err(io::Error::other("it is larger than 512 MiB")),
        found => Ok(found),
    }
}

fn digest(mut file: File, seen: &Metadata) -> io::Result<String> {
    let found = file.metadata()?;
    if (found.dev(), found.ino()) != (seen.dev(), seen.ino()) || found.size() > MAX_HASHED {
        return Ok(String::new());
    }
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn code(found: Result<Target, Failure>) -> u8 {
        match found {
            Err(Failure::Told { code, .. }) => code,
            _ => panic!("it was found"),
        }
    }

    #[test]
    fn what_is_not_there_gives_127_and_what_cannot_run_126() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
        let path = dir.path().as_os_str();
        assert_eq!(code(Target::find(OsStr::new("nothing-here"), Some(path))), 127);
        assert_eq!(code(Target::find(OsStr::new("/nothing/here"), None)), 127);
        assert_eq!(code(Target::find(OsStr::new(""), Some(path))), 127);
        assert_eq!(code(Target::find(OsStr::new("plain"), Some(path))), 126);
        assert_eq!(code(Target::find(plain.as_os_str(), None)), 126);
        assert_eq!(code(Target::find(path, None)), 126);
    }

    #[test]
    fn a_program_is_measured_and_a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "abc").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let target = Target::find(OsStr::new("program"), Some(dir.path().as_os_str())).unwrap();
        assert_eq!(
            target.claim().digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(target.unchanged().is_ok());
        std::fs::write(&program, "abcd").unwrap();
        assert!(target.unchanged().is_err());
    }

    #[test]
    fn what_a_link_led_to_is_what_is_executed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        for name in ["good", "bad"] {
            std::fs::write(at(name), name).unwrap();
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        let target = Target::find(at("link").as_os_str(), None).unwrap();
        std::fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink(at("bad"), at("link")).unwrap();
        assert!(target.unchanged().is_ok());
        let command = target.command(&[at("link").into()], false);
        assert_eq!(command.get_program(), at("good"));
        assert_eq!(target.claim().exe, at("good").to_str().unwrap());
        // Another file in its place is another program.
        std::fs::rename(at("bad"), at("good")).unwrap();
        assert!(target.unchanged().is_err());
    }
}
