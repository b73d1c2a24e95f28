//! Attacks by pids: one that is used again, and one that is none.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{PEERS, Setup, Stage, needs_root};
use nix::sched::{CloneFlags, setns, unshare};
use std::cell::RefCell;
use std::fs::File;
use std::process::{Child, Command};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[RECYCLED];

thread_local! {
    /// Pid 1 of this thread's pid namespace.
    static FIRST: RefCell<Option<First>> = const { RefCell::new(None) };
}

struct First(Child);

impl Drop for First {
    /// All others there end with it.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pids that such a namespace has: few, so that they soon come again.
const PIDS: u32 = 400;

/// The agent and its peers in a pid namespace with few pids. To be called once in
/// a thread, which can start no other threads any more.
fn few_pids(alter: Alter<'_>) -> Stage {
    unshare(CloneFlags::CLONE_NEWPID).expect("unshare(CLONE_NEWPID)");
    let reap = format!("echo {PIDS} >/proc/sys/kernel/pid_max; while :; do sleep 100 & wait; done");
    let first = Command::new("/bin/sh").args(["-c", &reap]).spawn().unwrap();
    FIRST.set(Some(First(first)));
    // It reads the /proc of its own namespace.
    let setup = Setup::host().through(&["/usr/bin/unshare", "-m", "--mount-proc"]);
    Stage::with(alter(setup.limit("challenge_timeout", "\"2s\"")))
}

/// Linux 6.14 gave each pid namespace a pid_max of its own; before, the whole
/// machine would have to run through all of its pids.
fn one_pid_max() -> Option<&'static str> {
    let release = nix::sys::utsname::uname().ok()?;
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version < (6, 14)).then_some("the kernel is older than 6.14: pids do not come again so soon")
}

/// CVE-2013-4288 and CVE-2019-6133.
const RECYCLED: Attack = Attack::new(
    "the_next_process_with_a_pid_is_not_the_one_that_asked",
    &["challenge", "peer-alive", "pidfd-names-peer"],
    "ended before it was verified",
    |stage| {
        let swapper = stage.host.world.compile("swapper.c", "swapper");
        let mut attack =
            stage.program(&swapper.display().to_string(), "recycle", &[&stage.trusted()]).talk();
        stage.while_stopped(|| {
            attack.say("go on");
            attack.expect("AGAIN");
        });
        let said = attack.rest();
        // Whatever becomes of it, it has been taken for the trusted program.
        let records = stage.host.records();
        told(&said, jsi_tests::find(&records, "granted", "db/orders").is_some())
    },
)
.on(few_pids)
.where_possible(one_pid_max);

#[test]
fn the_next_process_with_a_pid_is_not_the_one_that_asked() {
    needs_root!();
    RECYCLED.is_refused();
}

/// Whoever is outside the agent's pid namespace has no pid there, and nothing can
/// be read of it.
#[test]
fn a_peer_outside_the_agents_pid_namespace_is_not_served() {
    needs_root!();
    if let Some(why) = one_pid_max() {
        return jsi_tests::not_run(module_path!(), line!(), why);
    }
    let outside = File::open("/proc/thread-self/ns/pid").unwrap();
    let stage = few_pids(&|setup| setup);
    setns(outside, CloneFlags::CLONE_NEWPID).unwrap();
    let out = stage.host.program(PEERS[0], stage.trusted());
    let out = out.args(["get", &stage.socket(), "db/orders"]).run();
    stage.refuses_because(&out.stdout, "has no pid in the agent's pid namespace");
}
