//! Attacks on "these bytes are what runs": by file systems that serve what they
//! like, by files rewritten behind a kept digest, by more to read than there is time.

use crate::attack::{Alter, Attack, told};
use jsi_tests::{PEERS, Peer, Setup, Stage, Talk, digest, needs_root, permit, permit_digest};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[
    TWO_FACES,
    TWO_FACES_BEHIND_OVERLAY,
    OVERLAY,
    REWRITTEN,
    TOO_LARGE,
    TOO_MANY,
    SAID_TO_BE_DELETED,
];

/// Bytes up to which the programs of these tests are filled with zeros.
const PADDED: usize = 256 * 1024;

/// A copy of an installed program of that length, which belongs to `owner`.
fn padded(stage: &Stage, program: &str, to: &Path, length: usize, owner: u32) {
    let mut bytes = std::fs::read(stage.host.world.bin(program)).unwrap();
    assert!(bytes.len() < length, "{program} has grown");
    bytes.resize(length, 0);
    let draft = stage.host.world.path().join("padded");
    std::fs::write(&draft, bytes).unwrap();
    // Another process writes it: see World::install.
    let owner = owner.to_string();
    let mut install = Command::new("/usr/bin/install");
    install.args(["-m", "0755", "-o", &owner, "-g", &owner, "--"]).arg(draft).arg(to);
    assert!(install.status().unwrap().success());
}

/// Policy knows the program by these bytes, wherever it lies.
fn permit_bytes_of(stage: &Stage, file: &Path) {
    stage.permit(&permit_digest(PEERS[0].uid, "db/orders", &digest(file)));
}

/// Why there is no FUSE here.
fn fuse() -> Option<&'static str> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = known.contains("\tfuse\n") && std::fs::File::open("/dev/fuse").is_ok();
    (!has).then_some("the kernel has no FUSE here")
}

/// A mounted file `trusted` that is one program to whoever executes it and the
/// trusted one to whoever reads it. The guard ends it.
fn two_faced(stage: &Stage, told_apart_by: &str) -> (Talk, PathBuf) {
    served_by_fuse(stage, "hostile", told_apart_by)
}

fn served_by_fuse(stage: &Stage, executed: &str, told_apart_by: &str) -> (Talk, PathBuf) {
    let (world, program) = (&stage.host.world, executed);
    let (shown, executed) = (world.path().join("shown"), world.path().join("executed"));
    padded(stage, "trusted", &shown, PADDED, 0);
    padded(stage, program, &executed, PADDED, 0);
    permit_bytes_of(stage, &shown);
    let server = world.compile("twofaced.c", "twofaced");
    let place = world.path().join("fuse");
    std::fs::create_dir(&place).unwrap();
    let server = stage.host.program(Peer { uid: 0 }, server);
    let mut server = server.args([&place, &shown, &executed]).args([told_apart_by]).talk();
    server.expect(&format!("MOUNTED {PADDED}"));
    (server, place)
}

/// Only the agent reads it with its uid.
const TWO_FACES: Attack = Attack::new(
    "a_file_system_that_shows_each_reader_another_program_is_not_read",
    &["foreign-file-system"],
    "lies on a fuse file system",
    |stage| {
        let reader = stage.host.world.owner_uid().to_string();
        let (_server, place) = two_faced(stage, &reader);
        let said = stage.run(&place.join("trusted").display().to_string(), "get", &[]).stdout;
        let _ = nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH);
        said
    },
)
.where_possible(fuse)
.twin(serves_what_is_shown);

fn serves_what_is_shown(stage: &Stage) {
    let shown = stage.host.world.path().join("shown");
    stage.served(&stage.run(&shown.display().to_string(), "get", &[]));
}

#[test]
fn a_file_system_that_shows_each_reader_another_program_is_not_read() {
    needs_root!();
    TWO_FACES.is_refused();
}

/// The same below an overlay that the peer mounts in namespaces of its own: there
/// the first to open it executes it.
const TWO_FACES_BEHIND_OVERLAY: Attack = Attack::new(
    "a_file_system_behind_another_is_not_read",
    &["stacked-file-system"],
    "on overlay in a mount namespace that another user namespace owns",
    |stage| {
        let (_server, place) = two_faced(stage, "first");
        let script = format!(
            "mkdir -p none on && mount -t overlay over -o lowerdir={}:none on && \
             exec on/trusted get {} db/orders",
            place.display(),
            stage.socket()
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
        let _ = nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH);
        assert!(out.stdout.contains("ED "), "it did not ask: {out}");
        out.stdout
    },
)
.where_possible(fuse)
.twin(serves_what_is_shown);

#[test]
fn a_file_system_behind_another_is_not_read() {
    needs_root!();
    TWO_FACES_BEHIND_OVERLAY.is_refused();
}

/// An overlay over the directory of the trusted program, with another in its place.
const OVERLAY: Attack = Attack::new(
    "an_overlay_over_the_trusted_path_is_not_the_trusted_program",
    &["own-view-of-path", "stacked-file-system"],
    "on overlay in a mount namespace that another user namespace owns",
    |stage| {
        let bin = stage.host.world.path().join("bin");
        let script = format!(
            "mkdir -p up && cp {hostile} up/trusted && \
             mount -t overlay over -o lowerdir=$PWD/up:{bin} {bin} && \
             exec {trusted} get {socket} db/orders",
            hostile = stage.hostile(),
            bin = bin.display(),
            trusted = stage.trusted(),
            socket = stage.socket()
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
        assert!(out.stdout.contains("ED "), "it did not ask: {out}");
        out.stdout
    },
);

#[test]
fn an_overlay_over_the_trusted_path_is_not_the_trusted_program() {
    needs_root!();
    OVERLAY.is_refused();
}

/// A root of its own does not make its paths the agent's.
#[test]
fn a_path_below_another_root_is_not_the_trusted_program() {
    needs_root!();
    let stage = Stage::new();
    let script = format!(
        "mkdir -p jail{dir} && cp {hostile} jail{trusted} && mkdir jail/lib jail/lib64 jail/usr && \
         for at in lib lib64 usr; do mount --rbind /$at jail/$at; done && \
         mkdir -p jail{run} && mount --bind {run} jail{run} && \
         exec /usr/sbin/chroot jail {trusted} get {socket} db/orders",
        dir = stage.host.world.path().join("bin").display(),
        run = stage.host.world.path().join("run").display(),
        hostile = stage.hostile(),
        trusted = stage.trusted(),
        socket = stage.socket()
    );
    let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
    let out = unshare.args(["-Urm", "/bin/sh", "-c", &script]).run();
    assert!(out.stdout.contains("ED "), "it did not ask: {out}");
    stage.refuses_because(&out.stdout, "no permit applies");
    stage.serves_the_twin();
}

/// The trusted program's file belongs to the first peer, who writes another
/// program into it once its digest is known, and sets its times back.
const REWRITTEN: Attack = Attack::new(
    "a_file_rewritten_with_its_old_times_is_not_what_it_was",
    &["digest-change-time"],
    "no permit applies",
    |stage| {
        let (own, other) = (copy(stage), stage.host.world.path().join("other"));
        padded(stage, "trusted", &own, PADDED, PEERS[0].uid);
        padded(stage, "hostile", &other, PADDED, 0);
        permit_bytes_of(stage, &own);
        let run = |program: &Path| stage.run(&program.display().to_string(), "get", &[]);
        // What was changed just now is not kept.
        std::thread::sleep(Duration::from_millis(1300));
        stage.served(&run(&own));
        let shell = stage.host.program(PEERS[0], "/bin/sh");
        let rewrite = "touch -r $1 times && cat $2 >$1 && touch -r times $1";
        let rewritten = shell.args(["-c", rewrite, "sh"]).args([&own, &other]).run();
        drop(rewritten.succeeded());
        std::thread::sleep(Duration::from_millis(1300));
        run(&own).stdout
    },
)
.twin(|stage| {
    padded(stage, "trusted", &copy(stage), PADDED, PEERS[0].uid);
    stage.served(&stage.run(&copy(stage).display().to_string(), "get", &[]));
});

fn copy(stage: &Stage) -> PathBuf {
    stage.host.world.home(PEERS[0]).join("copy")
}

#[test]
fn a_file_rewritten_with_its_old_times_is_not_what_it_was() {
    needs_root!();
    REWRITTEN.is_refused();
}

/// An executable may be as large as the first peer likes; read it is not.
const TOO_LARGE: Attack = Attack::new(
    "an_executable_larger_than_the_limit_is_not_read",
    &["hash-size"],
    "is larger than limits.hash_bytes",
    |stage| {
        padded(stage, "trusted", &copy(stage), PADDED, PEERS[0].uid);
        permit_bytes_of(stage, &copy(stage));
        stage.run(&copy(stage).display().to_string(), "get", &[]).stdout
    },
)
.on(|alter: Alter<'_>| Stage::with(alter(Setup::host().limit("hash_bytes", "200000"))))
.twin(|stage| {
    padded(stage, "trusted", &copy(stage), PADDED / 2, PEERS[0].uid);
    permit_bytes_of(stage, &copy(stage));
    stage.served(&stage.run(&copy(stage).display().to_string(), "get", &[]));
});

#[test]
fn an_executable_larger_than_the_limit_is_not_read() {
    needs_root!();
    TOO_LARGE.is_refused();
}

/// Executables that one uid may have hashed at once.
const HASHES: usize = 6;

/// One uid runs many small programs, each of other bytes; another uid has its
/// own read all the same.
const TOO_MANY: Attack = Attack::new(
    "a_uid_that_runs_many_small_programs_is_not_served_before_others",
    &["hash-rate"],
    "limits.hashes_per_minute",
    |stage| {
        let mut said = String::new();
        for number in 0..=HASHES * 2 {
            let program = stage.host.world.home(PEERS[1]).join(format!("copy-{number}"));
            padded(stage, "hostile", &program, PADDED + number, PEERS[1].uid);
            let program = stage.host.program(PEERS[1], program);
            said.push_str(&program.args(["get", &stage.socket(), "db/orders"]).run().stdout);
        }
        let records = stage.host.records();
        told(&said, jsi_tests::find(&records, "denied", "hashes_per_minute").is_none())
    },
)
.on(|alter: Alter<'_>| {
    Stage::with(alter(Setup::host().limit("hashes_per_minute", &HASHES.to_string())))
});

#[test]
fn a_uid_that_runs_many_small_programs_is_not_served_before_others() {
    needs_root!();
    TOO_MANY.is_refused();
}

/// The kernel says of a deleted `copy` that it is `copy (deleted)`: so is the
/// name of a file that policy names, and that is another one.
const SAID_TO_BE_DELETED: Attack = Attack::new(
    "a_deleted_file_is_not_the_file_with_deleted_in_its_name",
    &["deleted", "own-view-of-path"],
    "it was deleted, or is a memfd",
    |stage| {
        named_deleted(stage);
        padded(stage, "hostile", &copy(stage), PADDED, PEERS[0].uid);
        let name = copy(stage).display().to_string();
        stage.run(&stage.hostile(), "deleted", &[&name]).stdout
    },
)
.twin(|stage| {
    let named = named_deleted(stage).display().to_string();
    stage.served(&stage.run(&named, "get", &[]));
});

/// The trusted program under that name, which policy names.
fn named_deleted(stage: &Stage) -> PathBuf {
    let named = stage.host.world.home(PEERS[0]).join("copy (deleted)");
    padded(stage, "trusted", &named, PADDED, PEERS[0].uid);
    stage.permit(&permit(PEERS[0].uid, "db/orders", &named));
    named
}

#[test]
fn a_deleted_file_is_not_the_file_with_deleted_in_its_name() {
    needs_root!();
    SAID_TO_BE_DELETED.is_refused();
}

/// One file has many names, and policy names one of them.
#[test]
fn another_name_of_the_trusted_file_is_not_its_path() {
    needs_root!();
    let stage = Stage::new();
    padded(&stage, "trusted", &copy(&stage), PADDED, PEERS[0].uid);
    stage.permit(&permit(PEERS[0].uid, "db/orders", &copy(&stage)));
    let other = stage.host.world.home(PEERS[0]).join("other");
    let ln = stage.host.program(PEERS[0], "/bin/ln");
    drop(ln.args([&copy(&stage), &other]).run().succeeded());
    let out = stage.run(&other.display().to_string(), "get", &[]);
    stage.refuses_because(&out.stdout, "no permit applies");
    stage.served(&stage.run(&copy(&stage).display().to_string(), "get", &[]));
}

/// The file system of a program that already runs answers nobody any more, the
/// agent included.
#[test]
fn a_file_system_that_does_not_answer_holds_nobody_up() {
    needs_root!();
    if let Some(why) = fuse() {
        return jsi_tests::not_run(module_path!(), line!(), why);
    }
    let stage = Stage::new();
    let (server, place) = served_by_fuse(&stage, "trusted", "first");
    stage.permit(&permit(PEERS[0].uid, "db/orders", &stage.host.world.bin("trusted")));
    let program = place.join("trusted").display().to_string();
    let mut asks = stage.program(&program, "get-when-told", &[]).talk();
    asks.expect("READY");
    let server_pid = nix::unistd::Pid::from_raw(i32::try_from(server.pid()).unwrap());
    nix::sys::signal::kill(server_pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    asks.say("go on");
    asks.expect("SENT");
    stage.host.await_record("denied", "lies on a fuse file system");
    stage.serves_the_twin();
    nix::sys::signal::kill(server_pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(!asks.rest().contains(&stage.secret));
    let _ = nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH);
}
