//! Completion in the real shells: what a person gets for the tabulator.

use crate::host_with_a_secret;
use jsi_tests::{Host, Outcome, PEERS, needs_root, permit};
use std::path::Path;

/// A host whose first peer may have `db/orders` from that shell, and nothing else.
fn host_for(shell: &str) -> Option<Host> {
    let installed = Path::new("/usr/bin").join(shell);
    if !installed.exists() {
        jsi_tests::not_run(module_path!(), line!(), &format!("it needs {shell}: install {shell}"));
        return None;
    }
    let (host, _) = host_with_a_secret();
    host.put("db/other", "never to be offered");
    // The program that is permitted, as a shell's symbolic links hide it.
    let real = std::fs::canonicalize(installed).unwrap();
    host.world.write_policy("completing", &permit(PEERS[0].uid, "db/orders", &real));
    host.admin(["reload"]).run().succeeded();
    Some(host)
}

/// What bash offers for a line, one word a line.
fn bash(host: &Host, line: &str) -> Outcome {
    let script = r#"
        source <(jsi completions bash)
        complete -p jsi >/dev/null || exit 9
        COMP_LINE=$1 COMP_POINT=${#1}
        # As readline takes a line apart.
        read -r -a COMP_WORDS <<<"$(sed -E 's/([=:])/ \1 /g' <<<"$1")"
        [[ $1 == *[' =:'] ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _jsi jsi "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
        exit 0"#;
    host.program(PEERS[0], "/usr/bin/bash").args(["-c", script, "bash", line]).run()
}

#[test]
fn bash_completes_commands_options_and_the_credentials_that_one_may_request() {
    needs_root!();
    let Some(host) = host_for("bash") else { return };
    let offers = |line: &str| bash(&host, line).succeeded().stdout;
    assert_eq!(offers("jsi lea"), "leases\n");
    assert!(offers("jsi leases --").contains("--ended\n"));
    assert_eq!(offers("jsi get "), "db/orders\n");
    assert_eq!(offers("jsi get db/or"), "db/orders\n");
    assert_eq!(offers("jsi get 'db/or"), "db/orders\n");
    // bash replaces what stands behind the = alone.
    assert_eq!(offers("jsi exec -e PW=db/"), "db/orders\n");
    assert_eq!(offers("jsi get x"), "\n");
    assert!(offers("jsi exec -e A=b -- /usr/bin/print").contains("/usr/bin/printenv\n"));
    assert!(offers("jsi allow db/orders --exe /usr/bin/printe").contains("/usr/bin/printenv\n"));
    assert_eq!(offers("jsi audit ver"), "verify\n");
}

#[test]
fn completion_offers_the_leases_that_one_holds() {
    needs_root!();
    let Some(host) = host_for("bash") else { return };
    let script = r#"jsi get db/orders >/dev/null
        jsi complete -- release "" | tail -n +2 | cut -f1
        exit 0"#;
    let offered = host.program(PEERS[0], "/usr/bin/bash").args(["-c", script]).run().succeeded();
    assert!(offered.stdout.starts_with("db/orders/"), "{offered}");
    assert_eq!(offered.stdout.lines().count(), 1, "{offered}");
}

#[test]
fn completion_is_silent_and_prints_no_secret_whatever_happens() {
    needs_root!();
    let (mut host, secret) = host_with_a_secret();
    for words in
        [&["get", ""][..], &["get", "db/orders#"], &["release", ""], &["revoke", "--prefix", ""]]
    {
        let said = host.admin(["complete", "--"].iter().chain(words)).run().succeeded();
        let said = said.without(&secret);
        assert!(said.stderr.is_empty(), "{said}");
    }
    host.admin(["lock"]).run().succeeded();
    let said = host.admin(["complete", "--", "get", ""]).run().succeeded();
    assert!(said.stderr.is_empty(), "{said}");
    let _ = host.stop();
    for words in [&[][..], &[""], &["get", ""], &["nonsense", "--x=y", "-", "--", ""]] {
        let said = host.admin(["complete", "--"].iter().chain(words)).run().succeeded();
        assert!(said.stderr.is_empty(), "{said}");
    }
}

#[test]
fn zsh_completes_as_bash_does() {
    needs_root!();
    let Some(host) = host_for("zsh") else { return };
    // A real zsh at a real terminal: what is typed, a tabulator, and the line it makes.
    let rc = host.world.home(PEERS[0]).join(".zshrc");
    let text = "autoload -Uz compinit && compinit -u\nsource <(jsi completions zsh)\nPS1='READY> '\n\
                show() { print -r -- \"LINE<$BUFFER>\" }; zle -N show; bindkey '^T' show\n";
    std::fs::write(&rc, text).unwrap();
    for (typed, line) in [
        ("jsi lea\t\x14", "jsi leases "),
        ("jsi get db/\t\x14", "jsi get db/orders "),
        ("jsi exec -e PW=db/o\t\x14", "jsi exec -e PW=db/orders "),
        ("jsi allow x --exe /usr/bin/printe\t\x14", "jsi allow x --exe /usr/bin/printenv "),
        ("jsi exec -e A=b -- printe\t\x14", "jsi exec -e A=b -- printenv "),
    ] {
        let mut zsh = host.terminal(PEERS[0], "zsh -i").env("TERM", "xterm").talk();
        zsh.until("READY> ");
        zsh.keys(typed.as_bytes());
        zsh.until("LINE<");
        assert_eq!(zsh.until(">"), format!("{line}>"), "{typed:?}");
    }
}

#[test]
fn fish_completes_as_bash_does() {
    needs_root!();
    let Some(host) = host_for("fish") else { return };
    let offers = |line: &str| {
        let script = "jsi completions fish | source; complete -C $argv[1]";
        let fish = host.program(PEERS[0], "/usr/bin/fish").args(["-N", "-c", script, line]);
        fish.run().succeeded().stdout
    };
    assert!(offers("jsi lea").starts_with("leases\t"));
    let credentials = offers("jsi get ");
    assert!(credentials.contains("db/orders\tto be asked for"), "{credentials}");
    assert!(!credentials.contains("db/other"), "{credentials}");
    assert!(offers("jsi exec -e PW=db/").contains("PW=db/orders"));
    assert!(offers("jsi allow db/orders --exe /usr/bin/printe").contains("/usr/bin/printenv"));
    assert!(offers("jsi exec -e A=b -- printe").contains("printenv"));
}
