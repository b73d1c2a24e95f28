//! One uid that connects all the time, and what another notices of it.
//!
//! Both are real processes of unprivileged uids. A flood costs the machine too:
//! so the same flood is first let loose on a socket of the flooder's own, where
//! it takes processor time and nothing else. What is slower with the agent's
//! socket than with that one is the agent's doing.

use crate::{Effort, Table, percentiles, requests};
use jsi_proto::v1::RequestCredentialRequest;
use jsi_tests::{Client, Host, PEERS, Setup, Talk, random_secret};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Threads that connect.
const THREADS: usize = 2;

pub(crate) fn measure(effort: Effort, table: &mut Table) {
    let uid = PEERS[0].uid;
    let host = Setup::host().start(|_| {
        let policy = format!(
            "permit(principal in User::\"{uid}\", action in Action::\"use\", \
             resource == Credential::\"bench/one\");"
        );
        vec![("bench", policy)]
    });
    host.put("bench/one", &random_secret());
    let program = host.world.install(&std::env::current_exe().unwrap(), "bench");
    // A file younger than a second is hashed at every look.
    std::thread::sleep(Duration::from_secs(2));
    let agent = host.world.socket();
    let own = host.world.home(PEERS[1]).join("own.sock");
    let scenes = [
        ("alone", None),
        ("beside a flood of another socket", Some((own, "own"))),
        ("beside a flood of the agent", Some((agent.clone(), "agents"))),
    ];
    for (scene, flood) in scenes {
        let flood = flood.map(|(socket, whose)| {
            let flood = flooder(&host, &program, &socket, whose);
            std::thread::sleep(effort.throughput / 4);
            flood
        });
        let [warm, fresh] = victim(&host, &program, &agent, effort);
        if let Some(mut flood) = flood {
            flood.hang_up();
            let rate: f64 = flood.line().parse().expect("the flooder says its rate");
            table.row(&format!("flood: connects, {scene}"), "/s", rate);
        }
        for (what, (median, p99)) in [("lease, warm", warm), ("connect and lease", fresh)] {
            table.row(&format!("flood: {what}, {scene}, p50"), "us", median);
            table.row(&format!("flood: {what}, {scene}, p99"), "us", p99);
        }
    }
}

/// As the second peer, behind everybody else in the queue for a processor: what
/// is to be measured is the agent.
fn flooder(host: &Host, program: &Path, socket: &Path, whose: &str) -> Talk {
    let nice = host.program(PEERS[1], "/usr/bin/nice").args(["-n", "19"]).args([program]);
    let mut flood = nice.args(["--flood"]).args([socket]).args([whose]).talk();
    flood.expect("FLOODS");
    flood
}

/// As the first peer: what it measured, warm and with a connection each time.
fn victim(host: &Host, program: &Path, socket: &Path, effort: Effort) -> [(f64, f64); 2] {
    let calls = (effort.calls / 5).to_string();
    let asks = host.program(PEERS[0], program).args(["--victim"]).args([socket]).args([calls]);
    let said = asks.run().succeeded().stdout;
    let mut numbers = said.split_whitespace().map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("four numbers");
    [(next(), next()), (next(), next())]
}

/// Connects and closes until stdin ends, then says how often a second.
pub(crate) fn flood(socket: PathBuf, whose: &str) {
    if whose == "own" {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("the flooder's own socket");
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    let done = Arc::new(AtomicU64::new(0));
    for _ in 0..THREADS {
        let (socket, done) = (socket.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            loop {
                if UnixStream::connect(&socket).is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    println!("FLOODS");
    std::io::stdout().flush().expect("the bench reads");
    let begun = Instant::now();
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let count = done.load(Ordering::Relaxed) as f64;
    println!("{:.0}", count / begun.elapsed().as_secs_f64());
}

/// Says median and 99th percentile of leases on one connection, and of leases
/// with a connection each.
pub(crate) fn ask(socket: &Path, calls: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(socket).await.expect("the agent serves");
        requests::lease(&client).await;
        let (mut warm, mut fresh) = (vec![], vec![]);
        for _ in 0..calls {
            let begun = Instant::now();
            requests::lease(&client).await;
            warm.push(begun.elapsed());
            let begun = Instant::now();
            once(socket).await;
            fresh.push(begun.elapsed());
        }
        for times in [warm, fresh] {
            let (median, p99) = percentiles(times);
            println!("{median} {p99}");
        }
    });
}

/// What `jsi get` does on the socket.
async fn once(socket: &Path) {
    let client = Client::connect(socket).await.expect("the agent serves");
    let request = RequestCredentialRequest {
        credential: "bench/one".into(),
        ..RequestCredentialRequest::default()
    };
    let wait = tokio::time::timeout(Duration::from_secs(10), client.request(request));
    wait.await.expect("an answer").expect("granted");
}
