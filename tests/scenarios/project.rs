//! Projects: what people do with `jsi.toml`, and what others may try with it.

use crate::host_with_a_secret;
use jsi_tests::{Host, PEERS, Setup, needs_root, permit, random_secret};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// A file in the first peer's home, and its own.
fn write(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.world.home(PEERS[0]).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    for path in [path.parent().unwrap(), &path] {
        chown(path, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();
    }
    path
}

/// Kinds of the records that tell of leases.
fn granted(host: &Host) -> usize {
    jsi_tests::kinds(&host.records()).iter().filter(|kind| *kind == "granted").count()
}

const TOML: &str = "\
dotenv = [\".env\"]
[env]
PGPASSWORD = \"jsi:db/orders\"
[fd]
KEY_FILE = \"jsi:db/orders\"
";
const DOTENV: &str =
    "export DATABASE_URL=\"postgres://app:${jsi:db/orders|urlencode}@h/o\" # url\n";

#[test]
fn make_test_has_what_the_project_needs_until_it_ends() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    write(&host, "app/jsi.toml", TOML);
    write(&host, "app/.env", DOTENV);
    let make = "test:\n\t@echo \"$$DATABASE_URL $$PGPASSWORD $$(cat $$KEY_FILE)\"\n";
    write(&host, "app/src/Makefile", make);
    let run = |script: &str| host.shell(PEERS[0], &format!("cd app/src\n{script}")).run();
    run("jsi exec -- make test").coded(125).says("is new here").without(&secret);
    run("jsi project show && jsi project allow").succeeded();
    assert_eq!(granted(&host), 0);
    let expected = format!("postgres://app:{secret}@h/o {secret} {secret}");
    run("jsi exec -- make test").succeeded().printed(&expected);
    // One lease for each way of delivery, and both end with make.
    assert_eq!(granted(&host), 2);
    let ended = || jsi_tests::kinds(&host.records()).iter().filter(|k| *k == "ended").count() == 2;
    jsi_tests::until("both leases end", std::time::Duration::from_secs(5), || {
        ended().then_some(())
    });
    // What was allowed holds no secret.
    let state = host.world.home(PEERS[0]).join(".local/state/jsi/allowed");
    let records: Vec<_> =
        fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&record).unwrap().contains(&secret));
    }
}

#[test]
fn a_project_of_somebody_else_gets_nothing() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let run = |script: &str| host.shell(PEERS[0], script).run().without(&secret);
    // Of another uid: refused where one stands in it, and by its name.
    let foreign = host.world.home(PEERS[1]).join("jsi.toml");
    fs::write(&foreign, "[env]\nX = 'jsi:db/orders'\n").unwrap();
    let place = foreign.parent().unwrap().display().to_string();
    run(&format!("cd {place} && jsi exec -- env")).coded(125).says("which credentials go where");
    run(&format!("jsi project allow {}", foreign.display())).coded(3);
    // In a directory that everybody can write, below which one works.
    let shared = host.world.home(PEERS[0]).join("shared");
    fs::create_dir_all(shared.join("mine")).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(shared.join("jsi.toml"), "[env]\nX = 'jsi:db/orders'\n").unwrap();
    run("cd shared/mine && jsi exec -- env").coded(125).says("no credential is asked for");
    // Cloned: one's own file, that nobody has read.
    let clone = write(&host, "clone/jsi.toml", "[env]\nAPI_TOKEN = 'jsi:db/orders'\n");
    run("cd clone && jsi exec -- env").coded(125).says("is new here");
    // Allowed, then changed by a pull: it asks again before anything else.
    run("cd clone && jsi project allow").succeeded();
    fs::write(&clone, "[env]\nURL = 'https://evil.example/${jsi:db/orders}'\n").unwrap();
    run("cd clone && jsi exec -- env").coded(125).says("was changed since you allowed it");
    fs::write(&clone, "[env]\nLD_PRELOAD = '/tmp/evil.so'\nX = 'jsi:db/orders'\n").unwrap();
    run("cd clone && jsi project allow").coded(1).says("LD_PRELOAD is not set by a file");
    assert_eq!(granted(&host), 0);
}

#[test]
fn a_file_that_changes_behind_the_question_is_not_what_was_allowed() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let path = write(&host, "jsi.toml", "[env]\nTOKEN = 'jsi:db/orders'\n");
    let evil = "[env]\nEVIL = 'jsi:db/orders'\n";
    let shell = host.world.bin("shell");
    let command = "jsi exec -- /bin/sh -c 'echo \"token <$TOKEN> evil <$EVIL>\"'; exit $?";
    let script = write(&host, "run", command);
    let on_terminal =
        || host.terminal(PEERS[0], &format!("{} {}", shell.display(), script.display()));
    let mut asked = on_terminal().talk();
    let shown = asked.until("Allow? [y/N]");
    assert!(shown.contains("TOKEN  db/orders"), "{shown}");
    fs::write(&path, evil).unwrap();
    asked.keys(b"y\r");
    let said = asked.until("evil <>");
    assert!(said.contains(&format!("token <{secret}>")), "{said}");
    asked.end();
    // What lies there now is another file, and no is no.
    let mut asked = on_terminal().talk();
    let shown = asked.until("Allow? [y/N]");
    assert!(shown.contains("has changed") && shown.contains("EVIL"), "{shown}");
    asked.keys(b"\r");
    asked.until("was changed since you allowed it");
    asked.end();
    assert_eq!(granted(&host), 1);
}

#[test]
fn a_dry_run_takes_no_lease_and_says_what_would_be_permitted() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    host.put("db/other", &random_secret());
    let run = |flags: &str| {
        let script = format!("jsi exec --dry-run {flags} -- /bin/true");
        host.shell(PEERS[0], &script).run().without(&secret)
    };
    let shown = run("-e A=db/orders#value --ttl 5m").succeeded();
    for part in ["db/orders#value", "variable", "--env", "5m", "yes"] {
        assert!(shown.stdout.contains(part), "{part}\n{shown}");
    }
    // Denied and not there look alike to whoever may not have it.
    for name in ["db/other", "db/nothing"] {
        let json = run(&format!("-e A=db/orders -e B={name} -o json")).coded(3).json();
        assert_eq!(json["items"][0]["references"][0]["permitted"], true);
        assert_eq!(json["items"][1]["references"][0]["permitted"], false);
    }
    run("-e A=db/orders --env-file nowhere.env").coded(4);
    let kinds = jsi_tests::kinds(&host.records());
    assert!(!kinds.iter().any(|kind| kind == "granted" || kind == "denied"), "{kinds:?}");
}

#[test]
fn an_operators_dry_run_tells_denied_from_not_there() {
    needs_root!();
    let uid = PEERS[0].uid;
    let host = Setup::user(uid)
        .start(|world| vec![("orders", permit(uid, "db/orders", &world.bin("shell")))]);
    host.put("db/orders", &random_secret());
    host.put("db/other", &random_secret());
    let admin = host.world.admin_socket();
    for (name, code) in [("db/orders", 0), ("db/other", 3), ("db/nothing", 4)] {
        let script = format!("jsi exec --dry-run -e A={name} -- /bin/true");
        let run = host.shell(PEERS[0], &script).env("JSI_ADMIN_SOCK", &admin).run();
        run.coded(code);
    }
}

/// bash, permitted `db/orders`, in which a test types.
fn bash(host: &Host) -> jsi_tests::Talk {
    let bash = host.world.install(Path::new("/bin/bash"), "bash");
    host.world.write_policy("bash", &permit(PEERS[0].uid, "db/orders", &bash));
    host.admin(["reload"]).run().succeeded();
    host.program(PEERS[0], &bash).args(["--norc", "-s"]).talk()
}

#[test]
fn a_shells_variables_are_leased_to_it_and_given_up_at_its_exit() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    write(&host, "jsi.toml", "[env]\nPGPASSWORD = 'jsi:db/orders'\n");
    let mut shell = bash(&host);
    shell.say("jsi project allow 2>/dev/null; eval \"$(jsi env)\"; echo \"<$PGPASSWORD>\"");
    shell.expect(&format!("<{secret}>"));
    let lease = crate::live(&host).remove(0);
    let granted = host.await_record("granted", &lease);
    assert_eq!(granted["lease"]["binding"]["pid"], shell.pid(), "bound to the shell that asked");
    assert_eq!(granted["lease"]["delivery"], "environment");
    // Asked again it is the same lease; undone it is gone, and so is the value.
    shell.say("eval \"$(jsi env)\"; echo again");
    shell.expect("again");
    assert_eq!(crate::live(&host), std::slice::from_ref(&lease));
    shell.say("eval \"$(jsi env --unset)\"; echo \"<$PGPASSWORD>\"");
    shell.expect("<>");
    assert_eq!(host.await_record("ended", &lease)["reason"], "released");
    // The end of the shell gives up what it holds then.
    shell.say("eval \"$(jsi env)\"; echo held");
    shell.expect("held");
    let lease = crate::live(&host).remove(0);
    shell.say("exit");
    shell.end();
    assert_eq!(host.await_record("ended", &lease)["reason"], "released");
}

#[test]
fn a_killed_shell_ends_its_lease_without_its_hook() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut shell = bash(&host);
    shell.say("eval \"$(jsi env -e X=db/orders)\"; echo held");
    shell.expect("held");
    let lease = crate::live(&host).remove(0);
    shell.kill();
    assert_eq!(host.await_record("ended", &lease)["reason"], "process_exited");
}

#[test]
fn an_agent_that_hangs_does_not_keep_a_shell_from_ending() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let mut shell = bash(&host);
    shell.say("eval \"$(jsi env -e X=db/orders)\"; echo held");
    shell.expect("held");
    let lease = crate::live(&host).remove(0);
    host.signal(nix::sys::signal::Signal::SIGSTOP);
    shell.say("exit 7");
    assert_eq!(shell.end().code(), Some(7));
    host.signal(nix::sys::signal::Signal::SIGCONT);
    host.await_record("ended", &lease);
}

#[test]
fn a_plain_shells_lease_ends_with_it_though_it_has_no_hook() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let script = "eval \"$(jsi env --shell sh -e X=db/orders)\"\necho \"$X\"";
    host.shell(PEERS[0], script).run().succeeded().printed(&secret);
    assert_eq!(host.await_record("ended", "db/orders")["reason"], "process_exited");
}

#[test]
fn a_terminal_is_not_shown_what_a_shell_is_to_read() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let ask = |more: &str| {
        let command = format!(
            "{} -c 'jsi env --shell sh -e X=db/orders{more}; exit $?'",
            host.world.bin("shell").display()
        );
        host.terminal(PEERS[0], &command).run()
    };
    let refused = ask("").coded(2).without(&secret);
    assert!(refused.stdout.contains("eval \"$(jsi env)\""), "{refused}");
    assert_eq!(granted(&host), 0);
    assert!(ask(" --show").succeeded().stdout.contains(&secret));
}

#[test]
fn references_in_a_dotenv_file_are_resolved_for_one_command() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    write(&host, "app.env", "PLAIN='a b'\nURL=x${jsi:db/orders|base64}y\n");
    let run = |script: &str| host.shell(PEERS[0], script).run();
    let print = "jsi exec --env-file app.env -- /bin/sh -c 'echo \"$PLAIN $URL\"'";
    let base64 = data_encoding_of(&secret);
    run(print).succeeded().printed(&format!("a b x{base64}y"));
    // A mistake is named by its place; nothing is asked for, nothing quoted.
    let before = granted(&host);
    write(&host, "app.env", "PLAIN=hunter2\nURL=\"hunter2 ${jsi:DB}\"\n");
    run(print).coded(125).says("app.env:2:20: this is no reference").without("hunter2");
    assert_eq!(granted(&host), before);
}

/// By the standard tool, to compare with.
fn data_encoding_of(text: &str) -> String {
    let script = format!("printf %s {text} | base64 -w0");
    let out = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}
