//! systemd's invocation ID of a unit: which of its runs it is.
//!
//! systemd links `invocation:UNIT` in /run/systemd/units to the ID for whoever
//! may not ask on its bus; its own journal reads it there. That is one look at a
//! directory of root's, where a call over D-Bus or varlink would put a bus, and
//! what answers there, between the agent and the fact.

use super::Fact;
use crate::mutants::{Check, on};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where systemd links them.
pub(super) const UNITS: &str = "/run/systemd/units";

/// The ID of the unit's present run, 32 lower-case hex digits. Absent where
/// systemd does not run, or runs no such unit.
pub(super) fn of(directory: &Path, unit: &str) -> Fact<String> {
    // A unit's name has none; what else would be looked at is another directory.
    if unit.is_empty() || unit.contains('/') {
        return Fact::Absent;
    }
    match roots(directory).and_then(|()| target(&directory.join(format!("invocation:{unit}")))) {
        Ok(found) => found.map_or(Fact::Absent, Fact::Known),
        Err(Missed::NotThere) => Fact::Absent,
        Err(Missed::Unreadable(why)) => Fact::Unreadable(why),
    }
}

enum Missed {
    NotThere,
    Unreadable(String),
}

/// Nobody but root can have put a link there.
fn roots(directory: &Path) -> Result<(), Missed> {
    for at in directory.ancestors() {
        let facts = std::fs::symlink_metadata(at).map_err(|error| missed(at, &error))?;
        let open = facts.uid() != 0 || facts.mode() & 0o022 != 0 && facts.mode() & 0o1000 == 0;
        if open && on(Check::RunOfRoot) {
            return Err(Missed::Unreadable(format!(
                "{} is not root's alone, so that what it says of units is not believed",
                at.display()
            )));
        }
    }
    Ok(())
}

fn target(link: &Path) -> Result<Option<String>, Missed> {
    let facts = std::fs::symlink_metadata(link).map_err(|error| missed(link, &error))?;
    let to: PathBuf = std::fs::read_link(link).map_err(|error| missed(link, &error))?;
    let id = to.to_str().filter(|id| is_id(id) && facts.uid() == 0);
    match id {
        Some(id) => Ok(Some(id.to_owned())),
        None => {
            Err(Missed::Unreadable(format!("{} is no invocation ID of root's", link.display())))
        }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn missed(at: &Path, error: &io::Error) -> Missed {
    match error.kind() {
        io::ErrorKind::NotFound => Missed::NotThere,
        _ => Missed::Unreadable(format!("{}: {error}", at.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_id_is_where_systemd_links_it_and_only_roots_links_count() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let link = |name: &str, to: &str| {
            let link = dir.path().join(format!("invocation:{name}"));
            symlink(to, &link).unwrap();
            link
        };
        link("a.service", ID);
        link("b.service", "/etc/passwd");
        lchown(link("c.service", ID), Some(1000), None).unwrap();
        assert_eq!(of(dir.path(), "a.service"), Fact::Known(ID.into()));
        assert_eq!(of(dir.path(), "x.service"), Fact::Absent);
        assert_eq!(of(dir.path(), "../a.service"), Fact::Absent);
        assert_eq!(of(Path::new("/nonexistent"), "a.service"), Fact::Absent);
        for refused in ["b.service", "c.service"] {
            assert!(matches!(of(dir.path(), refused), Fact::Unreadable(_)), "{refused}");
        }
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(
            matches!(of(dir.path(), "a.service"), Fact::Unreadable(_)),
            "anybody may link there"
        );
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(dir.path(), Some(1000), None).unwrap();
        assert!(matches!(of(dir.path(), "a.service"), Fact::Unreadable(_)), "another uid's");
    }
}
