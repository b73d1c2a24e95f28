//! Real hostile programs against a real agent, each named as a prohibition,
//! with its legitimate twin served beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod connection;
mod flood;
mod image;
mod limits;
mod processes;
mod requester;
mod sockets;

use jsi_tests::{Host, Outcome, PEERS, Setup, Talk, permit, random_secret};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Duration;

/// A host agent with one secret, `db/orders`, that only the trusted program of
/// the first peer may have.
struct Stage {
    host: Host,
    secret: String,
}

impl Stage {
    fn new() -> Self {
        Self::with(Setup::host())
    }

    fn with(setup: Setup) -> Self {
        let host = setup.start(|world| {
            world.compile("trusted.c", "trusted");
            world.compile("hostile.c", "hostile");
            vec![("orders", permit(PEERS[0].uid, "db/orders", &world.bin("trusted")))]
        });
        let secret = random_secret();
        host.put("db/orders", &secret);
        Self { host, secret }
    }

    fn socket(&self) -> String {
        self.host.world.socket().display().to_string()
    }

    fn trusted(&self) -> String {
        self.host.world.bin("trusted").display().to_string()
    }

    fn hostile(&self) -> String {
        self.host.world.bin("hostile").display().to_string()
    }

    /// Runs an installed program of the first peer with `mode SOCKET db/orders …`.
    fn run(&self, program: &str, mode: &str, more: &[&str]) -> Outcome {
        self.program(program, mode, more).run()
    }

    fn program(&self, program: &str, mode: &str, more: &[&str]) -> jsi_tests::Program {
        let program = self.host.program(PEERS[0], program);
        program.args([mode, &self.socket(), "db/orders"]).args(more)
    }

    /// The legitimate twin: the trusted program asks by itself.
    #[track_caller]
    fn serves_the_twin(&self) {
        self.served(&self.run(&self.trusted(), "get", &[]));
    }

    #[track_caller]
    fn served(&self, outcome: &Outcome) {
        assert!(outcome.stdout.contains(&self.secret), "the twin was not served:\n{outcome}");
    }

    /// Nothing was delivered, and the log says that somebody was refused.
    #[track_caller]
    fn refuses(&self, output: &str) {
        assert!(!output.contains(&self.secret), "delivered:\n{output}");
        assert!(!output.contains("DELIVERED"), "delivered:\n{output}");
        assert!(!output.contains("FAILED"), "the attack itself failed:\n{output}");
        jsi_tests::until("the refusal is in the log", Duration::from_secs(10), || {
            let records = self.host.records();
            let found = |kind| jsi_tests::find(&records, kind, "");
            found("refused").or_else(|| found("denied"))
        });
        let granted = jsi_tests::find(&self.host.records(), "granted", "");
        assert!(granted.is_none(), "granted: {granted:?}");
    }

    /// Stops the broker, lets `act` happen, and lets the broker go on.
    fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.host.signal(Signal::SIGSTOP);
        let done = act();
        self.host.signal(Signal::SIGCONT);
        done
    }
}

/// Waits until the process runs that program.
fn await_exe(talk: &Talk, program: &str) {
    let link = format!("/proc/{}/exe", talk.pid());
    jsi_tests::until("the exec", Duration::from_secs(5), || {
        (std::fs::read_link(&link).ok()? == Path::new(program)).then_some(())
    });
}
