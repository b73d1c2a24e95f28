//! Resident memory of the three processes, shared pages once (PSS).

use crate::{Effort, Table};
use jsi_proto::v1::{Binding, RequestCredentialRequest, binding};
use jsi_tests::{Client, Host};
use std::fs::read_to_string;

/// The sum over the agent's processes of a line in smaps_rollup, in KiB.
fn sum(host: &Host, line: &str) -> f64 {
    let pids = host.pids();
    [pids.broker, pids.attestor, pids.launcher].iter().map(|pid| kib(*pid, line)).sum()
}

fn kib(pid: u32, line: &str) -> f64 {
    let text = read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = text.lines().find_map(|l| l.strip_prefix(line)).expect("the kernel says it");
    value.trim_start_matches(':').trim().trim_end_matches(" kB").trim().parse().unwrap()
}

const IDLE: &str = "idle: PSS of all three (goal: 16384)";

pub(crate) fn idle(host: &Host, table: &mut Table) {
    table.row(IDLE, "KiB", sum(host, "Pss"));
    table.row("idle: RSS of all three, shared pages thrice", "KiB", sum(host, "Rss"));
    let pids = host.pids();
    for (name, pid) in
        [("broker", pids.broker), ("attestor", pids.attestor), ("launcher", pids.launcher)]
    {
        table.row(&format!("idle: PSS of the {name}"), "KiB", kib(pid, "Pss"));
    }
}

pub(crate) fn busy(host: &Host, table: &mut Table) {
    table.row("after all of the above: PSS of all three", "KiB", sum(host, "Pss"));
}

#[allow(clippy::cast_precision_loss, reason = "some thousand leases")]
pub(crate) fn leased(host: &Host, effort: Effort, table: &mut Table) {
    let before = sum(host, "Pss");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        for _ in 0..effort.leases {
            let binding = Some(Binding { kind: Some(binding::Kind::None(binding::Unit {})) });
            let request = RequestCredentialRequest {
                credential: "bench/one".into(),
                new_lease: true,
                binding,
                ..RequestCredentialRequest::default()
            };
            client.request(request).await.expect("granted");
        }
        let now = sum(host, "Pss");
        let leases = effort.leases;
        table.row(&format!("with {leases} leases: PSS of all three"), "KiB", now);
        let each = (now - before) / leases as f64;
        table.row("a lease more (goal: 1)", "KiB", each);
    });
}
