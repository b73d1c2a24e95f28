//! What a reaper is told: what to remove, and when.

use serde::{Deserialize, Serialize};

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
    /// Its inode.
    pub(crate) inode: u64,
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
