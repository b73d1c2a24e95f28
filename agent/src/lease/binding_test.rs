//! Leases against real processes, the kernel's timer, and a restart.

use super::fakes::*;
use super::*;
use crate::clock::Clock;
use crate::config;
use crate::issuer::fakes::{FakeIssuer, secret};
use crate::log::{EndReason, Event, LeaseRecord, LeaseState, Log};
use crate::memory::SecretBuf;
use crate::names::RequestId;
use crate::policy::Delivery;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_lease_ends_with_its_connection() {
    let bench = Bench::new();
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let closed = Box::pin(async { drop(closed.await) });
    let binding = Bound::Connection { id: 3, closed };
    let view = bench.granted(Grant { binding, ..bench.grant(&key(1)) }).await;
    drop(close);
    settle().await;
    let over = bench.engine.get(&view.id, None).unwrap();
    assert_eq!(over.end_reason, Some(EndReason::ConnectionClosed));
}

#[tokio::test]
async fn the_secret_is_withheld_from_a_process_that_has_ended() {
    let bench = Bench::new();
    let sleeper = Sleeper::new();
    let binding = Bound::Process(sleeper.bound());
    let grant = Grant { binding, ..bench.grant(&key(1)) };
    let id = grant.id.clone();
    sleeper.kill();
    // The kernel takes a moment.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = bench.engine.grant(grant, issued()).await;
    assert!(matches!(refused, Err(LeaseError::HolderGone(_))));
    let over = bench.engine.get(&id, None).unwrap();
    assert_eq!(over.end_reason, Some(EndReason::ProcessExited));
    assert_eq!(resting(&bench), 0);
}

#[tokio::test]
async fn a_killed_process_ends_its_leases_promptly() {
    let bench =
        Bench::with(FakeIssuer::dynamic(), Some(Clock::system()), config::Limits::default());
    bench.engine.start().unwrap();
    let sleeper = Sleeper::new();
    for _ in 0..3 {
        let binding = Bound::Process(sleeper.bound());
        bench.granted(Grant { binding, ..bench.grant(&sleeper.key()) }).await;
    }
    let (_, mut watcher) = bench.engine.subscribe(&Filter::default());
    let killed = Instant::now();
    sleeper.kill();
    let limit = Duration::from_secs(1); // ten times what the issue names
    for _ in 0..6 {
        tokio::time::timeout(limit, watcher.next()).await.expect("ended in time");
    }
    let records = bench.journal.records.lock().unwrap();
    let last = records.iter().rfind(|(e, _)| matches!(e, Event::Ended { .. })).unwrap();
    let took = last.1.duration_since(killed);
    println!("from SIGKILL to the record that the lease has ended: {took:?} (goal 100 ms)");
    assert!(took < limit);
    assert_eq!(bench.engine.counts(1000), (0, 0));
}

#[tokio::test]
async fn the_kernel_timer_ends_a_lease() {
    let bench =
        Bench::with(FakeIssuer::dynamic(), Some(Clock::system()), config::Limits::default());
    bench.engine.start().unwrap();
    // An earlier deadline than the one that is waited for.
    bench.granted(bench.grant(&key(1))).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (_, mut watcher) = bench.engine.subscribe(&Filter::default());
    let ttl = Duration::from_millis(50);
    let view = bench.granted(Grant { ttl, ..bench.grant(&key(1)) }).await;
    let ended = async {
        loop {
            if let Some(Change::Ended(over)) = watcher.next().await {
                break over;
            }
        }
    };
    let over = tokio::time::timeout(Duration::from_secs(1), ended).await.unwrap();
    assert_eq!((&over.id, over.end_reason), (&view.id, Some(EndReason::Expired)));
    let late = Clock::system().now().boot.since(view.expires);
    println!("ended {late:?} after its expiry");
}

fn recorded(bench: &Bench) -> Vec<LeaseRecord> {
    let records = bench.journal.records.lock().unwrap();
    let granted = records.iter().filter_map(|(event, _)| match event {
        Event::Granted { lease } => Some(lease.clone()),
        _ => None,
    });
    granted.collect()
}

#[tokio::test]
async fn after_a_restart_leases_live_on_only_with_what_they_are_bound_to() {
    let before = Bench::new();
    let (kept, lost) = (Sleeper::new(), Sleeper::new());
    let free = before.granted(before.grant(&key(1))).await;
    let mut bound = Vec::new();
    for sleeper in [&kept, &lost] {
        let binding = Bound::Process(sleeper.bound());
        let view = before.granted(Grant { binding, ..before.grant(&sleeper.key()) }).await;
        bound.push(view.id);
    }
    let binding = Bound::Connection { id: 3, closed: Box::pin(std::future::pending()) };
    let connected = before.granted(Grant { binding, ..before.grant(&key(1)) }).await;
    let ttl = Duration::from_millis(1);
    let short = before.granted(Grant { ttl, ..before.grant(&key(1)) }).await;
    let records = recorded(&before);

    let after = Bench::new();
    after.millis.fetch_add(5, Ordering::SeqCst);
    let identity = kept.identity();
    let find = |asked: crate::attestation::ProcessIdentity| -> Found<'_> {
        let found = (asked == identity).then(|| kept.bound());
        Box::pin(async move { found })
    };
    let engine = &after.engine;
    let count = engine.restore(records.clone(), Some("boot"), "boot", &find, &|_| None).await;
    assert_eq!(count, Restored { alive: 2, ended: 3, unreadable: 0 });
    let state = |id| engine.get(id, None).map(|v| (v.state, v.end_reason)).unwrap();
    assert_eq!(state(&free.id), (LeaseState::Active, None));
    assert_eq!(state(&bound[0]), (LeaseState::Active, None));
    assert_eq!(state(&bound[1]).1, Some(EndReason::ProcessExited));
    assert_eq!(state(&connected.id).1, Some(EndReason::ConnectionClosed));
    assert_eq!(state(&short.id).1, Some(EndReason::Expired));
    assert_eq!(engine.counts(1000), (2, 2));

    // The secret is not in the log: the issuer opens it again.
    let request = RequestId::new([9; 8]);
    let reader = kept.key();
    let first = engine.redeliver(&bound[0], &reader, &request, Delivery::Caller).await;
    assert!(matches!(first, Err(LeaseError::NeedsReopen)));
    assert!(engine.attach(&bound[0], &key(1), &secret(b"geheim"), 0).is_err());
    engine.attach(&bound[0], &reader, &secret(b"geheim"), 0).unwrap();
    assert!(engine.redeliver(&bound[0], &reader, &request, Delivery::Caller).await.is_ok());
    kept.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(&bound[0]).1, Some(EndReason::ProcessExited));

    let rebooted = Bench::new();
    let engine = &rebooted.engine;
    let count = engine.restore(records, Some("boot"), "another", &find, &|_| None).await;
    assert_eq!(count, Restored { alive: 0, ended: 5, unreadable: 0 });
    assert_eq!(engine.get(&free.id, None).unwrap().end_reason, Some(EndReason::Rebooted));
}

#[tokio::test]
async fn a_restart_takes_up_revocations_with_what_was_sealed() {
    let before = Bench::new();
    let view = before.engine.grant(before.dynamic(&key(1)), minted()).await.ok().unwrap().view;
    let mut ending = recorded(&before).remove(0);
    ending.state = LeaseState::Ending;
    ending.end_reason = Some(EndReason::Released);
    ending.sealed = Some("hash".into());
    let mut orphan = ending.clone();
    orphan.id = before.grant(&key(1)).id;
    orphan.state = LeaseState::Pending;
    let after = Bench::new();
    let find = |_: crate::attestation::ProcessIdentity| -> Found<'_> { Box::pin(async { None }) };
    let unseal = |_: &LeaseRecord| Some(SecretBuf::from_slice(b"token"));
    let records = vec![ending, orphan];
    after.engine.restore(records, Some("boot"), "boot", &find, &unseal).await;
    settle().await;
    let over = after.engine.get(&view.id, None).unwrap();
    assert_eq!((over.state, over.end_reason), (LeaseState::Ended, Some(EndReason::Released)));
    let revoked = after.issuer.revoked.lock().unwrap();
    assert_eq!(revoked.len(), 2);
    assert!(revoked.iter().all(|(_, sealed)| sealed.as_deref() == Some(b"token".as_slice())));
    assert_eq!(after.engine.counts(1000), (0, 0));
}

#[tokio::test]
async fn the_real_log_brings_back_what_lives() {
    let place = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let open = || Log::open(place.path(), Clock::system(), None, 1 << 20).unwrap();
    let engine = |log: Log| {
        let sealing = Arc::new(bench.sealing.clone());
        let issuers: Issuers = Arc::new(|_| None);
        let limits = config::Limits::default();
        let clock = Clock::system();
        let journal = Arc::new(log);
        Engine::new(EngineParts { clock, journal, sealing, issuers, limits })
    };
    let (log, _) = open();
    let first = engine(log.clone());
    let kept = first.grant(bench.grant(&key(1)), issued()).await.ok().unwrap().view;
    let gone = first.grant(bench.grant(&key(1)), issued()).await.ok().unwrap().view;
    let renewed = first.renew(&kept.id, &key(1), Some(Duration::from_secs(900)), None).await;
    first.release(&gone.id, &key(1)).unwrap();
    log.flush().await.unwrap();
    drop((first, log));

    let (log, folded) = open();
    let leases: Vec<LeaseRecord> = folded.leases.into_values().collect();
    let second = engine(log);
    let find = |_: crate::attestation::ProcessIdentity| -> Found<'_> { Box::pin(async { None }) };
    let count = second.restore(leases, Some("boot"), "boot", &find, &|_| None).await;
    assert_eq!(count, Restored { alive: 1, ended: 0, unreadable: 0 });
    let back = second.get(&kept.id, Some(&key(1))).unwrap();
    assert_eq!(back.expires, renewed.unwrap().expires);
    assert_eq!(second.get(&gone.id, None), Err(LeaseError::NotFound));
}

/// Prints what a lease costs; run by hand in release builds too.
#[tokio::test]
#[ignore = "resident memory is the whole test process's: run it alone"]
async fn a_hundred_thousand_leases_cost_at_most_a_kibibyte_each() {
    fn rss() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
    const LEASES: u64 = 100_000;
    let bench = Bench::new();
    let shared = crate::issuer::Sealing::seal_secret(&bench.sealing, &secret(b"geheim")).unwrap();
    let before = rss();
    let began = Instant::now();
    for number in 0..LEASES {
        let issued = crate::issuer::Issued { at_rest: Some(Arc::clone(&shared)), ..issued() };
        let grant = bench.grant(&key(u32::try_from(number % 64).unwrap()));
        bench.engine.grant(grant, issued).await.ok().unwrap();
        bench.journal.records.lock().unwrap().clear();
    }
    let took = began.elapsed();
    let each = rss().saturating_sub(before) / LEASES;
    println!("{each} bytes a lease, {:?} a grant", took / u32::try_from(LEASES).unwrap());
    assert!(each <= 1_024, "{each}");
    let began = Instant::now();
    bench.engine.end_all(EndReason::AgentStopping, Duration::from_secs(60)).await;
    println!("{LEASES} leases ended in {:?}", began.elapsed());
    assert_eq!(bench.engine.counts(1000), (0, 0));
}
