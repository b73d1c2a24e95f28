//! Attacks on "of which workload": cgroups that a process can choose, names that
//! only look like systemd's or a runtime's, facts made unreadable; and floods.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{Outcome, PEERS, Peer, Program, Setup, Stage, needs_root, not_run, random_secret};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[MOVED_ITSELF, LEFT_ITS_UNIT, HIDDEN, CROWD];

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Cgroups of version 2 below one of this test's own; gone with it.
struct Cgroups {
    top: PathBuf,
    made: Vec<PathBuf>,
}

impl Cgroups {
    /// Where the machine has no such file system that can be written, the test that
    /// asked `exist` first is not run.
    fn new() -> Self {
        Self::make_one().expect("a cgroup file system of version 2 that can be written")
    }

    fn exist() -> bool {
        Self::make_one().is_some()
    }

    fn make_one() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"))?[1].to_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let top = format!("jsitests{}x{number}.slice", std::process::id());
        let mut all = Self { top: Path::new(&mount).join(top), made: Vec::new() };
        std::fs::create_dir(&all.top).ok()?;
        all.made.push(all.top.clone());
        Some(all)
    }

    fn make(&mut self, path: &str) -> PathBuf {
        let at = self.top.join(path);
        std::fs::create_dir(&at).unwrap();
        self.made.push(at.clone());
        at
    }

    /// One that the first peer owns, as systemd delegates one to a user.
    fn delegate(&mut self, path: &str) -> PathBuf {
        let at = self.make(path);
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            let uid = Some(PEERS[0].uid);
            chown(at.join(file), uid, uid).unwrap();
        }
        at
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in self.made.iter().rev() {
            // What ran in it may take a moment to be gone.
            for _ in 0..100 {
                match std::fs::remove_dir(cgroup) {
                    Err(error) if error.raw_os_error() == Some(16) => {
                        std::thread::sleep(std::time::Duration::from_millis(20));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// A host agent with one secret, given by `policy`.
fn stage(setup: Setup, policy: &str) -> Stage {
    let host = setup.start(|world| {
        world.compile("workload.c", "workload");
        vec![("orders", policy.to_owned())]
    });
    let secret = random_secret();
    host.put("db/orders", &secret);
    Stage { host, secret }
}

/// The program of the first peer, which root has put into that cgroup.
fn within(stage: &Stage, cgroup: &Path, mode: &str, more: &[&str]) -> Program {
    let script = "echo 0 >\"$0\"/cgroup.procs && exec \"$@\"";
    let shell = stage.host.program(Peer { uid: 0 }, "/bin/sh").args(["-c", script]);
    as_peer(stage, shell.args([cgroup]), mode, more)
}

/// The program of the first peer, behind a command of root's.
fn as_peer(stage: &Stage, before: Program, mode: &str, more: &[&str]) -> Program {
    let uid = PEERS[0].uid.to_string();
    let setpriv = ["/usr/bin/setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"];
    let program = before.args(setpriv).args([stage.host.world.bin("workload")]);
    program.args([mode, &stage.socket(), "db/orders"]).args(more)
}

/// The program as the first peer starts it.
fn plain(stage: &Stage, mode: &str, more: &[&str]) -> Outcome {
    let program = stage.host.program(PEERS[0], stage.host.world.bin("workload"));
    program.args([mode, &stage.socket(), "db/orders"]).args(more).run()
}

/// The program as the second peer starts it.
fn crowding(stage: &Stage, mode: &str, more: &[&str]) -> Program {
    let program = stage.host.program(PEERS[1], stage.host.world.bin("workload"));
    program.args([mode, &stage.socket()]).args(more)
}

fn no_cgroups() -> Option<&'static str> {
    let why = "no cgroup file system of version 2 can be written here";
    (!Cgroups::exist()).then_some(why)
}

macro_rules! needs_cgroups {
    () => {
        needs_root!();
        if let Some(why) = no_cgroups() {
            return not_run(module_path!(), line!(), why);
        }
    };
}

/// The secret is for a unit.
fn for_a_unit(alter: Alter<'_>) -> Stage {
    let policy = r#"permit(principal in Unit::"web.service", action in Action::"use",
        resource == Credential::"db/orders");"#;
    stage(alter(Setup::host()), policy)
}

/// The secret is for the first peer.
fn for_a_uid(setup: Setup) -> Stage {
    let uid = PEERS[0].uid;
    let policy = format!(
        r#"permit(principal in User::"{uid}", action in Action::"use",
                  resource == Credential::"db/orders");"#
    );
    stage(setup, &policy)
}

fn in_the_unit(stage: &Stage) {
    let mut cgroups = Cgroups::new();
    let unit = cgroups.make("web.service");
    stage.served(&within(stage, &unit, "get", &[]).run());
}

const MOVED_ITSELF: Attack = Attack::new(
    "a_cgroup_that_the_caller_moved_itself_into_is_not_its_unit",
    &["root-owned-cgroup"],
    "no permit applies",
    |stage| {
        let mut cgroups = Cgroups::new();
        cgroups.delegate("own.slice");
        let start = cgroups.delegate("own.slice/start");
        let forged = cgroups.delegate("own.slice/web.service");
        let procs = forged.join("cgroup.procs").display().to_string();
        within(stage, &start, "get-from", &[&procs]).run().stdout
    },
)
.on(for_a_unit)
.where_possible(no_cgroups)
.twin(in_the_unit);

#[test]
fn a_cgroup_that_the_caller_moved_itself_into_is_not_its_unit() {
    needs_cgroups!();
    MOVED_ITSELF.is_refused();
}

#[test]
fn a_unit_of_roots_cannot_be_entered() {
    needs_cgroups!();
    let stage = for_a_unit(&|setup| setup);
    let mut cgroups = Cgroups::new();
    let unit = cgroups.make("web.service");
    cgroups.delegate("own.slice");
    let start = cgroups.delegate("own.slice/start");
    let procs = unit.join("cgroup.procs").display().to_string();
    let out = within(&stage, &start, "get-from", &[&procs]).run();
    assert!(out.stdout.contains("FAILED") && out.stdout.contains("Permission denied"), "{out}");
}

/// Another moves it, within the time for which facts of cgroups are kept. More
/// than once, since a slow machine may take longer than that.
const LEFT_ITS_UNIT: Attack = Attack::new(
    "a_process_that_has_left_its_unit_is_not_served_for_it",
    &["cgroup-move"],
    "no permit applies",
    |stage| {
        let mut cgroups = Cgroups::new();
        let (unit, other) = (cgroups.make("web.service"), cgroups.make("other.service"));
        let mut all = String::new();
        for _ in 0..10 {
            let mut program = within(stage, &unit, "get-each-time", &[]).talk();
            let said = program.until("DELIVERED");
            assert!(said.contains(&stage.secret), "the twin was not served:\n{said}");
            let pid = program.pid().to_string();
            std::fs::write(other.join("cgroup.procs"), pid).unwrap();
            program.say("");
            let said = program.rest();
            all.push_str(&said);
            if said.contains(&stage.secret) {
                break;
            }
        }
        all
    },
)
.on(for_a_unit)
.where_possible(no_cgroups)
.twin(in_the_unit);

#[test]
fn a_process_that_has_left_its_unit_is_not_served_for_it() {
    needs_cgroups!();
    // It was served before it left, and the log says so: what counts is what it
    // was given afterwards.
    let stage = for_a_unit(&|setup| setup);
    let said = LEFT_ITS_UNIT.act_on(&stage);
    assert!(!said.contains(&stage.secret) && said.contains("REFUSED"), "{said}");
    stage.host.await_record("denied", "no permit applies");
    in_the_unit(&stage);
}

#[test]
fn a_container_or_pod_that_a_uid_named_itself_is_not_believed() {
    needs_cgroups!();
    let policy = format!(
        r#"permit(principal, action in Action::"use", resource == Credential::"db/orders")
           when {{ principal has container && principal.container == "{ID}" &&
                   principal has container_runtime && principal.container_runtime == "docker" }};"#
    );
    let stage = stage(Setup::host(), &policy);
    let mut cgroups = Cgroups::new();
    let name = format!("docker-{ID}.scope");
    let real = cgroups.make(&name);
    cgroups.delegate("own.slice");
    let forged = cgroups.delegate(&format!("own.slice/{name}"));
    let said = within(&stage, &forged, "get", &[]).run().stdout;
    stage.refuses_because(&said, "no permit applies");
    stage.served(&within(&stage, &real, "get", &[]).run());
    let granted = stage.host.await_record("granted", "db/orders").to_string();
    assert!(granted.contains(ID) && granted.contains("docker"), "{granted}");
}

/// systemd gives its units' sockets abstract names of the kind
/// `<hex>/unit/<unit>/…`; everybody can take one.
#[test]
fn an_abstract_name_like_systemds_makes_nobody_a_unit() {
    needs_cgroups!();
    let stage = for_a_unit(&|setup| setup);
    let name =
        |number: u32| format!("{:08x}{number:08x}/unit/web.service/db-orders", std::process::id());
    let said = plain(&stage, "get-as", &[&name(1)]).stdout;
    stage.refuses_because(&said, "no permit applies");
    let mut cgroups = Cgroups::new();
    let unit = cgroups.make("web.service");
    stage.served(&within(&stage, &unit, "get-as", &[&name(2)]).run());
}

/// Nothing of its own is to keep a process from being seen for what it is: where
/// the agent may not look, a forbid that names the fact holds.
const HIDDEN: Attack = Attack::new(
    "a_forbid_is_not_escaped_by_making_the_fact_unreadable",
    &["unreadable-forbid"],
    "may not be looked at",
    // Root makes the network; what it starts there is the peer's.
    |stage| {
        let unshare = stage.host.program(Peer { uid: 0 }, "/usr/bin/unshare").args(["-n", "--"]);
        as_peer(stage, unshare, "get-hidden", &[]).run().stdout
    },
)
.on(|alter| {
    let uid = PEERS[0].uid;
    let policy = format!(
        r#"permit(principal in User::"{uid}", action in Action::"use",
                  resource == Credential::"db/orders");
           @id("own-network") forbid(principal, action, resource == Credential::"db/orders")
           when {{ principal has namespaces && !principal.namespaces.host_net }};"#
    );
    stage(alter(Setup::user(uid)), &policy)
})
.twin(|stage| {
    stage.served(&plain(stage, "get", &[]));
    let unshare = stage.host.program(Peer { uid: 0 }, "/usr/bin/unshare").args(["-n", "--"]);
    let seen = as_peer(stage, unshare, "get", &[]).run();
    assert!(!seen.stdout.contains(&stage.secret), "the forbid forbids nothing:\n{seen}");
    stage.host.await_record("denied", "own-network");
});

#[test]
fn a_forbid_is_not_escaped_by_making_the_fact_unreadable() {
    needs_root!();
    HIDDEN.is_refused();
}

#[test]
fn a_uid_that_connects_all_the_time_keeps_nobody_else_out() {
    needs_root!();
    let stage = for_a_uid(Setup::host());
    let mut flood = crowding(&stage, "flood", &[]).talk();
    flood.expect("FLOODS");
    stage.host.await_record("refused", "limits.connects_per_second");
    for _ in 0..20 {
        stage.served(&plain(&stage, "get", &[]));
    }
    assert!(flood.is_running());
    flood.end();
    let why = stage.host.await_record("refused", "limits.connects_per_second");
    assert_eq!(why["uid"], PEERS[1].uid, "{why}");
}

/// How many of so many connections at once the agent has spoken on.
fn heard(stage: &Stage) -> u32 {
    let out = crowding(stage, "crowd", &["600"]).run().succeeded();
    out.stdout.trim().strip_prefix("HEARD ").expect("it counts").parse().unwrap()
}

const CROWD: Attack = Attack::new(
    "a_uid_does_not_get_more_connections_than_it_may_have_a_second",
    &["connect-rate"],
    "limits.connects_per_second = 20",
    |stage| {
        let heard = heard(stage);
        told(&format!("{heard} heard"), heard > 300)
    },
)
.on(|alter| for_a_uid(alter(Setup::host().limit("connects_per_second", "20"))))
.twin(|stage| stage.served(&plain(stage, "get", &[])));

#[test]
fn a_uid_does_not_get_more_connections_than_it_may_have_a_second() {
    needs_root!();
    CROWD.is_refused();
}
