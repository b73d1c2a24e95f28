//! What can be claimed of a command that runs already, and is to have its files
//! filled in anew.

use super::measured::digest;
use super::{Program, Target};
use jsi_client::v1::TargetClaim;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

impl Target {
    /// The claim, without what was measured unless that process runs it: the file
    /// may have changed since the process began, and of a script that runs nothing
    /// can be told any more.
    pub(in crate::commands) fn claim_of(&self, pid: u32) -> TargetClaim {
        let claim = self.claim();
        if self.script.is_none() && claim.script_digest.is_empty() && self.is_run_by(pid) {
            return claim;
        }
        TargetClaim {
            exe: claim.exe,
            device: claim.device,
            inode: claim.inode,
            ..TargetClaim::default()
        }
    }

    fn is_run_by(&self, pid: u32) -> bool {
        let link = format!("/proc/{pid}/exe");
        match &self.program {
            Program::At(_, seen) => std::fs::metadata(link)
                .is_ok_and(|runs| (runs.dev(), runs.ino()) == (seen.dev(), seen.ino())),
            Program::Copy(_) => File::open(link).is_ok_and(|runs| {
                is_sealed(&runs) && digest(&runs).is_ok_and(|runs| runs == self.claim.digest)
            }),
        }
    }
}

fn is_sealed(file: &File) -> bool {
    let all = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & all.bits() == all.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn of_a_process_that_runs_something_else_no_digest_is_claimed() {
        let sleep = std::process::Command::new("/bin/sleep").arg("30").spawn();
        let mut sleep = sleep.unwrap();
        let link = format!("/proc/{}/exe", sleep.id());
        while std::fs::read_link(&link).unwrap() != std::fs::canonicalize("/bin/sleep").unwrap() {
            std::thread::yield_now();
        }
        let of = |program: &str| Target::find(OsStr::new(program), None).unwrap();
        let (same, other) = (of("/bin/sleep"), of("/bin/cat"));
        assert_eq!(same.claim_of(sleep.id()), same.claim());
        let claim = other.claim_of(sleep.id());
        assert!(claim.digest.is_empty() && !claim.sealed && claim.exe == other.claim().exe);
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
