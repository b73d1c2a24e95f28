//! From obtained values to the command's variables and descriptors.

use super::files;
use crate::failure::Failure;
use crate::files::{FileDir, Orders, Place};
use crate::obtain::Obtained;
use crate::plan::{Mode, Plan};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// How much of a variable's name a memory file takes, in bytes.
const LONGEST_MEMFD_NAME: usize = 128;

/// What must stay open until the command has been executed.
pub(super) struct Prepared {
    open: Vec<OwnedFd>,
    /// Those that read the files have opened them by then.
    files: Option<FileDir>,
}

/// Sets the command's variables, opens its descriptors and makes its files.
/// `guard` sees to it that files are removed, before they are there.
pub(super) fn prepare(
    command: &mut Command,
    (plan, place): (&Plan, Option<&Place>),
    obtained: &Obtained,
    guard: impl FnOnce(&FileDir, &Orders) -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    let mut prepared = Prepared { open: Vec::new(), files: None };
    for item in plan.items() {
        // Put together here even for a file, since nothing may fail later.
        let value = obtained.value(item)?;
        match item.mode {
            Mode::Environment => {
                item.fits_a_variable(&value)?;
                command.env(&item.name, OsStr::from_bytes(&value));
            }
            Mode::Descriptor => {
                let fd = sealed(&item.name, &value).map_err(|error| {
                    Failure::new(format!("cannot make a memory file for {}: {error}", item.name))
                })?;
                command.env(&item.name, format!("/dev/fd/{}", fd.as_raw_fd()));
                prepared.open.push(fd);
            }
            Mode::File => {}
        }
    }
    // Last, so that nothing that fails leaves any.
    if let Some(place) = place {
        prepared.files = Some(files::deliver(command, (plan, obtained), place, guard)?);
    }
    Ok(prepared)
}

/// A memory file that can be read and nothing else, and that exec leaves open.
fn sealed(name: &str, value: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // A name of more than 249 bytes is refused (memfd_create(2)).
    let name = name.get(..LONGEST_MEMFD_NAME).unwrap_or(name);
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(value)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_written_and_reads_from_its_beginning() {
        let mut file = File::from(sealed("X", b"value").unwrap());
        assert_eq!(io::read_to_string(&file).unwrap(), "value");
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        let again = File::open(format!("/dev/fd/{}", file.as_raw_fd())).unwrap();
        assert_eq!(io::read_to_string(again).unwrap(), "value");
    }
}
