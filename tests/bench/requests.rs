//! Requests on warm connections, beside bare round trips and a bare sync.

use crate::echo::Echo;
use crate::{Effort, Table, percentiles, timed};
use jsi_proto::v1::RequestCredentialRequest;
use jsi_tests::{Client, Host};
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn bench_one() -> RequestCredentialRequest {
    RequestCredentialRequest {
        credential: "bench/one".into(),
        new_lease: true,
        ..RequestCredentialRequest::default()
    }
}

/// One request, its delivery, and the release.
pub(crate) async fn lease(client: &Client) {
    let delivered = client.request(bench_one()).await.expect("granted");
    client.release(&delivered.lease.id).await.expect("released");
}

pub(crate) fn latency(host: &Host, effort: Effort, table: &mut Table) {
    let socket = host.world.path().join("echo.sock");
    let _echo = Echo::start(&socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let file = host.world.log_dir().join("bench.sync");
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    let (mut echoes, mut leases, mut syncs) = (vec![], vec![], vec![]);
    runtime.block_on(async {
        let bare = Client::connect(&socket).await.unwrap();
        let mut health = HealthClient::new(bare.channel());
        let client = Client::connect(&host.world.socket()).await.unwrap();
        lease(&client).await;
        for _ in 0..effort.calls {
            let begun = Instant::now();
            health.check(HealthCheckRequest::default()).await.expect("the bare server answers");
            echoes.push(begun.elapsed());
            let begun = Instant::now();
            lease(&client).await;
            leases.push(begun.elapsed());
            syncs.push(timed(|| {
                file.write_all(&[b'x'; 500]).unwrap();
                file.sync_data().unwrap();
            }));
        }
    });
    for (what, times) in [
        ("bare tonic round trip", echoes),
        ("append 500 B + fdatasync", syncs),
        ("request + deliver + release, warm", leases),
    ] {
        let (median, p99) = percentiles(times);
        table.row(&format!("{what}, p50"), "us", median);
        table.row(&format!("{what}, p99"), "us", p99);
    }
    let goal = 4.0 * table.value("bare tonic round trip, p50")
        + table.value("append 500 B + fdatasync, p50");
    let ratio = table.value("request + deliver + release, warm, p50") / goal;
    table.row("lease / (4 round trips + 1 sync) (goal: 1)", "", ratio);
}

#[allow(clippy::cast_precision_loss, reason = "a count of seconds' work")]
pub(crate) fn throughput(host: &Host, effort: Effort, table: &mut Table) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for connections in [1, 16, 64] {
        let done = runtime.block_on(count(host, connections, effort.throughput));
        let rate = done as f64 / effort.throughput.as_secs_f64();
        table.row(&format!("leases on {connections} connections"), "/s", rate);
    }
}

async fn count(host: &Host, connections: usize, span: Duration) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let client = Client::connect(&host.world.socket()).await.unwrap();
        tasks.spawn(async move {
            let begun = Instant::now();
            let mut done = 0;
            while begun.elapsed() < span {
                lease(&client).await;
                done += 1;
            }
            done
        });
    }
    tasks.join_all().await.into_iter().sum()
}
