//! What a reaper is told: what to remove, and when.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

/// All that a reaper is to do; each later message takes the place of the one
/// before it. No secret is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The directory's path, as bytes.
    pub(crate) path: Vec<u8>,
    /// The directory was made for the files, and goes with them.
    pub(crate) own: bool,
    /// To ask the agent for the ends of the leases; otherwise whoever gives the
    /// orders knows them, and the times count.
    pub(crate) watch: bool,
    /// The leases, and which files end with each.
    pub(crate) leases: Vec<Lease>,
    /// The files, where the directory is not theirs.
    pub(crate) files: Vec<Named>,
}

/// A lease whose end is the end of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Its ID.
    pub(crate) id: String,
    /// When it ends as far as is known, in milliseconds since boot.
    pub(crate) until_ms: u64,
    /// Names of the files.
    pub(crate) files: Vec<String>,
}

/// A file that is removed only while it is still this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Its name in the directory.
    pub(crate) name: String,
    /// Which one it is.
    pub(crate) node: Node,
}

/// Which file it is, of all that have had its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    device: u64,
    inode: u64,
    /// When it was made, since a disk gives numbers of removed files to new
    /// ones; in nanoseconds since 1970. `None`: the file system does not know.
    made: Option<u128>,
}

impl Node {
    /// That of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let made = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made = made.map(|at| at.as_nanos());
        Ok(Self { device: found.dev(), inode: found.ino(), made })
    }
}

impl Orders {
    /// The agent has told how much time a lease has left now.
    pub(crate) fn lasts(&mut self, told: &jsi_client::v1::Lease) {
        for lease in self.leases.iter_mut().filter(|lease| lease.id == told.id) {
            lease.until_ms = until(told);
        }
    }
}

impl Lease {
    /// A lease that has so much time left now.
    pub(crate) fn of(lease: &jsi_client::v1::Lease, files: Vec<String>) -> Self {
        Self { id: lease.id.clone(), until_ms: until(lease), files }
    }
}

/// When a lease ends, in milliseconds since boot.
pub(crate) fn until(lease: &jsi_client::v1::Lease) -> u64 {
    let at = crate::alarm::boot_time().saturating_add(crate::keep::left(lease));
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_of_a_lease_counts_for_it_alone() {
        let known = |id: &str| Lease { id: id.to_owned(), until_ms: 1, files: Vec::new() };
        let mut orders = Orders { leases: vec![known("a"), known("b")], ..Orders::default() };
        let remaining = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let before = crate::alarm::boot_time().as_millis();
        orders.lasts(&jsi_client::v1::Lease { id: "a".into(), remaining, ..Default::default() });
        assert!(u128::from(orders.leases[0].until_ms) >= before + 60_000);
        assert_eq!(orders.leases[1], known("b"));
    }
}
