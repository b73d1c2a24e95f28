//! The scene of an attack: who may have a secret, and who may not.

use crate::{Host, Outcome, PEERS, Program, Setup, World, permit, random_secret};
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
        Self::installed(setup, |world| {
            world.write_policy("orders", &permit(PEERS[0].uid, "db/orders", &world.bin("trusted")));
        })
    }

    /// With what `prepare` does to the world before the agent starts.
    #[must_use]
    pub fn installed(setup: Setup, prepare: impl FnOnce(&World)) -> Self {
        let mut host = setup.install();
        host.world.compile("trusted.c", "trusted");
        host.world.compile("hostile.c", "hostile");
        prepare(&host.world);
        host.start();
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

    /// Nothing was delivered, and the log has a refusal with that reason: one for
    /// another reason would say nothing of the attack.
    #[track_caller]
    pub fn refuses_because(&self, output: &str, reason: &str) {
        self.not_delivered(output);
        let what = format!("a refusal because of {reason:?} is in the log");
        let found = crate::within_log(&what, || {
            let records = self.host.records();
            let found = |kind| crate::find(&records, kind, reason);
            found("refused").or_else(|| found("denied"))
        });
        if found.is_none() {
            let records = self.host.records();
            let refused =
                records.iter().filter(|r| r["kind"] == "refused" || r["kind"] == "denied");
            panic!(
                "not in the log: {reason:?}; there is {:#?}\n{output}",
                refused.collect::<Vec<_>>()
            );
        }
    }

    /// Puts this policy in the place of the one that names the trusted program.
    pub fn permit(&self, policy: &str) {
        self.host.world.write_policy("orders", policy);
        self.host.admin(["reload"]).run().succeeded();
    }

    #[track_caller]
    fn not_delivered(&self, output: &str) {
        assert!(!output.contains(&self.secret), "delivered:\n{output}");
        assert!(!output.contains("DELIVERED"), "delivered:\n{output}");
        assert!(!output.contains("FAILED"), "the attack itself failed:\n{output}");
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
