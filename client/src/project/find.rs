//! Where the project file is.

use super::read::{own, writable_by_others};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The project file's name.
pub(crate) const NAME: &str = "jsi.toml";

/// The nearest project file, from `start` upwards. The search ends
///
/// - at the root, and at `home`, which is looked in;
/// - where the file system changes (as git's does);
/// - below a directory that belongs to another user, or that others may write:
///   a file planted in /tmp would otherwise stand in the way of all below it.
///
/// `start` itself is always looked in, and reading refuses what is not its
/// user's own: a file that is there and cannot be used is never passed over.
pub(crate) fn find(start: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let mut here = start.to_owned();
    let mut found = std::fs::metadata(&here).ok()?;
    let home = home.and_then(|home| std::fs::metadata(home).ok());
    loop {
        let candidate = here.join(NAME);
        if candidate.symlink_metadata().is_ok() {
            return Some(candidate);
        }
        if home.as_ref().is_some_and(|home| same(home, &found)) || !here.pop() {
            return None;
        }
        let above = std::fs::metadata(&here).ok()?;
        let open = above.mode() & 0o002 != 0 || writable_by_others(&above);
        if above.dev() != found.dev() || !own(&above) || open {
            return None;
        }
        found = above;
    }
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_nearest_file_above_is_found_up_to_home_and_not_through_open_directories() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("home/code/app/src")).unwrap();
        let search = |home: &str| find(&at("home/code/app/src"), Some(&at(home)));
        fs::write(at("jsi.toml"), "").unwrap();
        assert_eq!(search("home"), None); // above home
        assert_eq!(search("elsewhere"), Some(at("jsi.toml")));
        fs::write(at("home/jsi.toml"), "").unwrap();
        assert_eq!(search("home"), Some(at("home/jsi.toml")));
        fs::write(at("home/code/jsi.toml"), "").unwrap();
        assert_eq!(search("home"), Some(at("home/code/jsi.toml")));
        for mode in [0o777, 0o1777] {
            fs::set_permissions(at("home/code"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(search("home"), None, "{mode:o}");
            // Where one stands, it is found: reading says what is wrong with it.
            assert_eq!(find(&at("home/code"), None), Some(at("home/code/jsi.toml")));
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("jsi.toml");
        std::os::unix::fs::symlink("/nothing/here", &link).unwrap();
        assert_eq!(find(dir.path(), None), Some(link));
    }
}
