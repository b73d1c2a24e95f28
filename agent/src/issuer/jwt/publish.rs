//! Files that verifiers read: replaced whole, readable by everybody.

use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Longest file that is compared with what is to stand there.
const MAX_LEN: u64 = 1 << 20;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Puts `text` there, mode 0644, unless it stands there already. Whoever reads
/// the path finds the old file or the new one, after a crash too. Blocks.
pub(super) fn publish(path: &Path, text: &[u8]) -> Result<(), String> {
    let told = |what: &str, error: &io::Error| format!("{}: {what}: {error}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    let facts = dir.metadata().map_err(|error| told("its directory", &error))?;
    kept(dir, &facts).map_err(|why| format!("{}: {why}", path.display()))?;
    if stands(path, text) {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.jsi-new"));
    let written = write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // What is left of it would be in the way of nobody but a tidy mind.
        let _ = std::fs::remove_file(&beside);
        told("cannot be written", &error)
    })?;
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| told("cannot be synced", &error))
}

/// Whoever can replace the file chooses whose tokens are believed.
fn kept(dir: &Path, facts: &Metadata) -> Result<(), String> {
    let (dir, owner, own) = (dir.display(), facts.uid(), nix::unistd::geteuid().as_raw());
    if facts.mode() & OTHERS_WRITE != 0 && facts.mode() & STICKY == 0 {
        return Err(format!("others than its owner may write {dir}; chmod go-w {dir}"));
    }
    if owner != 0 && owner != own {
        return Err(format!(
            "{dir} belongs to uid {owner}, who could replace it; chown it to root or to the agent's uid {own}"
        ));
    }
    Ok(())
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

fn stands(path: &Path, text: &[u8]) -> bool {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return false;
    };
    let fits = |facts: Metadata| facts.is_file() && facts.mode() & 0o7777 == 0o644;
    let mut there = Vec::new();
    file.metadata().is_ok_and(fits)
        && file.take(MAX_LEN).read_to_end(&mut there).is_ok()
        && there == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_readable_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        publish(&path, b"one").unwrap();
        let inode = path.metadata().unwrap().ino();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
        publish(&path, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().ino(), inode, "what stands there is left alone");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        publish(&path, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
        publish(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_in_its_place_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("jwks.json"), dir.path().join("other"));
        std::fs::write(&other, b"untouched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        publish(&path, b"keys").unwrap();
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read(&other).unwrap(), b"untouched");
    }

    #[test]
    fn where_it_cannot_be_written_it_says_so_and_leaves_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none/jwks.json");
        assert!(publish(&missing, b"x").unwrap_err().contains("none/jwks.json: its directory"));
        let path = dir.path().join("jwks.json");
        std::fs::create_dir(&path).unwrap();
        assert!(publish(&path, b"x").unwrap_err().contains("cannot be written"));
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o775] {
            std::fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            let refused = publish(&open.join("jwks.json"), b"x").unwrap_err();
            assert!(refused.contains("chmod go-w"), "{refused}");
        }
        std::fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        publish(&open.join("jwks.json"), b"x").unwrap();
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        // Some directory of a uid that is neither root's nor ours.
        let dir = tempfile::tempdir().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        let refused = kept(dir.path(), &dir.path().metadata().unwrap());
        assert_eq!(refused, Ok(()));
        if own == 0 {
            std::os::unix::fs::chown(dir.path(), Some(12_345), None).unwrap();
            let refused = publish(&dir.path().join("jwks.json"), b"x").unwrap_err();
            assert!(refused.contains("belongs to uid 12345"), "{refused}");
            assert!(!dir.path().join("jwks.json").exists());
        }
    }
}
