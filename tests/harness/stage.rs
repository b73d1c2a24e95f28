//! The scene of an attack: who may have a secret, and who may not.

use crate::{Host, Outcome, PEERS, Program, Setup, permit, random_secret};
use nix::sys::signal::Signal;
use std::time::Duration;

/// A host agent with one secret, `db/orders`, that only the trusted program of
/// the first peer may have.
pub struct Stage {
    /// The agent.
    pub host: Host,
    /// What is not to be had.
    pub secret: String,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// With built-in limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Setup::host())
    }

    /// With what `setup` says.
    #[must_use]
    pub fn with(setup: Setup) -> Self {
        let host = setup.start(|world| {
            world.compile("trusted.c", "trusted");
            world.compile("hostile.c", "hostile");
            vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("trusted")))]
        });
        let secret = random_secret();
        host.put("db/orders", &secret);
        Self { host, secret }
    }

    /// The agent's socket.
    #[must_use]
    pub fn socket(&self) -> String {
        self.host.world.socket().display().to_string()
    }

    /// The program that policy names.
    #[must_use]
    pub fn trusted(&self) -> String {
        self.host.world.bin("trusted").display().to_string()
    }

    /// Another program.
    #[must_use]
    pub fn hostile(&self) -> String {
        self.host.world.bin("hostile").display().to_string()
    }

    /// Runs an installed program of the first peer with `mode SOCKET db/orders …`.
    #[must_use]
    pub fn run(&self, program: &str, mode: &str, more: &[&str]) -> Outcome {
        self.program(program, mode, more).run()
    }

    /// The same, about to be run.
    #[must_use]
    pub fn program(&self, program: &str, mode: &str, more: &[&str]) -> Program {
        let program = self.host.program(PEERS[0], program);
        program.args([mode, &self.socket(), "db/orders"]).args(more)
    }

    /// The legitimate twin: the trusted program asks by itself.
    #[track_caller]
    pub fn serves_the_twin(&self) {
        self.served(&self.run(&self.trusted(), "get", &[]));
    }

    /// The secret was delivered.
    #[track_caller]
    pub fn served(&self, outcome: &Outcome) {
        assert!(outcome.stdout.contains(&self.secret), "the twin was not served:\n{outcome}");
    }

    /// Nothing was delivered, and the log says that somebody was refused.
    #[track_caller]
    pub fn refuses(&self, output: &str) {
        assert!(!output.contains(&self.secret), "delivered:\n{output}");
        assert!(!output.contains("DELIVERED"), "delivered:\n{output}");
        assert!(!output.contains("FAILED"), "the attack itself failed:\n{output}");
        let why = crate::until("the refusal is in the log", Duration::from_secs(10), || {
            let records = self.host.records();
            let found = |kind| crate::find(&records, kind, "");
            found("refused").or_else(|| found("denied"))
        });
        println!("refused: {}", why["reason"]);
        let granted = crate::find(&self.host.records(), "granted", "");
        assert!(granted.is_none(), "granted: {granted:?}");
    }

    /// Stops the broker, lets `act` happen, and lets the broker go on.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.host.signal(Signal::SIGSTOP);
        self.await_stop();
        let done = act();
        self.host.signal(Signal::SIGCONT);
        done
    }

    /// A signal is under way for a while: until then the broker goes on.
    fn await_stop(&self) {
        let tasks = format!("/proc/{}/task", self.host.pids().broker);
        crate::until("all of the broker has stopped", Duration::from_secs(5), || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap();
            let stopped = tasks.all(|task| {
                let stat = task.map(|task| task.path().join("stat"));
                std::fs::read_to_string(stat.unwrap()).is_ok_and(|stat| stat.contains(") T "))
            });
            stopped.then_some(())
        });
    }
}
