//! A passphrase on a terminal: set up, start locked, open, and lock again.

use crate::{host_with_a_secret, live};
use jsi_tests::{Host, PEERS, Program, Setup, needs_root, random_secret, until};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::time::Duration;

/// A user who has installed jsi and nothing else: no configuration, no key.
struct Newcomer {
    host: Host,
}

impl Newcomer {
    fn arrives() -> Self {
        let host = Setup::user(PEERS[0].uid).install();
        let runtime = host.world.home(PEERS[0]).join("runtime");
        std::fs::create_dir_all(&runtime).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&runtime, mode).unwrap();
        if jsi_tests::is_root() {
            std::os::unix::fs::chown(&runtime, Some(PEERS[0].uid), Some(PEERS[0].uid)).unwrap();
        }
        Self { host }
    }

    /// Nothing but the usual places names the agent.
    fn here(&self, program: Program) -> Program {
        let runtime = self.host.world.home(PEERS[0]).join("runtime");
        program.env("XDG_RUNTIME_DIR", runtime).env("JSI_AUTH_SOCK", "")
    }

    fn shell(&self, script: &str) -> Program {
        self.here(self.host.shell(PEERS[0], script))
    }

    /// Types the passphrases at the questions; gives what else stood there.
    fn types(&self, command: &str, dialogue: &[(&str, &str)]) -> (i32, String) {
        let mut talk = self.here(self.host.terminal(PEERS[0], command)).talk();
        let mut screen = String::new();
        for (question, answer) in dialogue {
            screen += &talk.until(question);
            talk.say(answer);
        }
        screen += &talk.rest();
        (talk.end().code().unwrap_or(-1), screen)
    }
}

#[test]
fn a_passphrase_is_set_on_a_terminal_and_the_agent_starts_locked() {
    let me = Newcomer::arrives();
    let (passphrase, secret) = (random_secret(), random_secret());

    // Two that differ, and none at all, make nothing.
    let asked = [("Passphrase", &*passphrase), ("again", "another")];
    let (code, screen) = me.types("jsi init", &asked);
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("differ"), "{screen}");
    let (code, screen) = me.types("jsi init", &[("Passphrase", "")]);
    assert_eq!(code, 1, "{screen}");
    let (code, screen) =
        me.types("jsi init", &[("Passphrase", &passphrase), ("again", &passphrase)]);
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("encrypted by your passphrase"), "{screen}");
    assert!(!screen.contains(&passphrase), "nothing that is typed is shown:\n{screen}");
    let identity = me.host.world.home(PEERS[0]).join(".config/jsi/identity");
    let text = std::fs::read_to_string(&identity).unwrap();
    assert!(!text.contains("AGE-SECRET-KEY"), "the key rests encrypted");

    // It starts, says that it is locked, and gives nothing.
    let started = me.shell("eval \"$(jsi-agent)\"; echo $JSI_AGENT_PID").run().succeeded();
    let pid = started.stdout.lines().last().unwrap().trim().parse().unwrap();
    let agent = Running(pid);
    let status = me.shell("jsi status").run().succeeded();
    assert!(status.stdout.contains("jsi unlock"), "{status}");
    let put = "jsi secret put db/orders --owner me --purpose tests";
    me.shell("jsi get db/orders >/dev/null").run().coded(4).says("db/orders");

    // A wrong passphrase opens nothing.
    let wrong = ("Passphrase", "a wrong one");
    let (code, screen) = me.types("jsi unlock", &[wrong, wrong, wrong]);
    assert_eq!(code, 3, "{screen}");
    let (code, screen) = me.types("jsi unlock", &[("Passphrase", &passphrase)]);
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains(&passphrase), "nothing that is typed is shown:\n{screen}");
    me.shell(put).input(&secret).run().succeeded();
    let policies = me.host.world.home(PEERS[0]).join(".config/jsi/policy.d");
    let write = format!("jsi whoami --policy db/orders > {}/orders.cedar", policies.display());
    me.shell(&format!("{write} && jsi reload >/dev/null")).run().succeeded();
    me.shell("jsi get db/orders").run().succeeded().printed(&secret);

    // Locked again, and from a pipe opened again.
    me.shell("jsi lock").run().succeeded();
    me.shell("jsi get db/orders").run().coded(6).says("jsi unlock").without(&secret);
    me.shell("jsi unlock").input(format!("{passphrase}\n")).run().succeeded();
    me.shell("jsi get db/orders").run().succeeded().printed(&secret);

    // Another start is locked again.
    agent.ends(&me);
    let started = me.shell("eval \"$(jsi-agent)\"; echo $JSI_AGENT_PID").run().succeeded();
    let agent = Running(started.stdout.lines().last().unwrap().trim().parse().unwrap());
    me.shell("jsi get db/orders").run().coded(6).says("jsi unlock").without(&secret);
    agent.ends(&me);
}

/// An agent in the background, ended with the test.
struct Running(i32);

impl Running {
    fn ends(mut self, me: &Newcomer) {
        let pid = std::mem::take(&mut self.0);
        me.shell("jsi-agent -k").env("JSI_AGENT_PID", pid.to_string()).run().succeeded();
        until("the agent is gone", Duration::from_secs(10), || {
            kill(Pid::from_raw(pid), None).is_err().then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0 > 0 {
            let _ = kill(Pid::from_raw(self.0), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

#[test]
fn a_locked_agent_issues_renews_and_reads_nothing_but_leases_still_end() {
    needs_root!();
    let (host, secret) = host_with_a_secret();
    let script = "jsi get db/orders >/dev/null; echo HELD; read id; \
                  jsi renew $id >/dev/null 2>&1; echo renew $?; \
                  jsi get db/orders 2>/dev/null; echo get $?; \
                  jsi get --new db/orders 2>/dev/null; echo new $?; \
                  jsi exec -e X=db/orders -- /bin/true 2>/dev/null; echo exec $?; read x";
    let mut holder = host.shell(PEERS[0], script).talk();
    holder.expect("HELD");
    let mut other = host
        .shell(
            PEERS[0],
            "jsi get db/orders >/dev/null; echo HELD; read id; \
                   jsi release $id >/dev/null; echo release $?; read x",
        )
        .talk();
    other.expect("HELD");
    let held = live(&host);
    assert_eq!(held.len(), 2);

    host.admin(["lock"]).run().succeeded();
    let status = host.admin(["status", "-o", "json"]).run().succeeded();
    assert_eq!(status.json()["locked"], true, "{status}");
    holder.say(&held[0]);
    for line in ["renew 6", "get 6", "new 6", "exec 125"] {
        holder.expect(line);
    }
    assert_eq!(live(&host), held, "what was held is held still");
    // The one is given up, the other ends with its holder, and an operator's
    // revocation works too.
    other.say(&held[1]);
    other.expect("release 0");
    assert_eq!(host.await_record("ended", &held[1])["reason"], "released");
    holder.kill();
    assert_eq!(host.await_record("ended", &held[0])["reason"], "process_exited");

    host.admin(["unlock", "--no-passphrase"]).run().succeeded();
    host.shell(PEERS[0], "jsi get db/orders").run().succeeded().printed(&secret);
    let records = host.records();
    for act in ["lock", "unlock"] {
        let found = records.iter().any(|r| r["kind"] == "admin" && r["act"] == act);
        assert!(found, "{act} is in the log");
    }
}
