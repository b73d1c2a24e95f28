//! What a person sees, in a real terminal (tmux): printed, so that everybody
//! who runs the tests sees it too, and held to what it promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use jsi_tests::{Host, PEERS, Peer, Setup, Talk, Terminal, needs_root, permit_with};
use std::io::Write;
use std::time::Duration;

const ROOT: Peer = Peer { uid: 0 };

/// A host agent with some leases of different lengths, and those who hold them.
fn host_with_leases() -> (Host, Vec<Talk>) {
    const CREDENTIALS: [(&str, &str); 4] =
        [("db/orders", "90s"), ("db/billing", "15m"), ("ci/deploy", "2h"), ("mail/relay", "45s")];
    let host = Setup::host().start(|world| {
        let limit = "@max_ttl(\"2h\")";
        let shell = world.bin("shell");
        let policies = CREDENTIALS
            .iter()
            .map(|(name, _)| permit_with(limit, PEERS[0].uid, name, &shell))
            .collect::<String>();
        vec![("all", policies)]
    });
    let mut holders = Vec::new();
    for (name, ttl) in CREDENTIALS {
        host.put(name, "not to be seen on any screen");
        let script = format!("jsi get --ttl {ttl} {name} >/dev/null; echo HELD; read x");
        let mut holder = host.shell(PEERS[0], &script).talk();
        holder.expect("HELD");
        holders.push(holder);
    }
    (host, holders)
}

fn open(host: &Host, size: (u16, u16), command: &str) -> Option<Terminal> {
    let terminal = host.tmux(ROOT, size, command);
    if terminal.is_none() {
        jsi_tests::not_run(module_path!(), line!(), "there is no tmux (Debian: tmux)");
    }
    terminal
}

/// Prints a screen with a frame, past the capture of passing tests.
fn print(what: &str, columns: u16, screen: &str) {
    let line = "─".repeat(usize::from(columns));
    let mut text = format!("\n{what}\n┌{line}┐\n");
    for row in screen.trim_end().lines() {
        let fill = usize::from(columns).saturating_sub(row.chars().count());
        text.push_str(&format!("│{row}{}│\n", " ".repeat(fill)));
    }
    let _ = writeln!(std::io::stderr(), "{text}└{line}┘");
}

#[track_caller]
fn clean(screen: &str, columns: u16) {
    for row in screen.lines() {
        assert!(row.chars().count() <= usize::from(columns), "{row:?}");
        for residue in ["\x1b", "[0m", "[?", "[K", "\u{fffd}", "not to be seen"] {
            assert!(!row.contains(residue), "{residue:?} in {row:?} of:\n{screen}");
        }
    }
}

#[test]
fn leases_are_watched_as_bars_on_terminals_of_all_sizes() {
    needs_root!();
    let (host, holders) = host_with_leases();
    for (columns, lines) in [(200, 24), (80, 24), (40, 12), (20, 12)] {
        let watch = "jsi leases --watch --all";
        let Some(terminal) = open(&host, (columns, lines), watch) else { return };
        let screen = terminal.shows("4 everybody's");
        print(&format!("{watch}, {columns}x{lines}"), columns, &screen);
        clean(&screen, columns);
        let bars = screen.lines().filter(|line| line.contains('█') || line.contains('░')).count();
        assert_eq!(bars, 4, "{columns}x{lines}:\n{screen}");
        // What ends soonest is first.
        let order: Vec<usize> =
            ["mail/", "db/or", "db/bi", "ci/de"].map(|name| screen.find(name).unwrap()).to_vec();
        assert!(order.is_sorted(), "{order:?}:\n{screen}");
    }
    drop(holders);
}

#[test]
fn a_watched_board_follows_size_time_and_events_and_leaves_the_screen_as_it_was() {
    needs_root!();
    let (host, mut holders) = host_with_leases();
    let shell = "env PS1='ready> ' ENV= /bin/sh -i";
    let Some(terminal) = open(&host, (80, 24), shell) else { return };
    terminal.shows("ready>");
    terminal.say("stty -a >before; echo THERE-BEFORE");
    terminal.shows("\nTHERE-BEFORE");
    terminal.say("jsi leases --watch --all; echo ENDED-$?");
    let first = terminal.shows("4 everybody's");
    assert!(!first.contains("THERE-BEFORE"), "the board has a screen of its own:\n{first}");

    // Time goes on by itself.
    let left = |screen: &str| {
        let line = screen.lines().find(|line| line.contains("mail/relay")).unwrap().to_owned();
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    let before = left(&first);
    jsi_tests::until("the time that is left is shown anew", Duration::from_secs(10), || {
        (left(&terminal.screen()) != before).then_some(())
    });

    // Another size, without anything typed.
    terminal.resize(40, 12);
    jsi_tests::until("the board takes the new size", Duration::from_secs(10), || {
        let screen = terminal.screen();
        (screen.lines().filter(|line| line.contains('█') || line.contains('░')).count() == 4
            && screen.lines().all(|line| line.chars().count() <= 40)
            && screen.contains("mail/relay/"))
        .then_some(())
    });
    terminal.resize(30, 6);
    let few = terminal.shows("more, for want");
    print("the same, 30x6", 30, &few);
    terminal.resize(80, 24);

    // One that ends is shown for a while, and fades.
    holders.remove(0).kill();
    let ended = terminal.shows("process");
    print("one has ended", 80, &ended);
    terminal.shows("3 everybody's leases");
    jsi_tests::until("it fades", Duration::from_secs(20), || {
        (!terminal.screen().contains("db/orders")).then_some(())
    });

    terminal.keys("q");
    let after = terminal.shows("ENDED-0");
    assert!(after.contains("THERE-BEFORE"), "the screen is as it was:\n{after}");
    assert!(!after.contains('█'), "{after}");
    terminal.say("stty -a | cmp - before && echo SAME-SETTINGS");
    terminal.shows("\nSAME-SETTINGS");
    // It ends of the signal, so that the shell takes up nothing behind it.
    terminal.say("jsi leases --watch --all; echo GOES-ON");
    terminal.shows("█");
    terminal.keys("C-c");
    terminal.shows("SAME-SETTINGS\nready> jsi leases");
    terminal.say("echo INTERRUPTED-$?");
    let interrupted = terminal.shows("INTERRUPTED-130");
    assert!(!interrupted.contains("\nGOES-ON"), "{interrupted}");
    terminal.say("stty -a | cmp - before && echo SAME-AGAIN");
    terminal.shows("\nSAME-AGAIN");
}

#[test]
fn a_board_outlives_the_agent_and_says_so() {
    needs_root!();
    let (mut host, holders) = host_with_leases();
    let Some(terminal) = open(&host, (80, 12), "jsi leases --watch --all") else { return };
    terminal.shows("█");
    host.crash();
    let gone = terminal.shows("trying again");
    print("the agent is gone", 80, &gone);
    clean(&gone, 80);
    host.start();
    jsi_tests::until("the board finds the agent again", Duration::from_secs(20), || {
        let screen = terminal.screen();
        (!screen.contains("trying again") && screen.contains("4 everybody")).then_some(())
    });
    drop(holders);
}

#[test]
fn a_terminal_that_cannot_do_it_gets_ascii_or_lines() {
    needs_root!();
    let (host, holders) = host_with_leases();
    let ascii = "LC_ALL=C jsi leases --watch --all";
    let Some(terminal) = open(&host, (60, 10), ascii) else { return };
    let screen = terminal.shows("4 everybody's");
    print(ascii, 60, &screen);
    assert!(screen.is_ascii(), "{screen}");
    let lines = ["TERM=dumb jsi leases --watch --all", "jsi leases --watch --all --plain"];
    for (plain, height) in lines.into_iter().zip([12, 14]) {
        let terminal = open(&host, (100, height), plain).unwrap();
        let screen = terminal.shows("synced");
        print(plain, 100, &screen);
        assert_eq!(screen.matches("present").count(), 4, "{screen}");
        assert!(!screen.contains('█'), "{screen}");
    }
    drop(holders);
}

#[test]
fn the_doctor_is_read_on_terminals_of_all_sizes() {
    needs_root!();
    let (host, holders) = host_with_leases();
    for (columns, lines) in [(80, 24), (40, 12), (20, 24)] {
        let Some(terminal) = open(&host, (columns, lines), "jsi doctor") else { return };
        terminal.shows(" fail");
        // Lines that the terminal broke are joined here, so none may be too long.
        let all = terminal.scrolled_back();
        let all = all.split("Pane is dead").next().unwrap();
        print(&format!("jsi doctor, {columns}x{lines}, scrolled back"), columns, all);
        clean(all, columns);
        for part in ["agent", "reachable:", "kernel", "->"] {
            assert!(all.contains(part), "{part}:\n{all}");
        }
    }
    drop(holders);
}
