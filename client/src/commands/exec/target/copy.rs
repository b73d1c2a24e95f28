//! Copies that nobody can change: sealed memory files (memfd_create(2)).

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

/// Bytes of a name, of which the kernel takes no more than 249.
const LONGEST_NAME: usize = 64;
/// `MFD_NOEXEC_SEAL` and `MFD_EXEC` (Linux 6.3).
const NOEXEC: MFdFlags = MFdFlags::from_bits_retain(0x8);
const EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// What a copy is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// To be executed.
    Running,
    /// To be read by an interpreter.
    Reading,
}

/// Copies at most `most` bytes of `from`, and seals the copy. It is to be
/// measured only now: until it was sealed, others of the same uid could have
/// written to it.
///
/// # Errors
/// Says so where it is longer.
pub(super) fn sealed(mut from: File, name: &str, what_for: For, most: u64) -> io::Result<File> {
    let mut copy = made(name, what_for)?;
    from.rewind()?;
    let copied = io::copy(&mut from.take(most + 1), &mut copy)?;
    if copied > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    // perl reads a script from where its descriptor stands.
    copy.rewind()?;
    Ok(copy)
}

fn made(name: &str, what_for: For) -> io::Result<File> {
    let name: String = name.chars().filter(|c| *c != '\0').take(LONGEST_NAME).collect();
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let own = if what_for == For::Running { EXEC } else { NOEXEC };
    let fd: OwnedFd = match memfd_create(name.as_str(), flags | own) {
        Err(Errno::EINVAL) => memfd_create(name.as_str(), flags)?, // before Linux 6.3
        Err(Errno::EACCES) => {
            return Err(io::Error::other("vm.memfd_noexec forbids to execute memory files"));
        }
        made => made?,
    };
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_copy_cannot_be_changed_by_anybody() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(b"as it was").unwrap();
        let mut copy = sealed(from.try_clone().unwrap(), "x", For::Reading, 100).unwrap();
        from.write_all(b", and more").unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut again = File::options().read(true).write(true).open(&path).unwrap();
        assert!(copy.write_all(b"x").is_err() && again.write_all(b"x").is_err());
        assert!(again.set_len(0).is_err() && again.set_len(100).is_err());
        assert!(fcntl(&again, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).is_err());
        assert_eq!(io::read_to_string(&copy).unwrap(), "as it was");
    }

    #[test]
    fn what_is_too_long_is_not_copied() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(&[0; 11]).unwrap();
        assert!(sealed(from.try_clone().unwrap(), "x", For::Running, 10).is_err());
        assert!(sealed(from, "x", For::Running, 11).is_ok());
    }
}
