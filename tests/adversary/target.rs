//! Attacks on "that is the program which `jsi exec` becomes".

use crate::attack::{Alter, Attack};
use jsi_tests::{Host, Outcome, PEERS, Setup, Stage, needs_root, random_secret};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// A host agent whose secret goes to targets of one kind only, that the shell
/// of the first peer starts.
struct Scene {
    host: Host,
    secret: String,
}

impl Scene {
    fn new(target: &str) -> Self {
        let host =
            Setup::host().start(|world| vec![("orders", permit(&world.bin("shell"), target))]);
        let secret = random_secret();
        host.put("db/orders", &secret);
        Self { host, secret }
    }

    fn allow(&self, target: &str) {
        self.host.world.write_policy("orders", &permit(&self.host.world.bin("shell"), target));
        self.host.admin(["reload"]).run().succeeded();
    }

    /// A file of the first peer's own.
    fn home(&self, name: &str) -> PathBuf {
        self.host.world.home(PEERS[0]).join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home(name);
        write(&path, bytes);
        path
    }

    /// `jsi exec` with that, by the peer's shell.
    fn exec(&self, words: &str) -> Outcome {
        self.shell(&format!("jsi exec -e X=db/orders {words}"))
    }

    fn shell(&self, script: &str) -> Outcome {
        self.host.shell(PEERS[0], script).run()
    }

    #[track_caller]
    fn refuses(&self, outcome: &Outcome) {
        assert!(!outcome.stdout.contains(&self.secret), "delivered:\n{outcome}");
        assert_eq!(outcome.code, 125, "{outcome}");
    }

    #[track_caller]
    fn serves(&self, outcome: &Outcome) {
        assert!(outcome.stdout.contains(&self.secret), "not served:\n{outcome}");
    }
}

fn permit(shell: &Path, target: &str) -> String {
    jsi_tests::permit(PEERS[0].uid, "db/orders", shell)
        .replace("context.assurance >= 1 &&", &format!("context has target && {target} &&"))
}

/// Written aside and renamed, so that it is never half there; the peer's own.
fn write(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("aside");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&aside, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(digest.as_ref())
}

/// A small program that says what it is, and what it was given.
fn program(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    let source = format!(
        "#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{ const char *x = getenv(\"X\"); \
         printf(\"{name} %s\\n\", x ? x : \"nothing\"); return 0; }}\n"
    );
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-x", "c", "-", "-o"]).arg(&path).stdin(Stdio::piped());
    let mut cc = cc.spawn().unwrap();
    cc.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(cc.wait().unwrap().success());
    std::fs::read(path).unwrap()
}

fn script(name: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho {name} $X\n").into_bytes()
}

/// One that is written and renamed over, all the time, while it is started.
fn race(flag: &str, good: &[u8], evil: &[u8], condition: &str) {
    let scene = Scene::new(&condition.replace("DIGEST", &digest(good)));
    let path = scene.file("program", good);
    let words = format!("{flag} {}", path.display());
    scene.serves(&scene.exec(&words));
    let stop = AtomicBool::new(false);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let bytes = if round.is_multiple_of(2) { evil } else { good };
                if round % 4 < 2 {
                    write(&path, bytes);
                } else {
                    // In place: refused while it runs by its path (ETXTBSY).
                    let _ = std::fs::write(&path, bytes);
                }
                round += 1;
            }
        });
        let outcomes = (0..40).map(|_| scene.exec(&words)).collect();
        stop.store(true, Ordering::Relaxed);
        outcomes
    });
    for outcome in &outcomes {
        let text = &outcome.stdout;
        assert!(!text.contains("evil"), "another program ran than was measured:\n{outcome}");
        let ran_good = *text == format!("good {}\n", scene.secret);
        assert!(ran_good || (outcome.code != 0 && text.is_empty()), "{outcome}");
    }
    for record in scene.host.records().iter().filter(|record| record["kind"] == "granted") {
        let target = &record["lease"]["holder"]["target"];
        let logged = [&target["digest"], &target["script_digest"]];
        assert!(logged.iter().any(|it| **it == digest(good)), "{record}");
    }
    write(&path, evil);
    scene.refuses(&scene.exec(&words));
    write(&path, good);
    scene.serves(&scene.exec(&words));
}

#[test]
fn a_program_that_is_swapped_while_it_starts_never_runs_under_anothers_digest() {
    needs_root!();
    race(
        "--sealed --",
        &program("good"),
        &program("evil"),
        r#"context.target has digest && context.target.digest == "DIGEST""#,
    );
}

#[test]
fn a_script_that_is_swapped_while_it_starts_never_runs_under_anothers_digest() {
    needs_root!();
    race(
        "--script",
        &script("good"),
        &script("evil"),
        r#"context.target has digest && context.target.digest == "DIGEST""#,
    );
}

#[test]
fn a_file_of_the_users_own_has_no_digest_that_counts_unless_it_is_sealed() {
    needs_root!();
    let good = program("good");
    let scene = Scene::new(&format!(
        r#"context.target has digest && context.target.digest == "{}""#,
        digest(&good)
    ));
    let path = scene.file("program", &good).display().to_string();
    let out = scene.exec(&format!("-- {path}"));
    scene.refuses(&out);
    let denied = scene.host.await_record("denied", &path);
    assert_eq!(denied["who"]["target"]["sealed"], false, "{denied}");
    assert!(denied["who"]["target"].get("digest").is_none(), "{denied}");
    let explained = scene.host.admin(["explain", denied["request"].as_str().unwrap()]).run();
    assert!(explained.succeeded().stdout.contains("jsi exec --sealed"), "the way out is not told");
    scene.serves(&scene.exec(&format!("--sealed -- {path}")));
    let granted = scene.host.await_record("granted", &path);
    assert_eq!(granted["lease"]["holder"]["target"]["digest"], digest(&good), "{granted}");
    // A block by digest is not escaped by what has none.
    scene.allow(r#"context.target has exe && context.target.exe like "*""#);
    scene.serves(&scene.exec(&format!("-- {path}")));
    let block = "forbid(principal, action, resource) when { context has target && \
                 context.target has digest && context.target.digest == \"00\" };";
    scene.host.world.write_policy("block", block);
    scene.host.admin(["reload"]).run().succeeded();
    scene.refuses(&scene.exec(&format!("-- {path}")));
    scene.serves(&scene.exec(&format!("--sealed -- {path}")));
}

/// Those that the table of mutants tries without the checks that they name.
pub(crate) const ATTACKS: &[Attack] = &[OWN_NAMESPACE, OTHER_MOUNTS];

/// The stage, where policy names `/usr/bin/env` as the target of the shell.
fn scene(alter: Alter<'_>) -> Stage {
    let stage = Stage::with(alter(Setup::host()));
    let named = r#"context.target has exe && context.target.exe == "/usr/bin/env""#;
    stage.permit(&permit(&stage.host.world.bin("shell"), named));
    let home = stage.host.world.home(PEERS[0]);
    write(&home.join("evil"), &program("evil"));
    // In a namespace of one's own nobody but oneself has a name, the agent neither.
    write(&home.join("client.toml"), b"owner = 65534\n");
    std::fs::set_permissions(home.join("client.toml"), PermissionsExt::from_mode(0o644)).unwrap();
    stage
}

const EXEC: &str = "jsi exec -e X=db/orders -- /usr/bin/env; exit $?";

fn twin(stage: &Stage) {
    stage.served(&stage.host.shell(PEERS[0], EXEC).run());
}

/// Whoever makes a user namespace is root there, and has mounts of its own: a
/// file of its own stands at the path that policy names.
const OWN_NAMESPACE: Attack = Attack::new(
    "a_file_mounted_over_a_targets_path_is_not_the_target",
    &["target-namespace", "target-seen"],
    "user namespace of its own",
    |stage| {
        let home = stage.host.world.home(PEERS[0]).display().to_string();
        let shell = stage.host.world.bin("shell").display().to_string();
        let script = format!(
            "mount --bind {home}/client.toml /etc/jsi/client.toml && \
             mount --bind {home}/evil /usr/bin/env && {EXEC}"
        );
        let unshare = stage.host.program(PEERS[0], "/usr/bin/unshare");
        unshare.args(["-Urm", &shell, "-c", &script]).run().stdout
    },
)
.on(scene)
.twin(twin);

#[test]
fn a_file_mounted_over_a_targets_path_is_not_the_target() {
    needs_root!();
    OWN_NAMESPACE.is_refused();
}

/// The same in a container that root has made, without user namespaces.
const OTHER_MOUNTS: Attack = Attack::new(
    "a_file_at_a_targets_path_in_another_mount_namespace_is_not_the_target",
    &["target-seen"],
    "own view of its path is another file",
    |stage| {
        let home = stage.host.world.home(PEERS[0]).display().to_string();
        let shell = stage.host.world.bin("shell").display().to_string();
        let uid = PEERS[0].uid;
        let script = format!(
            "mount --bind {home}/evil /usr/bin/env && \
             exec /usr/bin/setpriv --reuid {uid} --regid {uid} --clear-groups {shell} -c '{EXEC}'"
        );
        let unshare = stage.host.program(jsi_tests::Peer { uid: 0 }, "/usr/bin/unshare");
        unshare.args(["-m", &shell, "-c", &script]).run().stdout
    },
)
.on(scene)
.twin(twin);

#[test]
fn a_file_at_a_targets_path_in_another_mount_namespace_is_not_the_target() {
    needs_root!();
    OTHER_MOUNTS.is_refused();
}

/// Of two scripts with the same text the one is read by what PATH says.
#[test]
fn a_script_does_not_pass_by_its_text_under_an_interpreter_of_the_users_choice() {
    needs_root!();
    let text = b"#!/usr/bin/env mine\necho $X\n".to_vec();
    let digest = digest(&text);
    let scene =
        Scene::new(&format!(r#"context.target has digest && context.target.digest == "{digest}""#));
    let path = scene.file("script", &text).display().to_string();
    std::os::unix::fs::symlink("/bin/dash", scene.home("mine")).unwrap();
    let run = |scene: &Scene| {
        let home = scene.home("");
        scene.shell(&format!(
            "export PATH={}:$PATH; jsi exec -e X=db/orders --script {path}",
            home.display()
        ))
    };
    scene.refuses(&run(&scene));
    // What names the interpreter too may permit it, and another one does not pass.
    let dash = Path::new("/bin/dash").canonicalize().unwrap();
    scene.allow(&format!(
        r#"context.target has script_digest && context.target.script_digest == "{digest}" &&
           context.target has interpreter && context.target.interpreter == "{}""#,
        dash.display()
    ));
    scene.serves(&run(&scene));
    std::fs::remove_file(scene.home("mine")).unwrap();
    std::os::unix::fs::symlink("/bin/bash", scene.home("mine")).unwrap();
    scene.refuses(&run(&scene));
}

#[test]
fn a_script_that_is_written_while_it_runs_goes_on_as_it_was() {
    needs_root!();
    let text = b"#!/bin/sh\nread line\necho \"$line $X\"\n".to_vec();
    let scene = Scene::new(&format!(
        r#"context.target has digest && context.target.digest == "{}""#,
        digest(&text)
    ));
    let path = scene.file("script", &text);
    let command = format!("jsi exec -e X=db/orders --script {}", path.display());
    let mut child = scene.host.shell(PEERS[0], &command).spawn();
    scene.host.await_record("granted", "db/orders");
    std::fs::write(&path, [&text[..], b"echo evil\n"].concat()).unwrap();
    child.stdin.take().unwrap().write_all(b"as it was\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), format!("as it was {}\n", scene.secret));
}

#[test]
fn what_runs_from_a_copy_looks_as_usual_and_inherits_no_more_than_it_must() {
    needs_root!();
    let scene = Scene::new("context.target.sealed");
    let cat = std::fs::read("/bin/cat").unwrap();
    let path = scene.file("mycat", &cat).display().to_string();
    let out =
        scene.exec(&format!("--sealed -- {path} /proc/self/cmdline /proc/self/status")).succeeded();
    let line = format!("{path}\0/proc/self/cmdline\0/proc/self/status\0");
    assert!(out.stdout.starts_with(&line), "{out}");
    // SIGPIPE is neither ignored nor blocked: Rust's own doing ends with jsi.
    let mask = |name: &str| {
        let line = out.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let sigpipe = 1 << (13 - 1);
    for name in ["SigIgn:", "SigBlk:", "SigCgt:"] {
        assert_eq!(mask(name) & sigpipe, 0, "{name} {out}");
    }
    let ls = std::fs::read("/bin/ls").unwrap();
    let path = scene.file("myls", &ls).display().to_string();
    let open = |out: Outcome| out.stdout.lines().count();
    // What the shell itself gives its children, and the directory that ls reads.
    let usual = open(scene.shell(&format!("{path} /proc/self/fd")).succeeded());
    assert_eq!(open(scene.exec(&format!("--sealed -- {path} /proc/self/fd")).succeeded()), usual);
    let lists = scene.file("lists", b"#!/bin/sh\nexec ls /proc/self/fd\n").display().to_string();
    // And the script itself.
    assert_eq!(open(scene.exec(&format!("--script {lists}")).succeeded()), usual + 1);
    let args = scene.file("args", b"#!/bin/sh\necho \"$JSI_SCRIPT $1 $2\"\n").display().to_string();
    let out = scene.exec(&format!("--script {args} -- 'a b' c")).succeeded();
    out.printed(&format!("{args} a b c"));
}

#[test]
fn sealed_programs_keep_exit_codes_and_the_modes_that_stay_beside_them() {
    needs_root!();
    let scene = Scene::new("context.target.sealed");
    let ends = scene.file("ends", b"#!/bin/sh\nexit 42\n").display().to_string();
    scene.exec(&format!("--script {ends}")).coded(42);
    scene.exec(&format!("--sealed -- {ends}")).coded(42);
    scene.exec("--script /no/such/script").coded(127);
    scene.exec("--sealed -- no-such-program").coded(127);
    scene.exec("--script /etc/passwd").coded(126).says("no #! line");
    scene.exec(&format!("-- {ends}")).coded(125);
    let says = scene.file("says", b"#!/bin/sh\necho \"ran $X\"\n").display().to_string();
    for mode in ["--renew", "--redact", "--watch"] {
        let out = scene.exec(&format!("{mode} --script {says}")).succeeded();
        assert!(out.stdout.starts_with("ran "), "{out}");
    }
    scene.exec(&format!("--script {ends} --keep-env")).coded(125).says("cannot be used");
    let dry = scene.exec(&format!("--dry-run -o json --script {says}"));
    let text = std::fs::read(&says).unwrap();
    assert_eq!(dry.json()["script_digest"], digest(&text), "{dry}");
}

/// What jsi has sealed is known by its digest when it asks for itself; so is
/// whatever else cannot change any more, as any copy of a file is. What can is
/// known by nothing.
#[test]
fn a_memory_file_is_known_by_its_digest_only_once_nobody_can_change_it() {
    needs_root!();
    let stage = Stage::new();
    let bytes = std::fs::read(stage.trusted()).unwrap();
    let copy = stage.host.world.home(PEERS[0]).join("copy");
    write(&copy, &bytes);
    let uid = PEERS[0].uid;
    let named = |condition: &str| {
        format!(
            "permit(principal in User::\"{uid}\", action in Action::\"use\", \
             resource == Credential::\"db/orders\") when {{ context.assurance >= 1 && {condition} }};"
        )
    };
    let by_digest =
        named(&format!("principal has digest && principal.digest == \"{}\"", digest(&bytes)));
    stage.permit(&by_digest);
    let out = stage.run(&stage.hostile(), "memfd", &[&stage.trusted()]);
    stage.refuses_because(&out.stdout, "it was deleted, or is a memfd");
    let ask = format!(
        "jsi exec --broker-fd --sealed -- {} get {} db/orders",
        copy.display(),
        stage.socket()
    );
    stage.served(&stage.host.shell(PEERS[0], &ask).run());
    // It has no path, so that none counts for it.
    stage.permit(&named(&format!("principal has exe && principal.exe == \"{}\"", copy.display())));
    let out = stage.host.shell(PEERS[0], &ask).run();
    assert!(!out.stdout.contains(&stage.secret), "{out}");
    stage.served(&stage.run(&copy.display().to_string(), "get", &[]));
}
