//! Installing for real: by contrib/install, by a Debian package, under systemd
//! as pid 1; each on an overlay of this machine, which keeps nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]
#![allow(clippy::print_stdout, reason = "what a machine said is shown where a test fails")]

mod booted;
mod machine;
mod package;
mod script;
mod units;

/// Lets `/bin/sh` of the uid that tests use have `db/orders`, and stores it.
const PERMIT: &str = "
printf s3cret-of-the-tests | jsi secret put db/orders --owner tests --purpose 'to be asked for'
jsi allow db/orders --uid 20001 --exe /usr/bin/dash --ttl 15m
";

/// Ends the agent as root would, and waits for its end; with `USR2` it hands over.
fn end_agent(signal: &str) -> String {
    format!(
        "pid=$(jsi status | sed -n 's/^pids  *broker \\([0-9]*\\),.*/\\1/p'); test -n \"$pid\"
        kill -{signal} $pid; for i in $(seq 200); do test -e /proc/$pid || break; sleep 0.05; done
        test ! -e /proc/$pid"
    )
}
