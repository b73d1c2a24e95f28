//! Supervised commands on a real terminal: tmux.

use crate::host_with_a_secret;
use jsi_tests::{Host, PEERS, needs_root, not_run, permit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// A terminal of 80 columns and 24 lines with an interactive bash in it.
struct Screen<'a> {
    host: &'a Host,
    socket: PathBuf,
}

impl<'a> Screen<'a> {
    fn open(host: &'a Host) -> Self {
        let bash = host.world.install(Path::new("/bin/bash"), "bash");
        host.world.write_policy("bash", &permit(PEERS[0].uid, "db/orders", &bash));
        host.admin(["reload"]).run().succeeded();
        let socket = host.world.home(PEERS[0]).join("tmux");
        let screen = Self { host, socket };
        let shell = format!("exec {} --norc --noprofile", bash.display());
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &shell]);
        screen.line("PS1='$? READY '; clear");
        screen.await_text("0 READY");
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let tmux = self.host.program(PEERS[0], "/usr/bin/tmux").env("TERM", "xterm");
        tmux.args(["-S"]).args([&self.socket]).args(words).run().succeeded().stdout
    }

    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.key("Enter");
    }

    fn key(&self, name: &str) {
        self.tmux(&["send-keys", name]);
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-"])
    }

    fn await_text(&self, wanted: &str) -> String {
        self.await_times(wanted, 1)
    }

    fn await_times(&self, wanted: &str, times: usize) -> String {
        let mut last = String::new();
        let start = std::time::Instant::now();
        while start.elapsed() < LIMIT {
            last = self.text();
            if last.matches(wanted).count() >= times {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{wanted:?} does not come:\n{last}");
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let tmux = self.host.program(PEERS[0], "/usr/bin/tmux");
        let _ = tmux.args(["-S"]).args([&self.socket]).args(["kill-server"]).run();
    }
}

macro_rules! needs_tmux {
    () => {
        needs_root!();
        if !Path::new("/usr/bin/tmux").exists() {
            not_run(module_path!(), line!(), "it needs tmux");
            return;
        }
    };
}

const EXEC: &str = "jsi exec -e X=db/orders";

#[test]
fn a_redacted_command_has_a_terminal_of_the_same_size() {
    needs_tmux!();
    let (host, secret) = host_with_a_secret();
    let screen = Screen::open(&host);
    screen.line(&format!(
        "{EXEC} --redact -- /bin/bash --norc -c 'trap \"stty size; echo WINCH\" WINCH; tty -s && \
         test -t 1 && stty size && echo \"<$X>\"; read -p \"Say: \" y; until read -t 0.1 z; do :; done; exit 4'"
    ));
    screen.await_text("\nSay:");
    let text = screen.await_text("<[redacted db/orders#value]>");
    assert!(text.contains("24 80"), "{text}");
    // What is typed is shown by the terminal of the command.
    screen.line(&secret);
    screen.tmux(&["resize-window", "-x", "100", "-y", "30"]);
    let text = screen.await_text("30 100");
    assert!(text.contains("Say: [redacted db/orders#value]"), "{text}");
    screen.await_text("WINCH");
    screen.line("");
    let text = screen.await_text("4 READY");
    assert!(!text.contains(&secret), "{text}");
    screen.line("stty -a");
    let text = screen.await_text("icanon");
    assert!(!text.contains("-icanon") && !text.contains("-echo "), "{text}");
}

#[test]
fn ctrl_c_ctrl_z_and_fg_do_what_they_do_without_a_supervisor() {
    needs_tmux!();
    let (host, _) = host_with_a_secret();
    let screen = Screen::open(&host);
    for (round, modes) in ["", "--renew", "--redact"].into_iter().enumerate() {
        screen.line("clear");
        screen.line(&format!(
            "{EXEC} {modes} -- /bin/sh -c 'echo U''P {round}; read x; echo GOT $x; read y'"
        ));
        screen.await_text(&format!("UP {round}"));
        screen.key("C-z");
        screen.await_text("148 READY");
        screen.line("fg");
        screen.line("hello");
        screen.await_text("GOT hello");
        // Once more, and to the background and back.
        screen.key("C-z");
        screen.await_times("148 READY", 2);
        screen.line("bg");
        screen.await_text(" &\n");
        screen.line("fg");
        std::thread::sleep(Duration::from_millis(300));
        screen.key("C-c");
        screen.await_text("130 READY");
    }
}

#[test]
fn a_terminal_is_put_back_however_the_command_ends() {
    needs_tmux!();
    let (host, _) = host_with_a_secret();
    let screen = Screen::open(&host);
    screen.line("stty -a > before");
    for (end, code) in [("exit 0", 0), ("kill -KILL $$", 137), ("stty raw -echo; exit 3", 3)] {
        screen.line("clear");
        screen.line(&format!("{EXEC} --redact -- /bin/sh -c '{end}'; echo CO''DE $?"));
        screen.await_text(&format!("CODE {code}"));
        screen.line("clear; stty -a | diff before - && echo SA''ME");
        screen.await_text("SAME");
    }
    // The supervisor, asked to end, ends the command and puts it back, too.
    screen.line("clear");
    screen.line(&format!("{EXEC} --redact -- /bin/sh -c 'echo U''P; exec sleep 60'"));
    screen.await_text("UP");
    let granted = host.records().into_iter().rev().find(|r| r["kind"] == "granted").unwrap();
    let pid = granted["lease"]["binding"]["pid"].as_i64().unwrap();
    let parent = |pid: i32| -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let supervisor = parent(parent(i32::try_from(pid).unwrap()));
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    screen.await_text("143 READY");
    screen.line("clear; stty -a | diff before - && echo SA''ME");
    screen.await_text("SAME");
}

#[test]
fn what_is_piped_is_redacted_and_the_rest_stays_a_terminal() {
    needs_tmux!();
    let (host, secret) = host_with_a_secret();
    let screen = Screen::open(&host);
    // Output to a pipe: the terminal stays the command's for input.
    screen.line(&format!("{EXEC} --redact -- /bin/sh -c 'read y; echo \"$y $X\"' | cat"));
    screen.line("typed");
    screen.await_text("typed [redacted db/orders#value]");
    // Input from a pipe: output stays a terminal, line by line as it should be.
    screen.line("clear");
    screen.line(&format!(
        "echo in | {EXEC} --redact -- /bin/sh -c 'test -t 1 && read y; echo $y; echo \"$X\"; echo end'"
    ));
    let text = screen.await_text("end\n");
    assert!(text.contains("\nin\n[redacted db/orders#value]\nend\n"), "{text}");
    assert!(!screen.text().contains(&secret));
}
