//! Figures, all taken side by side in one run: a table for people and JSON.
//!
//! `cargo bench -p jsi-tests` (as root: a host agent). `-- --smoke` makes each
//! measurement short, to see that the bench works. `-- --json FILE` writes the
//! JSON there too. `-- --hold` only starts the agent, says where it is, and keeps
//! it until stdin ends, for a profiler. Compare ratios: absolute figures belong to the machine.
#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]
#![allow(clippy::print_stdout, reason = "the table is the point")]

mod echo;
mod flood;
mod memory;
mod processes;
mod requests;

use jsi_tests::{Client, Host, Setup, random_secret};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// How much of each measurement is made.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) processes: usize,
    pub(crate) calls: usize,
    pub(crate) throughput: Duration,
    pub(crate) leases: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--echo-server") {
        return echo::serve(args[at + 1].as_ref());
    }
    if let Some(at) = args.iter().position(|a| a == "--flood") {
        return flood::flood(args[at + 1].clone().into(), &args[at + 2]);
    }
    if let Some(at) = args.iter().position(|a| a == "--victim") {
        return flood::ask(args[at + 1].as_ref(), args[at + 2].parse().expect("a number"));
    }
    if !jsi_tests::is_root() {
        println!("not run: the bench needs a host agent: run it as root");
        return;
    }
    let effort = if args.iter().any(|a| a == "--smoke") {
        Effort { processes: 10, calls: 100, throughput: Duration::from_millis(300), leases: 200 }
    } else {
        Effort { processes: 300, calls: 5_000, throughput: Duration::from_secs(5), leases: 10_000 }
    };
    let mut table = Table::default();
    if args.iter().any(|a| a == "--flood-only") {
        return flood::measure(effort, &mut table);
    }
    let (host, [serving, first]) = host();
    if args.iter().any(|a| a == "--hold") {
        println!("{:?}", host.pids());
        println!("JSI_AUTH_SOCK={}", host.world.socket().display());
        println!("{} get bench/one", host.world.bin("jsi").display());
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        return;
    }
    table.row("start to serving", "ms", serving.as_secs_f64() * 1e3);
    table.row("start to first request served (goal: 40)", "ms", first.as_secs_f64() * 1e3);
    memory::idle(&host, &mut table);
    processes::measure(&host, effort, &mut table);
    processes::exec(&host, effort, &mut table);
    requests::latency(&host, effort, &mut table);
    requests::throughput(&host, effort, &mut table);
    memory::busy(&host, &mut table);
    drop(host);
    // Anew: what the load before has left would hide what a lease costs.
    memory::leased(&self::host().0, effort, &mut table);
    flood::measure(effort, &mut table);
    let json = table.json();
    println!("\n{json:#}");
    if let Some(at) = args.iter().position(|a| a == "--json") {
        std::fs::write(&args[at + 1], format!("{json:#}\n")).expect("the JSON is written");
    }
}

/// A host agent that gives root's programs one secret of 32 bytes.
///
/// Also how long it took from its start to the socket, and to the first answer.
fn host() -> (Host, [Duration; 2]) {
    let mut host = Setup::host().limit("requests_per_second", "1000000").install();
    host.world.write_policy(
        "bench",
        "permit(principal in User::\"0\", action in Action::\"use\", \
         resource == Credential::\"bench/one\");",
    );
    host.start();
    host.put("bench/one", &random_secret());
    host.stop();
    let begun = Instant::now();
    let serving = host.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        client.take("bench/one").await.expect("granted");
    });
    (host, [serving, begun.elapsed()])
}

/// What was measured, in order.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, &'static str, f64)>);

impl Table {
    pub(crate) fn row(&mut self, what: &str, unit: &'static str, value: f64) {
        println!("{what:<58} {value:>12.2} {unit}");
        self.0.push((what.to_owned(), unit, value));
    }

    pub(crate) fn value(&self, what: &str) -> f64 {
        self.0.iter().find(|row| row.0 == what).map_or(f64::NAN, |row| row.2)
    }

    fn json(&self) -> Value {
        let rows: Map<String, Value> = self
            .0
            .iter()
            .map(|(what, unit, value)| (what.clone(), json!({ "value": value, "unit": unit })))
            .collect();
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        json!({ "cpus": cpus, "kernel": kernel.trim(), "rows": rows })
    }
}

/// The median and the 99th percentile of what `times` took, in microseconds.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a few thousand samples"
        )]
        let index = ((times.len() - 1) as f64 * share) as usize;
        times[index].as_secs_f64() * 1e6
    };
    (at(0.5), at(0.99))
}

/// Runs it and says how long it took.
pub(crate) fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}
