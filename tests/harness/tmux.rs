//! A real terminal that a test types on and reads: tmux(1), a server of its own.

use crate::{Host, Peer};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// A terminal of some size with one program in it, run by a peer.
pub struct Terminal {
    socket: PathBuf,
    peer: Peer,
}

impl Host {
    /// A terminal of `columns` by `lines` in which `command` (for sh) runs;
    /// `None`: there is no tmux here.
    #[must_use]
    pub fn tmux(
        &self,
        peer: Peer,
        (columns, lines): (u16, u16),
        command: &str,
    ) -> Option<Terminal> {
        let found = Command::new("tmux").arg("-V").output();
        found.ok().filter(|out| out.status.success())?;
        let number = self.world.path().read_dir().unwrap().count();
        let socket = self.world.home(peer).join(format!("tmux-{number}-{columns}x{lines}"));
        // Set before the program runs: one that ends at once would take the
        // server, and its own words, with it.
        let settings = socket.with_extension("conf");
        let kept = "set -g history-limit 50000\nset -g remain-on-exit on\n";
        std::fs::write(&settings, kept).unwrap();
        let start = self.program(peer, "tmux").env("TERM", "xterm-256color");
        let (x, y) = (columns.to_string(), lines.to_string());
        let start = start.args([Path::new("-f"), &settings, Path::new("-S"), &socket]);
        start.args(["new-session", "-d", "-x", &x, "-y", &y, command]).run().succeeded();
        Some(Terminal { socket, peer })
    }
}

impl Terminal {
    fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words).env_clear().env("LANG", "C.UTF-8");
        if crate::is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(self.peer.uid).gid(self.peer.uid);
        }
        command.output().expect("tmux runs")
    }

    /// Types a line.
    pub fn say(&self, line: &str) {
        self.ask(&["send-keys", "-l", line]);
        self.keys("Enter");
    }

    /// Presses a key by tmux's name for it: `C-c`, `q`, `Enter`.
    pub fn keys(&self, key: &str) {
        self.ask(&["send-keys", key]);
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (x, y) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &x, "-y", &y]);
    }

    /// What stands on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.ask(&["capture-pane", "-p"]).stdout).into_owned()
    }

    /// All that stands or stood there, scrolled back to the beginning.
    #[must_use]
    pub fn scrolled_back(&self) -> String {
        let out = self.ask(&["capture-pane", "-p", "-J", "-S", "-"]);
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Waits until the screen shows `part`; gives the screen.
    #[track_caller]
    pub fn shows(&self, part: &str) -> String {
        let limit = Duration::from_secs(20);
        let begun = std::time::Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(part) {
                return screen;
            }
            assert!(begun.elapsed() < limit, "the terminal does not show {part:?}:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ask(&["kill-server"]);
    }
}
