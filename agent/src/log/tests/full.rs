use super::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::process::Command;

struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, flags: MsFlags, options: &str) -> Self {
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

fn fills_up(dir: &Path, log: &Log) {
    let mut good = 0;
    let error = loop {
        match block(log.append(granted(good))) {
            Ok(()) => good += 1,
            Err(error) => break error,
        }
        assert!(good < 1_000_000);
    };
    assert!(good > 0);
    assert_eq!(error.blame(), Blame::Operator);
    assert!(log.fault().unwrap().contains("make room") || log.fault().unwrap().contains("limit"));
    assert_eq!(log.head().size, u64::from(good));
    // Nothing half-written stays.
    assert_eq!(verify(dir, None).unwrap(), log.head());
    // And nothing is taken any more, room or not.
    assert_eq!(block(log.append(started())), Err(error.clone()));
    log.append_background(started());
    assert_eq!(block(log.flush()), Err(error));
}

#[test]
fn a_full_disk_fails_the_log_for_good_and_leaves_no_half_line() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can mount a small file system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::mount(dir.path(), MsFlags::empty(), "size=64k,mode=0700");
    let (log, _) = open_log(dir.path());
    fills_up(dir.path(), &log);
    let head = log.head();
    drop(log);
    // Started again with room, it goes on where it was.
    mount(None::<&str>, dir.path(), None::<&str>, MsFlags::MS_REMOUNT, Some("size=1m,mode=0700"))
        .unwrap();
    let (log, _) = open_log(dir.path());
    assert_eq!(log.head(), head);
    block(log.append(started())).unwrap();
}

#[test]
fn a_rotation_on_a_full_disk_fails_the_log_and_leaves_no_segment_without_snapshot() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can mount a small file system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::mount(dir.path(), MsFlags::empty(), "size=64k,mode=0700");
    // Leases live, so each snapshot is nearly as large as its segment.
    let (log, _) = Log::open(dir.path(), Clock::system(), None, 30_000).unwrap();
    let mut n = 0;
    while block(log.append(granted(n))).is_ok() {
        n += 1;
    }
    assert!(log.fault().is_some());
    let head = log.head();
    drop(log);
    assert_eq!(verify(dir.path(), Some(&head)), Ok(head));
}

#[test]
fn a_read_only_directory_is_refused_clearly() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can mount a read-only file system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::mount(dir.path(), MsFlags::MS_RDONLY, "size=64k,mode=0700");
    let error = Log::open(dir.path(), Clock::system(), None, LARGE).err().unwrap();
    assert!(error.to_string().contains("mount the file system writable"), "{error}");
}

/// Run by the test below only, under a limit on file size.
#[test]
fn child_under_a_limit() {
    let Some(dir) = std::env::var_os("JSI_TEST_LOG_LIMITED") else { return };
    let dir = Path::new(&dir);
    let (log, _) = open_log(dir);
    fills_up(dir, &log);
}

#[test]
fn a_limit_on_file_size_fails_the_log_and_leaves_no_half_line() {
    let dir = tempfile::tempdir().unwrap();
    // The limit is in blocks of 512 bytes or 1 KiB, as the shell has it.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "log::tests::full::child_under_a_limit"])
        .env("JSI_TEST_LOG_LIMITED", dir.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(verify(dir.path(), None).unwrap().size > 0);
}
