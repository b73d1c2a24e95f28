//! Puts a policy's file where the agent reads it, whole, and takes it back.

use crate::failure::Failure;
use crate::output;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a policy that is compared with a new one; longer ones are people's.
const MAX_COMPARED: u64 = 64 * 1024;

/// A policy of that directory that says the same as `text`, whatever its @id.
pub(super) fn same(directory: &Path, text: &str) -> Option<PathBuf> {
    let wanted = meaning(text);
    let files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let policies = files.filter(|path| path.extension().is_some_and(|it| it == "cedar"));
    let mut found: Vec<PathBuf> = policies
        .filter(|path| read_some(path).is_some_and(|text| meaning(&text) == wanted))
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Without what does not change what it permits.
fn meaning(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with("@id("))
        .collect()
}

fn read_some(path: &Path) -> Option<String> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_COMPARED).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Puts the policy in its place whole, with mode 0644 whatever the umask is.
/// Answers what it replaced.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> Result<Option<Vec<u8>>, Failure> {
    let fault =
        |error: &io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let before = match fs::read(path) {
        Ok(_) if !replace => {
            return Err(Failure::new(format!("{} is there already", path.display()))
                .advise("replace it with --replace, or give another --id"));
        }
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fault(&error)),
    };
    place(path, text.as_bytes(), replace).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} is there already", path.display())).advise("use --replace")
        }
        io::ErrorKind::PermissionDenied => {
            fault(&error).advise("policies are written by the agent's operator")
        }
        _ => fault(&error),
    })?;
    Ok(before)
}

/// By way of a file that the agent does not read, so that it never sees half a policy.
fn place(path: &Path, text: &[u8], replace: bool) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let placed = file
        .write_all(text)
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| file.sync_all())
        .and_then(
            |()| if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) },
        );
    if placed.is_err() || !replace {
        let _ = fs::remove_file(&draft); // the draft is ours and of no use
    }
    placed
}

/// Undoes [`write()`].
pub(super) fn take_back(path: &Path, before: Option<&[u8]>) {
    let taken = match before {
        Some(text) => place(path, text, true),
        None => fs::remove_file(path),
    };
    if let Err(error) = taken {
        output::note(&format!("warning: {} could not be taken back: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_not_overwritten_unless_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cedar");
        assert!(write(&path, "one", false).unwrap().is_none());
        assert!(write(&path, "two", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(write(&path, "two", true).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        take_back(&path, Some(b"one"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        take_back(&path, None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_policy_that_says_the_same_is_found_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.cedar"), "// one\n@id(\"a\")\npermit(x);\n").unwrap();
        fs::create_dir(dir.path().join("b.cedar")).unwrap();
        let same = |text: &str| same(dir.path(), text);
        assert!(same("@id(\"b\")\n  permit(x);").unwrap().ends_with("a.cedar"));
        assert!(same("@id(\"b\")\n@max_ttl(\"1s\")\npermit(x);").is_none());
    }
}
