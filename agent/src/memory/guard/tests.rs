use super::*;
use crate::memory::region::PAGE;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const KINDS: [GuardKind; 2] = [GuardKind::MemfdSecret, GuardKind::Mlock];

/// Runs it in a fork; its answer is the exit code.
fn in_a_fork(run: impl FnOnce() -> i32) -> WaitStatus {
    // SAFETY: the child makes system calls and ends by _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = run();
            // SAFETY: no destructors are wanted in the child.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    }
}

fn data(guarded: &Guarded) -> *mut u8 {
    guarded.slab.data(guarded.place).as_ptr()
}

/// Can this process read the address now? Asks the kernel, which answers EFAULT
/// where a load would be SIGSEGV.
fn readable(address: *const u8) -> bool {
    let (_read, write) = nix::unistd::pipe().unwrap();
    // SAFETY: the kernel checks the address.
    let n = unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&write), address.cast(), 1) };
    n == 1
}

#[test]
fn bytes_come_back_as_they_were_written_in_every_size() {
    for kind in KINDS {
        let guard = Guard::of_kind(kind).unwrap();
        let mut all = Vec::new();
        for len in [0, 1, 31, 32, 33, 200, 480, 2016, 2017, 4064, 4065, 5000, 70_000] {
            let mut guarded = guard.alloc(len).unwrap();
            guarded.read(|bytes| assert!(bytes.len() == len && bytes.iter().all(|b| *b == 0)));
            guarded.write(&vec![len.to_le_bytes()[0] | 1; len]).unwrap();
            all.push((len, guarded));
        }
        for (len, guarded) in &all {
            guarded.read(|bytes| assert!(bytes.iter().all(|b| *b == len.to_le_bytes()[0] | 1)));
        }
        assert!(all[1].1.slab.data(all[1].1.place).addr().get() % 16 == 0);
    }
}

#[test]
fn a_page_is_not_readable_between_uses() {
    for kind in KINDS {
        let mut guarded = Guard::of_kind(kind).unwrap().alloc(32).unwrap();
        guarded.write(&[7; 32]).unwrap();
        let address = data(&guarded);
        assert!(!readable(address), "{kind:?}");
        guarded.read(|_| {
            guarded.read(|_| ());
            // The first reader is still there. (write(2) may read secret memory: it is ours.)
            assert!(readable(address), "{kind:?}");
        });
        assert!(!readable(address), "{kind:?}");
    }
}

#[test]
fn a_load_between_uses_ends_in_sigsegv_and_so_does_one_past_the_region() {
    for kind in KINDS {
        let mut guarded = Guard::of_kind(kind).unwrap().alloc(32).unwrap();
        guarded.write(&[7; 32]).unwrap();
        let address = data(&guarded);
        let offsets = [0, 4 * PAGE as isize, -(PAGE as isize)];
        for offset in offsets {
            let status = in_a_fork(|| {
                // SAFETY: not safe: the signal is what is tested.
                i32::from(unsafe { address.wrapping_offset(offset).read_volatile() })
            });
            assert!(
                matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGSEGV, _)),
                "{status:?}"
            );
        }
    }
}

#[test]
fn a_fork_does_not_see_guarded_memory_even_while_it_is_open() {
    for kind in KINDS {
        let mut guarded = Guard::of_kind(kind).unwrap().alloc(32).unwrap();
        guarded.write(&[7; 32]).unwrap();
        let address = data(&guarded);
        let status = guarded.read(|_| {
            in_a_fork(|| {
                // SAFETY: not safe: the signal is what is tested.
                i32::from(unsafe { address.read_volatile() })
            })
        });
        assert!(
            matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGSEGV, _)),
            "{status:?}"
        );
    }
}

#[test]
fn neither_dumps_nor_forks_get_the_pages() {
    let guarded = Guard::of_kind(GuardKind::Mlock).unwrap().alloc(32).unwrap();
    let start = format!("\n{:x}-", data(&guarded).addr() & !(PAGE - 1));
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let entry = smaps.split_once(&start).unwrap().1;
    let flags = entry.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    for flag in ["lo", "dc", "dd"] {
        assert!(flags.split_whitespace().any(|f| f == flag), "{flag} is not among {flags}");
    }
}

#[test]
fn a_write_past_the_end_is_found() {
    for kind in KINDS {
        let guard = Guard::of_kind(kind).unwrap();
        for (len, damage) in [(20, 20), (20, -1), (32, 32), (5000, 5000), (5000, -16)] {
            let guarded = guard.alloc(len).unwrap();
            let slab = Arc::clone(&guarded.slab);
            slab.open(guarded.place, true).unwrap();
            assert!(slab.check(guarded.place).is_ok());
            // SAFETY: inside the slot's own page, which is open.
            let byte = unsafe { &mut *data(&guarded).offset(damage) };
            *byte ^= 1;
            assert!(
                matches!(slab.check(guarded.place), Err(MemoryError::Canary)),
                "{len} {damage}"
            );
            *byte ^= 1;
            slab.close(guarded.place, true).unwrap();
        }
    }
}

#[test]
fn a_process_with_a_damaged_canary_does_not_go_on() {
    let status = in_a_fork(|| {
        let guarded = Guard::new().unwrap().alloc(20).unwrap();
        guarded.slab.open(guarded.place, true).unwrap();
        // SAFETY: inside the slot's own page, which is open.
        unsafe { *data(&guarded).add(20) ^= 1 };
        guarded.read(|_| ());
        0
    });
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::SIGABRT, _)), "{status:?}");
}

#[test]
fn dropped_memory_is_zero() {
    let guard = Guard::new().unwrap();
    let neighbour = guard.alloc(32).unwrap();
    let mut guarded = guard.alloc(32).unwrap();
    guarded.write(&[0xA7; 32]).unwrap();
    let address = data(&guarded);
    assert!(address.addr() - data(&neighbour).addr() < PAGE);
    drop(guarded);
    // SAFETY: the neighbour keeps the page mapped, and its use keeps it open.
    neighbour.read(|_| assert!((0..32).all(|at| unsafe { address.add(at).read_volatile() } == 0)));
}

#[test]
fn slots_are_used_again_and_long_ones_unmapped() {
    let guard = Guard::new().unwrap();
    let address = data(&guard.alloc(32).unwrap());
    for _ in 0..300 {
        assert_eq!(data(&guard.alloc(32).unwrap()), address);
        drop(guard.alloc(100_000).unwrap());
    }
}

#[test]
fn threads_share_pages_without_disturbing_each_other() {
    let guard = Guard::new().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let guard = &guard;
            scope.spawn(move || {
                for round in 0..2_000_u32 {
                    let mut guarded = guard.alloc(24).unwrap();
                    let mark = [thread ^ round.to_le_bytes()[0]; 24];
                    guarded.write(&mark).unwrap();
                    guarded.read(|bytes| assert_eq!(bytes, mark));
                }
            });
        }
    });
}

#[test]
fn the_limit_is_named_with_its_remedy() {
    for kind in KINDS {
        for (limit, in_use) in [(0, 0), (64 * 1024, 100)] {
            let status = in_a_fork(|| {
                caps::clear(None, caps::CapSet::Effective).unwrap();
                setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit).unwrap();
                let made = Guard::of_kind(kind).and_then(|guard| {
                    (0..in_use).map(|_| guard.alloc(4000)).collect::<Result<Vec<_>, _>>()
                });
                let Err(error) = made else { return 1 };
                let text = error.to_string();
                i32::from(!(text.contains("RLIMIT_MEMLOCK is") && text.contains("ulimit -l")))
            });
            assert!(matches!(status, WaitStatus::Exited(_, 0)), "{kind:?} {limit}: {status:?}");
        }
    }
}

#[test]
fn more_than_fits_is_refused() {
    let guard = Guard::new().unwrap();
    assert!(matches!(guard.alloc(16 * 1024 * 1024), Err(MemoryError::TooLong(_))));
    assert!(guard.alloc(4).unwrap().write(b"12345").is_err());
}
