//! Level 4: the kernel itself sees to it that what runs is what was measured.
//! fs-verity checks each page that is read of a file, IMA refuses to execute a
//! file whose signature does not fit, and a mandatory access control (an LSM)
//! keeps the process what its policy says. The lower levels are needed as well.
//!
//! [`enforced`] decides, and reads nothing.

use super::Fact;
use crate::mutants::{Check, on};
use std::collections::BTreeSet;
use std::path::Path;

/// What stands in root's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Labels that root's LSM policy gives to programs that it confines.
    pub(super) labels: BTreeSet<String>,
    /// IMA's policy appraises, by signature, what is executed and mapped: nobody
    /// but who has CAP_SYS_ADMIN can read it (`ima_open_policy` in Linux).
    pub(super) ima: bool,
}

/// What the kernel has, and does: for each why it is not relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) ima: Result<(), String>,
    pub(super) lsm: Result<(), String>,
}

/// What was read of one process.
#[derive(Clone, Debug)]
pub(super) struct Evidence<'a> {
    /// fs-verity digest of its executable.
    pub(super) verity: Option<&'a str>,
    /// `security.ima` of its executable, as [`read_ima`] gives it.
    pub(super) ima: Option<&'a str>,
    /// The first file that it has mapped executable and that fs-verity does not
    /// keep as it is.
    pub(super) unverified: Option<&'a str>,
    /// Its LSM label.
    pub(super) label: &'a Fact<String>,
}

/// What an IMA signature is called in [`Evidence::ima`].
pub(super) const SIGNED: &str = "signature";

/// Whether the kernel enforces it; if not, why each way does not.
pub(super) fn enforced(
    seen: &Evidence<'_>,
    kernel: &Kernel,
    listed: &Listed,
) -> Result<(), String> {
    let ways = [verity(seen), ima(seen, kernel, listed), lsm(seen, kernel, listed)];
    if ways.iter().any(Result::is_ok) || !on(Check::Enforced) {
        return Ok(());
    }
    let why: Vec<String> = ways.into_iter().filter_map(Result::err).collect();
    Err(why.join("; "))
}

/// fs-verity keeps all code that it runs.
fn verity(seen: &Evidence<'_>) -> Result<(), String> {
    match (seen.verity, seen.unverified) {
        (None, _) => Err("its executable has no fs-verity digest".to_owned()),
        (Some(_), Some(file)) => Err(format!("{file} is mapped and has no fs-verity digest")),
        (Some(_), None) => Ok(()),
    }
}

/// IMA refuses what is not signed.
fn ima(seen: &Evidence<'_>, kernel: &Kernel, listed: &Listed) -> Result<(), String> {
    kernel.ima.clone()?;
    if !listed.ima {
        return Err("root's configuration does not say that IMA appraises (enforced_ima)".into());
    }
    match seen.ima {
        Some(SIGNED) => Ok(()),
        Some(_) => Err("its executable has an IMA hash, and no signature".to_owned()),
        None => Err("its executable has no IMA signature".to_owned()),
    }
}

/// It is confined under a label that root has listed.
fn lsm(seen: &Evidence<'_>, kernel: &Kernel, listed: &Listed) -> Result<(), String> {
    kernel.lsm.clone()?;
    match seen.label {
        Fact::Known(label) if listed.labels.contains(label) => Ok(()),
        Fact::Known(label) => Err(format!("its label {label:?} is not in enforced_labels")),
        Fact::Absent => Err("no LSM gives it a label".to_owned()),
        Fact::Unreadable(why) => Err(format!("its label could not be read: {why}")),
    }
}

impl Kernel {
    /// What it does now: an operator may let go of it at any time (setenforce(8)).
    pub(super) fn read() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let there = |path: &str| root.join(path).exists();
        let ima = ["sys/kernel/security/ima", "sys/kernel/security/integrity/ima"];
        Self {
            ima: appraises(ima.into_iter().any(there), &text("proc/cmdline").unwrap_or_default()),
            lsm: confines(
                text("sys/fs/selinux/enforce").as_deref(),
                there("proc/self/attr/apparmor"),
                text("proc/sys/kernel/apparmor_restrict_unprivileged_unconfined").as_deref(),
                there("sys/fs/smackfs") || there("proc/self/attr/smack"),
            ),
        }
    }
}

/// IMA is there, and not told to let pass what does not fit.
fn appraises(there: bool, command_line: &str) -> Result<(), String> {
    if !there {
        return Err("this kernel has no IMA, or its securityfs is not mounted".to_owned());
    }
    let lax = command_line
        .split_ascii_whitespace()
        .find(|word| word.strip_prefix("ima_appraise=").is_some_and(|mode| mode != "enforce"));
    lax.map_or(Ok(()), |word| Err(format!("the kernel was started with {word}")))
}

/// The LSM that gives labels enforces its policy. Under AppArmor a program that
/// is not confined may put on any profile by itself (aa_change_profile(2)), unless
/// the kernel is told to refuse that.
fn confines(
    selinux: Option<&str>,
    apparmor: bool,
    unconfined: Option<&str>,
    smack: bool,
) -> Result<(), String> {
    match (selinux.map(str::trim), apparmor) {
        (Some("1"), _) => Ok(()),
        (Some(_), _) => Err("SELinux is permissive".to_owned()),
        (None, true) if unconfined.map(str::trim) == Some("1") => Ok(()),
        (None, true) => Err(
            "AppArmor lets a program that is not confined choose its profile: sysctl kernel.apparmor_restrict_unprivileged_unconfined=1"
                .to_owned(),
        ),
        (None, false) if smack => Ok(()),
        (None, false) => Err("this kernel has no LSM that gives labels".to_owned()),
    }
}

/// What `security.ima` says (`enum evm_ima_xattr_type` in Linux'
/// security/integrity/integrity.h): [`SIGNED`], or a hash as `sha256:<hex>`.
pub(super) fn read_ima(value: &[u8]) -> Option<String> {
    const ALGORITHMS: [(u8, &str); 5] =
        [(1, "md5"), (2, "sha1"), (4, "sha256"), (5, "sha384"), (6, "sha512")];
    match value {
        // EVM_IMA_XATTR_DIGSIG, IMA_VERITY_DIGSIG: a signature, of at least its header.
        [3 | 6, rest @ ..] if rest.len() > 8 => Some(SIGNED.to_owned()),
        // IMA_XATTR_DIGEST: SHA-1 or MD5, by its length.
        [1, hash @ ..] if hash.len() == 20 => Some(named("sha1", hash)),
        // IMA_XATTR_DIGEST_NG: the algorithm's number in front (`enum hash_algo`).
        [4, algorithm, hash @ ..] if !hash.is_empty() => {
            let (_, name) = ALGORITHMS.iter().find(|(number, _)| number == algorithm)?;
            Some(named(name, hash))
        }
        _ => None,
    }
}

fn named(algorithm: &str, hash: &[u8]) -> String {
    format!("{algorithm}:{}", data_encoding::HEXLOWER.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel { ima: Ok(()), lsm: Ok(()) }
    }

    fn listed() -> Listed {
        Listed { labels: ["psql_t".to_owned()].into(), ima: true }
    }

    const NONE: Evidence<'static> = Evidence {
        verity: None,
        ima: None,
        unverified: Some("/lib/libc.so.6"),
        label: &Fact::Absent,
    };

    /// Facts as they were recorded, and what is missing.
    #[test]
    fn each_way_enforces_by_itself_and_says_what_it_lacks() {
        let known = |text: &str| Fact::Known(text.to_owned());
        let (confined, other) = (known("psql_t"), known("unconfined_t"));
        let unread = Fact::Unreadable("permission denied".to_owned());
        let kept = Some("sha256:00");
        for (seen, wanted) in [
            (Evidence { verity: kept, unverified: None, ..NONE }, None),
            (
                Evidence { verity: kept, ..NONE },
                Some("/lib/libc.so.6 is mapped and has no fs-verity"),
            ),
            (Evidence { unverified: None, ..NONE }, Some("its executable has no fs-verity digest")),
            (Evidence { ima: Some(SIGNED), ..NONE }, None),
            (Evidence { ima: Some("sha256:00"), ..NONE }, Some("an IMA hash, and no signature")),
            (NONE, Some("no IMA signature")),
            (Evidence { label: &confined, ..NONE }, None),
            (
                Evidence { label: &other, ..NONE },
                Some("\"unconfined_t\" is not in enforced_labels"),
            ),
            (Evidence { label: &unread, ..NONE }, Some("could not be read: permission denied")),
            (NONE, Some("no LSM gives it a label")),
        ] {
            let found = enforced(&seen, &kernel(), &listed());
            match wanted {
                None => assert_eq!(found, Ok(()), "{seen:?}"),
                Some(part) => {
                    assert!(found.as_ref().unwrap_err().contains(part), "{seen:?}: {found:?}")
                }
            }
        }
    }

    #[test]
    fn what_the_kernel_does_not_do_or_root_does_not_say_is_not_relied_on() {
        let confined = Fact::Known("psql_t".to_owned());
        let signed = Evidence { ima: Some(SIGNED), ..NONE };
        let labelled = Evidence { label: &confined, ..NONE };
        let lax = Kernel { ima: Err("no IMA".into()), lsm: Err("permissive".into()) };
        assert!(enforced(&signed, &lax, &listed()).unwrap_err().contains("no IMA"));
        assert!(enforced(&labelled, &lax, &listed()).unwrap_err().contains("permissive"));
        let silent = Listed::default();
        assert!(enforced(&signed, &kernel(), &silent).unwrap_err().contains("enforced_ima"));
        assert!(enforced(&labelled, &kernel(), &silent).unwrap_err().contains("enforced_labels"));
    }

    #[test]
    fn a_kernel_that_lets_pass_what_does_not_fit_does_not_appraise() {
        assert_eq!(appraises(true, "quiet ro"), Ok(()));
        assert_eq!(appraises(true, "ima_appraise=enforce ima_policy=appraise_tcb"), Ok(()));
        for line in ["ima_appraise=log", "quiet ima_appraise=fix ro", "ima_appraise=off"] {
            assert!(appraises(true, line).is_err(), "{line}");
        }
        assert!(appraises(false, "").unwrap_err().contains("no IMA"));
    }

    #[test]
    fn a_label_counts_only_where_its_lsm_enforces_it() {
        assert_eq!(confines(Some("1"), false, None, false), Ok(()));
        assert_eq!(confines(None, true, Some("1\n"), false), Ok(()));
        assert_eq!(confines(None, false, None, true), Ok(()));
        for (why, found) in [
            ("permissive", confines(Some("0\n"), false, None, false)),
            ("permissive", confines(Some("0"), true, Some("1"), false)),
            ("choose its profile", confines(None, true, Some("0"), false)),
            ("choose its profile", confines(None, true, None, false)),
            ("no LSM", confines(None, false, None, false)),
        ] {
            assert!(found.unwrap_err().contains(why), "{why}");
        }
    }

    #[test]
    fn the_xattr_is_read_as_the_kernel_writes_it() {
        let signature = [&[3, 2, 4, 1, 2, 3, 4, 0, 9][..], &[7; 9]].concat();
        assert_eq!(read_ima(&signature).as_deref(), Some(SIGNED));
        assert_eq!(read_ima(&[4, 4, 0xab, 0xcd]).as_deref(), Some("sha256:abcd"));
        assert_eq!(read_ima(&[&[1][..], &[0; 20]].concat()).map(|text| text.len()), Some(45));
        // An HMAC of EVM's, a signature without its bytes, an algorithm of later.
        for other in [&[2, 1, 1][..], &[3, 2, 4], &[4, 99, 1], &[], &[1, 2]] {
            assert_eq!(read_ima(other), None, "{other:?}");
        }
    }

    #[test]
    fn this_kernel_can_be_asked() {
        let found = Kernel::read();
        println!("level 4 here: IMA {:?}, LSM {:?}", found.ima, found.lsm);
        let nothing = tempfile::tempdir().unwrap();
        let none = Kernel::below(nothing.path());
        assert!(none.ima.is_err() && none.lsm.is_err());
    }
}
