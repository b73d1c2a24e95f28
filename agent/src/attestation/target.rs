//! Whether what a client says of a file that it is about to run can be true:
//! the attestor's own view of the path, and of where the client stands.

use super::TargetView;
use super::held::Held;
use super::process::NamespaceId;
use crate::mutants::{Check, on};
use crate::process::image;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Tries of a look that the kernel answers from its cache: one that meets a
/// rename elsewhere fails.
const TRIES: u32 = 8;

/// Looks at what that client says. Blocks on no file system.
///
/// In a user namespace of its own a process chooses its root directory, its
/// mounts and who is root, so that nothing that a client sees there is so.
///
/// # Errors
/// The client has ended or become another program.
pub(super) fn view(
    held: &Held,
    own_user_namespace: NamespaceId,
    path: &str,
    file: Option<(u64, u64)>,
) -> Result<TargetView, String> {
    held.check()?;
    // The group of a set-group-ID file is got in the namespace of its mount only.
    let stands = if held.group_client { Ok(own_user_namespace) } else { user_namespace(held.pid) };
    held.check()?;
    Ok(match stands {
        Err(error) => TargetView::Doubtful(format!(
            "the user namespace of the client could not be told: {error}"
        )),
        Ok(other) if other != own_user_namespace && on(Check::TargetNamespace) => TargetView::Doubtful(
            "the client runs in a user namespace of its own, where whoever made it chooses what it sees"
                .to_owned(),
        ),
        Ok(_) => seen(Path::new(path), file),
    })
}

fn user_namespace(pid: u32) -> io::Result<NamespaceId> {
    let facts = std::fs::metadata(format!("/proc/{pid}/ns/user"))?;
    Ok((facts.dev(), facts.ino()))
}

fn seen(path: &Path, file: Option<(u64, u64)>) -> TargetView {
    if !on(Check::TargetSeen) {
        return TargetView::Seen;
    }
    let Some(file) = file else {
        return TargetView::Elsewhere(
            "the client does not say which file it is: it is an old one".into(),
        );
    };
    let mut opened = open(path);
    for _ in 1..TRIES {
        if !matches!(&opened, Err(error) if error.raw_os_error() == Some(libc::EAGAIN)) {
            break;
        }
        opened = open(path);
    }
    match opened.and_then(image::stat) {
        Ok(seen) if (seen.device, seen.inode) == file && seen.links > 0 => TargetView::Seen,
        Ok(_) => TargetView::Elsewhere("the agent's own view of its path is another file".into()),
        Err(error) => TargetView::Elsewhere(format!("the agent's own view of its path: {error}")),
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    match image::open_cached(path) {
        // Before Linux 5.12.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            let mut how = OpenOptions::new();
            Ok(how.read(true).custom_flags(libc::O_PATH).open(path)?.into())
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_only_where_the_agent_sees_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for path in [&one, &other] {
            std::fs::write(path, "x").unwrap();
        }
        let file = |path: &Path| {
            let facts = std::fs::metadata(path).unwrap();
            Some((facts.dev(), facts.ino()))
        };
        assert_eq!(seen(&one, file(&one)), TargetView::Seen);
        for (path, file) in
            [(&one, file(&other)), (&one, None), (&dir.path().join("none"), file(&one))]
        {
            assert!(matches!(seen(path, file), TargetView::Elsewhere(_)), "{path:?}");
        }
    }

    #[test]
    fn this_process_stands_where_the_agent_does() {
        let own = super::super::process::own_user_namespace().unwrap();
        assert_eq!(user_namespace(std::process::id()).unwrap(), own);
    }
}
