//! Is there room for the log and the store?

use crate::doctor::facts::{Disk, Facts};
use crate::doctor::{Finding, bytes};

const TOPIC: &str = "disk";
/// Below it the log may stop within the day: a segment is 64 MiB.
const LITTLE: u64 = 256 << 20;
/// Below it the next burst of requests may stop it.
const NOTHING: u64 = 8 << 20;
const FEW_INODES: u64 = 1000;

pub(in crate::doctor) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.disks.iter().map(one).collect()
}

fn one(disk: &Disk) -> Finding {
    let at = format!("{} in {}", disk.what, disk.path.display());
    let free = format!("{} of {} free", bytes(disk.free), bytes(disk.size));
    let name = disk.what.clone();
    let remedy = "make room there, or move it: log_dir, store_dir in the configuration";
    let few = disk.inodes > 0 && disk.free_inodes < FEW_INODES;
    if disk.read_only {
        return Finding::fail(TOPIC, name, format!("{at}: the file system is read-only"))
            .mend("mount it writable: without the log nothing is issued");
    }
    if disk.free < NOTHING || (disk.inodes > 0 && disk.free_inodes == 0) {
        let text = format!("{at}: {free}, {} inodes: it is about to stop", disk.free_inodes);
        return Finding::fail(TOPIC, name, text).mend(remedy);
    }
    if disk.free < LITTLE || few {
        let text = format!("{at}: {free}, {} inodes", disk.free_inodes);
        return Finding::warn(TOPIC, name, text).mend(remedy);
    }
    Finding::ok(TOPIC, name, format!("{at}: {free}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn disk(free: u64, free_inodes: u64, inodes: u64) -> Disk {
        Disk { what: "log".into(), free, size: 1 << 40, free_inodes, inodes, ..Disk::default() }
    }

    #[test]
    fn room_is_judged_in_bytes_and_inodes() {
        for (free, free_inodes, inodes, severity) in [
            (1 << 34, 1 << 20, 1 << 22, Severity::Ok),
            (1 << 34, 0, 0, Severity::Ok), // btrfs counts none
            (100 << 20, 1 << 20, 1 << 22, Severity::Warn),
            (1 << 34, 10, 1 << 22, Severity::Warn),
            (1 << 34, 0, 1 << 22, Severity::Fail),
            (1 << 20, 1 << 20, 1 << 22, Severity::Fail),
        ] {
            assert_eq!(one(&disk(free, free_inodes, inodes)).severity, severity, "{free}");
        }
        let read_only = Disk { read_only: true, ..disk(1 << 34, 1, 0) };
        assert_eq!(one(&read_only).severity, Severity::Fail);
    }
}
