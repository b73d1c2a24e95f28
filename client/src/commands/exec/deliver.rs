//! From leases to variables and descriptors.

use super::Arguments;
use super::target::Target;
use crate::failure::Failure;
use jsi_client::v1::{Delivery, binding};
use jsi_client::{Agent, Leased, Reference, Request, SecretField};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// How a field reaches the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As a variable's value.
    Environment,
    /// As a sealed memory file.
    Descriptor,
}

/// One field that the command is to have.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) reference: Reference,
    pub(super) mode: Mode,
}

/// What was granted: one lease for each credential and mode.
pub(super) struct Delivered {
    leases: Vec<((String, Mode), Leased)>,
}

impl Delivered {
    /// Leases that this command brought about. Others were there before it.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &str> {
        let fresh = self.leases.iter().filter(|(_, leased)| !leased.lease().reused);
        fresh.map(|(_, leased)| leased.lease().id.as_str())
    }

    fn field(&self, wanted: &Wanted) -> Result<&SecretField, Failure> {
        let key = (wanted.reference.credential.clone(), wanted.mode);
        let leased = self.leases.iter().find(|(other, _)| *other == key).map(|(_, leased)| leased);
        let field = leased.and_then(|leased| match &wanted.reference.field {
            Some(name) => leased.field(name),
            None => leased.default_field(),
        });
        field.ok_or_else(|| {
            let names: Vec<_> = leased
                .map(|leased| leased.fields().iter().map(SecretField::name).collect())
                .unwrap_or_default();
            Failure::new(format!("{} has no such field", wanted.reference))
                .advise(format!("it has: {}", names.join(", ")))
        })
    }
}

/// Asks for everything; on a failure gives back what was granted before it.
pub(super) async fn all(
    agent: &Agent,
    wanted: &[Wanted],
    target: &Target,
    arguments: &Arguments,
) -> Result<Delivered, Failure> {
    let mut delivered = Delivered { leases: Vec::new() };
    for one in wanted {
        let key = (one.reference.credential.clone(), one.mode);
        if delivered.leases.iter().any(|(other, _)| *other == key) {
            continue;
        }
        match agent.request(request(&key, wanted, target, arguments)).await {
            Ok(leased) => delivered.leases.push((key, leased)),
            Err(error) => {
                super::give_back(agent, delivered.fresh()).await;
                return Err(error.into());
            }
        }
    }
    Ok(delivered)
}

fn request(
    (credential, mode): &(String, Mode),
    wanted: &[Wanted],
    target: &Target,
    arguments: &Arguments,
) -> Request {
    let mut request = Request::new(credential)
        .bind(binding::Kind::Caller(binding::Unit {}))
        .target(target.claim())
        .note(&arguments.note)
        .delivery(match mode {
            Mode::Environment => Delivery::Environment,
            Mode::Descriptor => Delivery::Descriptor,
        });
    if let Some(ttl) = arguments.ttl {
        request = request.ttl(ttl);
    }
    for (key, value) in &arguments.scope {
        request = request.scope(key, value);
    }
    let same = wanted.iter().filter(|w| w.reference.credential == *credential && w.mode == *mode);
    let fields: Option<Vec<&String>> = same.map(|w| w.reference.field.as_ref()).collect();
    // One that asks for the default field needs all, since only the agent
    // knows which that is.
    fields.unwrap_or_default().into_iter().fold(request, |request, field| request.field(field))
}

/// Sets the command's variables. The descriptors must stay open until exec.
pub(super) fn prepare(
    command: &mut Command,
    wanted: &[Wanted],
    delivered: &Delivered,
) -> Result<Vec<OwnedFd>, Failure> {
    let mut open = Vec::new();
    for one in wanted {
        let field = delivered.field(one)?;
        match one.mode {
            Mode::Environment if field.value().contains(&0) => {
                return Err(Failure::new(format!(
                    "{} has a zero byte, which no variable can hold",
                    one.reference
                ))
                .advise(format!("use --fd {}={}", one.name, one.reference)));
            }
            Mode::Environment => {
                command.env(&one.name, OsStr::from_bytes(field.value()));
            }
            Mode::Descriptor => {
                let fd = sealed(&one.name, field.value()).map_err(|error| {
                    Failure::new(format!("cannot make a memory file for {}: {error}", one.name))
                })?;
                command.env(&one.name, format!("/dev/fd/{}", fd.as_raw_fd()));
                open.push(fd);
            }
        }
    }
    Ok(open)
}

/// A memory file that can be read and nothing else, and that exec leaves open.
fn sealed(name: &str, value: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
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
