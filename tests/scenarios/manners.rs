//! Every command, whatever is missing around it: the right exit code, a message
//! that names what to do, and never a panic.

use crate::host_with_a_secret;
use jsi_tests::{Host, Outcome, needs_root};
use std::collections::BTreeMap;

/// Arguments with which a command can do its work, and how it ends without an
/// agent. What is not named here is run without arguments.
const CALLS: &[(&str, &[&str], &[i32])] = &[
    ("init", &["--dir", "/proc/nowhere"], &[1, 2]),
    ("secret put", &["db/x", "--owner", "o", "--purpose", "p"], &[5]),
    ("secret rm", &["db/x"], &[5]),
    ("secret ls", &[], &[5]),
    (
        "secret import",
        &["--format", "dotenv", "/etc/os-release", "--owner", "o", "--purpose", "p"],
        &[5],
    ),
    ("secret rotate", &["db/x"], &[5]),
    ("secret export", &["db/x"], &[5]),
    ("backup", &["/proc/nowhere"], &[5]),
    ("restore", &["/proc/nowhere"], &[4]),
    ("rekey", &["--config", "/proc/nowhere"], &[1]),
    ("policy rm", &["no-such-policy"], &[5]),
    ("policy test", &["/proc/nowhere"], &[1]),
    ("allow", &["db/x", "--exe", "/bin/true"], &[5]),
    ("jwt keys", &[], &[5]),
    ("jwt rotate", &[], &[5]),
    ("jwt jwks", &[], &[5]),
    ("jwt discovery", &[], &[5]),
    ("env", &["--shell", "sh", "-e", "A=db/orders"], &[5]),
    ("render", &["/proc/nowhere"], &[1]),
    ("get", &["db/orders"], &[5]),
    ("exec", &["-e", "A=db/orders", "--", "/bin/true"], &[125]),
    ("renew", &["db/orders/x"], &[5]),
    ("release", &["db/orders/x"], &[5]),
    ("leases", &[], &[5]),
    ("watch", &[], &[5]),
    ("whoami", &[], &[5]),
    ("explain", &["abcdefghijklm"], &[5]),
    ("revoke", &["--prefix", "db/"], &[5]),
    ("status", &[], &[5]),
    ("doctor", &[], &[1]),
    ("lock", &[], &[5]),
    ("unlock", &["--no-passphrase"], &[5]),
    ("reload", &[], &[5]),
    ("completions", &["bash"], &[0]),
];

/// Commands that begin other programs, or wait for ever.
const NOT_RUN_WITH_AN_AGENT: [&str; 3] = ["watch", "lock", "render"];

/// All commands, by the help of each.
fn commands(host: &Host) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(command) = open.pop() {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let help = host.admin(words).run().succeeded().stdout;
        let subs: Vec<String> = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(|name| format!("{command} {name}").trim().to_owned())
            .collect();
        // What is forwarded has commands of its own, which are jsi-agent's.
        if subs.is_empty() || matches!(command.as_str(), "audit" | "init") {
            found.push(command);
        } else {
            open.extend(subs);
        }
    }
    found.sort();
    assert!(found.iter().any(|command| command == "secret put"), "{found:?}");
    found
}

fn call(command: &str) -> Vec<&str> {
    let known = CALLS.iter().find(|(name, ..)| *name == command);
    let arguments = known.map(|(_, arguments, _)| *arguments).unwrap_or_default();
    command.split_whitespace().chain(arguments.iter().copied()).collect()
}

/// Runs it with `sh`, whose redirections stand behind it.
fn redirected(host: &Host, words: &[&str], redirection: &str) -> Outcome {
    let script = format!("jsi \"$@\" {redirection}");
    host.admin(["--version"]).run().succeeded();
    host.program(jsi_tests::Peer { uid: 0 }, "/bin/sh")
        .env("JSI_ADMIN_SOCK", host.world.admin_socket())
        .args(["-c", &script, "sh"])
        .args(words)
        .run()
}

#[track_caller]
fn sound(command: &str, outcome: &Outcome) {
    assert!(!outcome.stderr.contains("panicked"), "{command}:\n{outcome}");
    assert!(outcome.code < 128, "{command} was ended by a signal:\n{outcome}");
    let known = [0, 1, 2, 3, 4, 5, 6, 7, 125, 126, 127];
    assert!(known.contains(&outcome.code), "{command}:\n{outcome}");
}

#[test]
fn a_wrong_flag_is_wrong_usage_in_every_command_and_is_named() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    for command in commands(&host) {
        let words = command.split_whitespace().chain(["--no-such-flag"]);
        let outcome = host.admin(words).run();
        let wanted = if command == "exec" { 125 } else { 2 };
        assert_eq!(outcome.code, wanted, "{command}:\n{outcome}");
        assert!(outcome.stderr.contains("--no-such-flag"), "{command}:\n{outcome}");
        assert!(outcome.stderr.contains("Usage:"), "{command} shows no usage:\n{outcome}");
    }
}

#[test]
fn without_an_agent_every_command_says_where_it_looked_and_what_to_do() {
    needs_root!();
    let (mut host, _) = host_with_a_secret();
    let commands = commands(&host);
    host.stop();
    for command in commands {
        let outcome = host.admin(call(&command)).input("value").run();
        sound(&command, &outcome);
        if let Some((_, _, codes)) = CALLS.iter().find(|(name, ..)| *name == command) {
            assert!(codes.contains(&outcome.code), "{command}:\n{outcome}");
        }
        if outcome.code == 5 || (command == "exec" && outcome.code == 125) {
            for part in ["no agent answers at", "agent.sock", "eval \"$(jsi-agent)\""] {
                // The admin socket's own name has no agent.sock in it.
                let admin = part == "agent.sock" && outcome.stderr.contains("admin.sock");
                assert!(admin || outcome.stderr.contains(part), "{command}, {part}:\n{outcome}");
            }
        } else if outcome.code != 0 && command != "doctor" {
            assert!(!outcome.stderr.trim().is_empty(), "{command} fails silently:\n{outcome}");
        }
    }
}

#[test]
fn nobody_reading_is_no_reason_to_complain() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    for command in commands(&host) {
        if NOT_RUN_WITH_AN_AGENT.contains(&command.as_str()) {
            continue;
        }
        // A pipe that nobody reads; no descriptor at all; neither of both.
        for redirection in ["| true", ">&-", "2>&-", ">&- 2>&- <&-", "<&-"] {
            let outcome = redirected(&host, &call(&command), redirection);
            sound(&command, &outcome);
            let plain = if redirection == "2>&-" { "" } else { &secret };
            assert!(plain.is_empty() || !outcome.stderr.contains(plain), "{command}");
        }
    }
    // Long enough not to fit into a pipe: the writer learns that nobody reads.
    let script = "jsi completions bash | head -1; jsi doctor | head -1; exit 0";
    let outcome = host.shell(jsi_tests::PEERS[0], script).run().succeeded();
    assert!(outcome.stderr.is_empty(), "{outcome}");
}

#[test]
fn a_full_disk_behind_standard_output_is_told() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    for command in ["leases", "status", "whoami", "doctor", "completions"] {
        let outcome = redirected(&host, &call(command), ">/dev/full");
        assert_eq!(outcome.code, 1, "{command}:\n{outcome}");
        assert!(outcome.stderr.contains("cannot write to standard output"), "{outcome}");
    }
}

#[test]
fn home_terminal_and_locale_change_nothing_where_there_is_no_terminal() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    // Answers that do not change from one call to the next.
    let steady = ["leases", "completions", "secret ls", "explain", "renew", "release"];
    for command in commands(&host) {
        if NOT_RUN_WITH_AN_AGENT.contains(&command.as_str()) {
            continue;
        }
        let words = call(&command);
        let usual = redirected(&host, &words, "");
        let changes: [(&str, &[(&str, &str)]); 4] = [
            ("no HOME", &[]),
            ("HOME that cannot be written", &[("HOME", "/proc/1")]),
            ("no TERM, C locale, 20 columns", &[("LANG", "C"), ("COLUMNS", "20")]),
            ("a dumb terminal", &[("TERM", "dumb"), ("LC_ALL", "C")]),
        ];
        for (what, variables) in changes {
            let unset = if what == "no HOME" { "unset HOME; " } else { "unset TERM; " };
            let mut program = host
                .program(jsi_tests::Peer { uid: 0 }, "/bin/sh")
                .env("JSI_ADMIN_SOCK", host.world.admin_socket())
                .args(["-c", &format!("{unset}jsi \"$@\""), "sh"])
                .args(&words);
            for (name, value) in variables {
                program = program.env(name, value);
            }
            let outcome = program.run();
            sound(&command, &outcome);
            if steady.contains(&command.as_str()) {
                assert_eq!(outcome.code, usual.code, "{command}, {what}:\n{outcome}");
                assert_eq!(outcome.stdout, usual.stdout, "{command}, {what}");
            }
        }
    }
}

#[test]
fn tables_fit_a_terminal_of_twenty_columns_and_lose_nothing() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let script =
        "stty cols 20 rows 24; jsi get db/orders >/dev/null 2>&1; jsi leases; jsi whoami; exit 0";
    let shell = host.world.bin("shell").display().to_string();
    let command = format!("{shell} -c '{script}'");
    let shown = host.terminal(jsi_tests::PEERS[0], &command).env("TERM", "xterm").run().succeeded();
    let shown = shown.without(&secret);
    let text: String = shown.stdout.replace("\x1b[1m", "").replace("\x1b[0m", "");
    for line in text.lines().map(str::trim_end) {
        assert!(line.chars().count() <= 20, "{line:?} in:\n{text}");
    }
    // The ID is whole, though it takes two lines.
    let together: String = text.split_whitespace().collect();
    assert!(together.contains("LEASEdb/orders/"), "{text}");
}

#[test]
fn colour_comes_and_goes_as_it_is_told() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let coloured = |variables: &[(&str, &str)], words: &[&str]| {
        let mut program = host.admin(words);
        for (name, value) in variables {
            program = program.env(name, *value);
        }
        program.run().stdout.contains('\x1b')
    };
    assert!(!coloured(&[("TERM", "xterm")], &["whoami"]));
    assert!(coloured(&[("CLICOLOR_FORCE", "1")], &["whoami"]));
    assert!(coloured(&[], &["--color", "always", "whoami"]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &["whoami"]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1")], &["--color=never", "whoami"]));
    host.admin(["--color", "blue", "whoami"]).run().coded(2).says("auto, always, never");
}

#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_as_it_was() {
    needs_root!();
    let (host, _) = host_with_a_secret();
    let questions: BTreeMap<&str, &str> = [
        ("jsi secret put db/new", ": "),
        ("jsi secret put db/new --owner o --purpose p", ": "),
        ("jsi lock --passphrase", ": "),
    ]
    .into();
    for (command, question) in questions {
        // The shell outlives what its terminal interrupts, and says what is left.
        let script = format!(
            "trap : INT; stty -a >before; {command}; echo CODE=$?; stty -a >after; \
             diff before after && echo AS-BEFORE; echo END"
        );
        let shell = format!("/bin/bash -c '{script}'");
        let mut talk = host
            .terminal(jsi_tests::Peer { uid: 0 }, &shell)
            .env("JSI_ADMIN_SOCK", host.world.admin_socket())
            .talk();
        talk.until(question);
        talk.keys(b"\x03");
        let said = talk.until("END");
        assert!(said.contains("CODE=130") && said.contains("AS-BEFORE"), "{command}:\n{said}");
    }
}
