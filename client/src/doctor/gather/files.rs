//! Places and the way to them.

use crate::doctor::facts::{Disk, Kind, Place, Step, StepState};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::fs::FileType;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A place and each step above it. Symbolic links of the way are followed,
/// since who owns the target decides; the place itself is not.
pub(super) fn place(what: &str, path: &Path) -> Place {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
    let path = match (real, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    };
    let steps = path.ancestors().map(|step| Step { path: step.to_owned(), state: look(step) });
    Place { what: what.to_owned(), steps: steps.collect(), path }
}

fn look(path: &Path) -> StepState {
    match std::fs::symlink_metadata(path) {
        Ok(found) => StepState::Found {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode() & 0o7777,
            kind: kind(found.file_type()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => StepState::Missing,
        Err(_) => StepState::Hidden,
    }
}

fn kind(found: FileType) -> Kind {
    match found {
        found if found.is_dir() => Kind::Directory,
        found if found.is_file() => Kind::File,
        found if found.is_socket() => Kind::Socket,
        found if found.is_symlink() => Kind::Link,
        _ => Kind::Other,
    }
}

/// The file system in which a directory is, or will be.
pub(super) fn disk(what: &str, path: &Path) -> Option<Disk> {
    let found = path.ancestors().find_map(|step| statvfs(step).ok())?;
    Some(Disk {
        what: what.to_owned(),
        path: path.to_owned(),
        free: found.blocks_available().saturating_mul(found.fragment_size()),
        size: found.blocks().saturating_mul(found.fragment_size()),
        free_inodes: found.files_available(),
        inodes: found.files(),
        read_only: found.flags().contains(FsFlags::ST_RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn every_step_of_the_way_is_looked_at_where_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("key"), "").unwrap();
        std::fs::set_permissions(real.join("key"), std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        let place = place("identity", &dir.path().join("link/key"));
        assert!(place.path.ends_with("real/key"), "{}", place.path.display());
        let StepState::Found { mode, kind, .. } = place.steps[0].state else { panic!("{place:?}") };
        assert_eq!((mode, kind), (0o640, Kind::File));
        assert_eq!(place.steps.last().unwrap().path, Path::new("/"));
    }

    #[test]
    fn a_place_that_is_not_there_is_missing_and_its_disk_is_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none/at/all");
        assert_eq!(place("log", &none).steps[0].state, StepState::Missing);
        assert!(disk("log", &none).unwrap().size > 0);
    }
}
