//! Nothing secret is left or shown: not in `ps`, not in /proc, not in the
//! shell's history, not in the terminal's scroll-back, not in any file.

use jsi_tests::{Host, PEERS, Setup, needs_root, permit, random_secret};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What a person types in an afternoon, each with what shows that it is done.
/// `$T` is a file made beforehand; the values never stand in a line.
const LINES: &[(&str, &str)] = &[
    ("jsi get db/orders | wc -c | sed s/^/get-/", "get-33"),
    ("P=$(jsi get db/orders); echo kept-${#P}", "kept-32"),
    ("jsi exec -e P=db/orders -- sh -c 'echo env-${#P}; ps -ef >/dev/null'", "env-32"),
    ("jsi exec --fd T=db/orders -- sh -c 'echo fd-$(wc -c <$T)'", "fd-32"),
    ("jsi exec --file F=db/orders -- sh -c 'echo file-$(wc -c <$F)'", "file-32"),
    (
        "jsi exec --redact -e P=db/orders -- sh -c 'echo shown-$P'",
        "shown-[redacted db/orders#value]\nready>",
    ),
    ("jsi exec --renew -e P=db/orders -- sh -c 'echo renewed-${#P}'", "renewed-32"),
    ("echo 'token ${jsi:db/orders}' >$HOME/t.tmpl; echo template-$?", "template-0"),
    ("jsi exec --template C=$HOME/t.tmpl -- sh -c 'echo filled-$(wc -c <$C)'", "filled-39"),
    ("jsi render $HOME/t.tmpl -- sh -c 'echo render-$(wc -c <$JSI_RENDERED)'", "render-39"),
    ("eval \"$(jsi env -e Q=db/orders)\"; echo variable-${#Q}", "variable-32"),
    ("jsi leases >/dev/null; echo listed-$?", "listed-0"),
];

#[test]
fn nothing_secret_shows_in_ps_proc_history_scroll_back_or_any_file() {
    needs_root!();
    let host = Setup::host()
        .start(|_| vec![("orders", permit(PEERS[0].uid, "db/orders", Path::new("/usr/bin/bash")))]);
    let secret = random_secret();
    let watching = Watching::begin(&secret);
    host.put("db/orders", &secret);
    let home = host.world.home(PEERS[0]);
    let shell = "env HISTFILE=$HOME/history HISTSIZE=1000 PS1='ready> ' bash --norc -i";
    let Some(terminal) = host.tmux(PEERS[0], (100, 30), shell) else {
        jsi_tests::not_run(module_path!(), line!(), "there is no tmux (Debian: tmux)");
        return;
    };
    terminal.shows("ready>");
    for (line, done) in LINES {
        terminal.say(line);
        terminal.shows(done);
    }
    terminal.say("history -a; echo written-$?");
    terminal.shows("written-0");
    let scrolled = terminal.scrolled_back();
    terminal.say("exit");
    let looks = watching.end();

    assert!(scrolled.contains("kept-32"), "the scroll-back is read:\n{scrolled}");
    assert!(!scrolled.contains(&secret), "in the scroll-back:\n{scrolled}");
    let history = fs::read_to_string(home.join("history")).unwrap();
    assert!(history.contains("jsi get db/orders"), "the history is read: {history}");
    assert!(!history.contains(&secret), "in the history: {history}");
    assert!(looks > 10, "command lines were looked at {looks} times");
    drop(terminal);
    nothing_on_disk(&host, &secret);
    host.admin(["audit", "verify"]).run().succeeded();
}

/// No file below the world, nor where temporary files go, holds the secret.
fn nothing_on_disk(host: &Host, secret: &str) {
    let mut looked = 0;
    for place in [host.world.path(), Path::new("/tmp"), Path::new("/dev/shm"), Path::new("/run")] {
        let mut dirs = vec![place.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let Ok(meta) = entry.path().symlink_metadata() else { continue };
                // Builds and other large files are not jsi's.
                if meta.is_dir() && !entry.path().join("Cargo.toml").exists() {
                    dirs.push(entry.path());
                } else if meta.is_file() && meta.len() < 16 << 20 {
                    looked += 1;
                    let bytes = fs::read(entry.path()).unwrap_or_default();
                    let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                    assert!(!found, "the secret is in {}", entry.path().display());
                }
            }
        }
    }
    assert!(looked > 10, "{looked} files were looked at");
}

/// Looks at the command line of every process, over and over, for a secret.
struct Watching {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Option<String>>,
}

impl Watching {
    fn begin(secret: &str) -> Self {
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted, secret) = (stop.clone(), looks.clone(), secret.to_owned());
        let thread = std::thread::spawn(move || {
            let mut found = None;
            while !stopped.load(Ordering::SeqCst) {
                found = found.or_else(|| seen(&secret));
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
            found
        });
        Self { stop, looks, thread }
    }

    /// How often it looked. Fails where the secret was seen.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let found = self.thread.join().unwrap();
        assert!(found.is_none(), "the secret stood in {}", found.unwrap_or_default());
        self.looks.load(Ordering::SeqCst)
    }
}

fn seen(secret: &str) -> Option<String> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        for file in ["cmdline", "comm"] {
            let path = entry.path().join(file);
            let text = fs::read(&path).unwrap_or_default();
            if text.windows(secret.len()).any(|part| part == secret.as_bytes()) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

#[test]
fn the_look_at_command_lines_finds_what_is_there() {
    let secret = random_secret();
    let watching = Watching::begin(&secret);
    let mut shows = std::process::Command::new("/bin/sh");
    shows.args(["-c", "sleep 0.3; exit 0", &secret]);
    assert!(shows.status().unwrap().success());
    watching.stop.store(true, Ordering::SeqCst);
    assert!(watching.thread.join().unwrap().is_some_and(|path| path.ends_with("cmdline")));
}
