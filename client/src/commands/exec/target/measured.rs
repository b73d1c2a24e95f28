//! Looking at files.

use super::{fixed, shebang};
use jsi_client::v1::TargetClaim;
use ring::digest::{Context, SHA256};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Largest file that is measured or copied, in bytes; the agent's own limit.
pub(super) const MAX_HASHED: u64 = 512 * 1024 * 1024;

/// The SHA-256 of a file, lower-case hex.
pub(in crate::commands) fn measure(path: &Path) -> io::Result<String> {
    match digest(&File::open(path)?)? {
        found if found.is_empty() => Err(io::Error::other("it is larger than 512 MiB")),
        found => Ok(found),
    }
}

/// A claim that says which file it is, and nothing of what is in it.
pub(super) fn named(path: &Path, seen: &Metadata) -> TargetClaim {
    TargetClaim {
        exe: path.to_string_lossy().into_owned(),
        device: seen.dev(),
        inode: seen.ino(),
        ..TargetClaim::default()
    }
}

/// That file stands there, and nobody but root can change that.
pub(super) fn stands_fixed(path: &Path, seen: &Metadata) -> bool {
    let there = std::fs::symlink_metadata(path);
    fixed::is_roots(path)
        && there.is_ok_and(|now| (now.dev(), now.ino()) == (seen.dev(), seen.ino()))
}

/// A file's own name.
pub(super) fn short(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The beginning of a file, which stands at its beginning afterwards.
pub(super) fn head(file: Option<&File>) -> io::Result<Vec<u8>> {
    let Some(mut file) = file else { return Ok(Vec::new()) };
    let mut head = Vec::new();
    file.rewind()?;
    file.take(shebang::LINE as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head)
}

/// Empty where it is longer than [`MAX_HASHED`].
pub(super) fn digest(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut total: u64 = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                total += count as u64;
                if total > MAX_HASHED {
                    return Ok(String::new());
                }
                context.update(buffer.get(..count).unwrap_or_default());
            }
        }
    }
    file.rewind()?;
    Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref()))
}
