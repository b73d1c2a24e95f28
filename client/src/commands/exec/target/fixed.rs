//! Files that nobody but root can change or replace.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether the file and every directory above it belong to root and nobody else
/// may write them. A list of access rights shows in the group's bits (acl(5)).
pub(super) fn is_roots(path: &Path) -> bool {
    let kept = |at: &Path| {
        std::fs::symlink_metadata(at).is_ok_and(|facts| {
            facts.uid() == 0 && (facts.file_type().is_symlink() || facts.mode() & 0o022 == 0)
        })
    };
    path.is_absolute() && path.ancestors().all(kept)
}

/// The same, by the name it goes by and by where that leads: whoever may change
/// a link on the way chooses the file.
pub(super) fn is_roots_as_named(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| is_roots(path) && is_roots(&real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_directory_of_others_is_not_roots() {
        assert!(is_roots(Path::new("/usr/bin/env")) && is_roots_as_named(Path::new("/bin/sh")));
        assert!(!is_roots(Path::new("usr/bin/env")), "that depends on the directory");
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("env"), dir.path().join("link"));
        std::fs::copy("/usr/bin/env", &file).unwrap();
        std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
        assert!(!is_roots(&file) && !is_roots_as_named(&link));
    }
}
