//! `jsi env` in real shells, against a fake agent.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Output;
use support::{Fake, text};

const POSIX: [&str; 3] = ["/bin/bash", "/bin/dash", "/usr/bin/zsh"];
const FISH: &str = "/usr/bin/fish";

/// Runs a script in a shell that finds the fake, and `$JSI`.
fn shell(fake: &Fake, program: &str, script: &str) -> Output {
    let jsi = fake.jsi(&[]);
    let mut command = std::process::Command::new(program);
    command
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", fake.dir.path())
        .env("JSI", jsi.get_program())
        .env("JSI_AUTH_SOCK", fake.socket())
        .current_dir(fake.dir.path());
    command.output().unwrap()
}

/// Those of the shells that are there; the others are counted as not run.
fn present<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    let (here, absent): (Vec<_>, Vec<_>) =
        programs.iter().copied().partition(|program| Path::new(program).exists());
    if let (false, Some(list)) = (absent.is_empty(), std::env::var_os("JSI_TESTS_NOT_RUN")) {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let mut file = std::fs::OpenOptions::new().append(true).open(list).unwrap();
        writeln!(file, "{test}: {} not there", absent.join(", ")).unwrap();
    }
    here
}

#[track_caller]
fn said(out: &Output, program: &str, expected: &str) {
    assert_eq!(text(&out.stdout), expected, "{program}: {}", text(&out.stderr));
}

const SHOW: &str =
    "/bin/sh -c 'printf \"%s|%s|%s\\n\" \"${A-none}\" \"${B-none}\" \"${C-none}\"'\n";
const ASK: &str = "-e A=db/orders#user -e B=db/orders#password -e C=db/orders#user";

#[test]
fn a_shell_has_the_variables_until_it_undoes_them_and_then_what_it_had_before() {
    for program in present(&POSIX) {
        let fake = Fake::start();
        let set = format!("eval \"$($JSI env {ASK})\"\n{SHOW}");
        // A is not exported before, B is, C is not there. Set twice, undone once.
        let script = format!(
            "set -eu\nA='old  '; export B='w*s'; {set}{set}eval \"$($JSI env --unset)\"\n{SHOW}\
             printf '%s.\\n' \"$A\"\neval \"$($JSI env --unset)\"\n"
        );
        let out = shell(&fake, program, &script);
        let given = "orders|s3cr'et \"x\"|orders\n";
        said(&out, program, &format!("{given}{given}none|w*s|none\nold  .\n"));
        assert_eq!(text(&out.stderr), "jsi: this shell has nothing of jsi env\n", "{program}");
        assert_eq!(fake.state.lock().unwrap().released.len(), 2, "{program}");
    }
}

#[test]
fn fish_has_them_too() {
    for program in present(&[FISH]) {
        let fake = Fake::start();
        let set = format!("$JSI env {ASK} | source\n{SHOW}");
        let script = format!(
            "set -g A 'old  ' two; set -gx B 'w*s'\n{set}{set}$JSI env --unset | source\n{SHOW}\
             printf '%s.\\n' $A\n$JSI env --unset | source\n"
        );
        let out = shell(&fake, program, &script);
        let given = "orders|s3cr'et \"x\"|orders\n";
        said(&out, program, &format!("{given}{given}none|w*s|none\nold  .\ntwo.\n"));
        assert_eq!(text(&out.stderr), "jsi: this shell has nothing of jsi env\n");
        assert_eq!(fake.state.lock().unwrap().released.len(), 2);
    }
}

#[test]
fn the_leases_are_given_up_when_the_shell_ends() {
    let ask = "env -e A=db/orders#user -e B=ci/deploy#user";
    for (program, line) in [
        ("/bin/bash", format!("eval \"$($JSI {ask})\"")),
        ("/usr/bin/zsh", format!("eval \"$($JSI {ask})\"")),
        (FISH, format!("$JSI {ask} | source")),
    ] {
        for program in present(&[program]) {
            let fake = Fake::start();
            let out = shell(&fake, program, &format!("{line}\necho $A\nexit 7"));
            said(&out, program, "orders\n");
            assert_eq!(out.status.code(), Some(7), "{program}");
            assert_eq!(fake.state.lock().unwrap().released.len(), 2, "{program}");
        }
    }
}

#[test]
fn bash_goes_on_doing_what_it_was_to_do_at_its_end() {
    let fake = Fake::start();
    let set = "eval \"$($JSI env -e A=db/orders#user)\"";
    for (before, expected) in [
        ("trap 'echo \"it'\"'\"'s $? over\"' EXIT", "it's 7 over\n"),
        ("trap 'echo $?; exit 7' EXIT", "7\n"),
        ("set -e; trap 'echo $?' EXIT", "7\n"),
        ("trap '' EXIT", ""),
    ] {
        fake.state.lock().unwrap().released.clear();
        let out = shell(&fake, "/bin/bash", &format!("{before}\n{set}\n{set}\n(exit 7)\nexit 7"));
        said(&out, before, expected);
        assert_eq!(out.status.code(), Some(7), "{before}");
        assert_eq!(fake.state.lock().unwrap().released.len(), 2, "{before}");
    }
}

#[test]
fn a_plain_shell_keeps_its_own_trap() {
    for program in present(&["/bin/dash"]) {
        let fake = Fake::start();
        let script = "trap 'echo bye' EXIT\neval \"$($JSI env -e A=db/orders#user)\"\necho $A";
        said(&shell(&fake, program, script), program, "orders\nbye\n");
    }
}

#[test]
fn what_failed_is_seen_by_the_shell_and_nothing_is_set() {
    for program in present(&POSIX) {
        let fake = Fake::start();
        let script = "A=old; eval \"$($JSI env -e B=db/orders -e A=no/denied)\"; echo \"$? $A\"";
        let out = shell(&fake, program, script);
        said(&out, program, "3 old\n");
        assert!(text(&out.stderr).contains("policy does not permit it"), "{program}");
        // What was granted before it is given back.
        assert_eq!(fake.state.lock().unwrap().released.len(), 1, "{program}");
    }
}

#[test]
fn what_a_shell_cannot_have_is_refused_or_said() {
    let fake = Fake::start();
    for name in ["IFS", "PS1", "PPID", "UID", "LD_PRELOAD", "__jsi_undo", "path", "_"] {
        let out = fake.run(&["env", "--shell", "bash", "-e", &format!("{name}=db/orders")]);
        assert!(matches!(out.status.code(), Some(1 | 2)), "{name}");
        assert!(text(&out.stderr).contains(name), "{}", text(&out.stderr));
    }
    assert!(fake.state.lock().unwrap().requests.is_empty());
    fake.state.lock().unwrap().fields = vec![("key".into(), vec![b'x', 0], true)];
    let out = fake.run(&["env", "--shell", "bash", "-e", "A=db/orders"]);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(1), "sh -c 'exit 1'\n"));
    assert!(text(&out.stderr).contains("zero byte"), "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().released.len(), 1);
}

#[test]
fn secrets_do_not_stay_in_a_file_unasked() {
    let fake = Fake::start();
    let path = fake.dir.path().join("out");
    let into = |more: &[&str]| {
        let file = std::fs::File::create(&path).unwrap();
        let flags = ["env", "--shell", "sh", "-e", "A=db/orders"];
        fake.jsi(&[&flags[..], more].concat()).stdout(file).output().unwrap().status.code()
    };
    assert_eq!(into(&[]), Some(2));
    assert!(std::fs::read(&path).unwrap().is_empty());
    assert!(fake.state.lock().unwrap().requests.is_empty());
    assert_eq!(into(&["--allow-file"]), Some(0));
    assert!(text(&std::fs::read(&path).unwrap()).contains("export A='s3cr'\\''et \"x\"'\n"));
    let delivery = fake.state.lock().unwrap().requests[0].delivery();
    assert_eq!(delivery, jsi_proto::v1::Delivery::File);
}

#[test]
fn descriptors_of_a_project_are_left_to_exec() {
    let fake = Fake::start();
    let toml = "[env]\nA = 'jsi:db/orders#user'\n[fd]\nF = 'jsi:tls/key'\n";
    std::fs::write(fake.dir.path().join("jsi.toml"), toml).unwrap();
    let script = "$JSI project allow\neval \"$($JSI env)\"\necho \"$A $F\"";
    let out = shell(&fake, "/bin/bash", script);
    said(&out, "bash", "orders \n");
    assert!(text(&out.stderr).contains("F is a descriptor"), "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().requests.len(), 1);
}
