//! The attestor process. No facts are read yet: it ends with its link.

use crate::config::Config;
use crate::process::SeqPacket;
use std::io;
use std::os::fd::OwnedFd;

/// Serves the broker until it ends.
///
/// # Errors
/// When the link fails.
pub fn run(link: OwnedFd, _config: Config) -> io::Result<()> {
    let link = SeqPacket::new(link);
    while link.recv()?.is_some() {}
    Ok(())
}
