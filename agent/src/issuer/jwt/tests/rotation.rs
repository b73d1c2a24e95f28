//! Rotation on disk: order, crashes, what cannot be written.

use super::super::IssuerError;
use super::*;
use crate::log::KeyChange;

/// What the log says of keys: change and kid.
fn logged(bench: &Bench) -> Vec<(KeyChange, String)> {
    let dir = bench.place.path().join("log");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let rec = &line["rec"];
            if rec["kind"] == "signing_key" {
                let change = serde_json::from_value(rec["change"].clone()).unwrap();
                found.push((change, rec["kid"].as_str().unwrap().to_owned()));
            }
        }
    }
    found
}

fn files(bench: &Bench) -> JwtIssuerConfig {
    JwtIssuerConfig {
        jwks_file: Some(bench.place.path().join("jwks.json")),
        discovery_file: Some(bench.place.path().join("openid-configuration")),
        ..config()
    }
}

fn written(bench: &Bench) -> Vec<String> {
    let text = std::fs::read(bench.place.path().join("jwks.json")).unwrap();
    let set: Value = serde_json::from_slice(&text).unwrap();
    set["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().into()).collect()
}

#[tokio::test]
async fn a_rotation_publishes_the_next_key_and_it_signs_when_its_time_has_come() {
    let bench = Bench::new();
    let issuer = bench.issuer(files(&bench), credential(&["a"]));
    let (_, first, _) = bench.token(&issuer).await;
    issuer.rotate(Rotation::default(), operator()).await.map_err(|e| e.to_string()).unwrap();
    assert_eq!(written(&bench), published(&issuer));
    assert_eq!(published(&issuer).len(), 2);
    let (_, still, _) = bench.token(&issuer).await;
    assert_eq!(still, first);
    // Asked again, nothing piles up.
    issuer.rotate(Rotation::default(), operator()).await.map_err(|e| e.to_string()).unwrap();
    assert_eq!(published(&issuer).len(), 2);
    bench.pass(HOUR * 2);
    let (_, second, _) = bench.token(&issuer).await;
    assert_ne!(second["kid"], first["kid"]);
    assert_eq!(published(&issuer).len(), 2, "the first key's tokens live still");
    bench.pass(HOUR + Duration::from_secs(600));
    issuer.maintain().await.map_err(|e| e.to_string()).unwrap();
    assert_eq!(written(&bench), [second["kid"].as_str().unwrap()]);
    assert_eq!(std::fs::read_dir(bench.dir()).unwrap().count(), 2, "keys.json and one key");
    let changes: Vec<_> = logged(&bench).into_iter().map(|(change, _)| change).collect();
    use KeyChange::{Expired, Made, Scheduled};
    assert_eq!(changes, [Made, Scheduled, Made, Scheduled, Expired]);
}

#[tokio::test]
async fn at_once_means_the_next_token_and_withdrawn_means_no_earlier_key() {
    let bench = Bench::new();
    let issuer = bench.issuer(files(&bench), credential(&["a"]));
    let (_, first, _) = bench.token(&issuer).await;
    bench.pass(Duration::from_secs(1));
    issuer.rotate(Rotation::default(), operator()).await.map_err(|e| e.to_string()).unwrap();
    issuer.rotate(NOW, operator()).await.map_err(|e| e.to_string()).unwrap();
    let (_, second, _) = bench.token(&issuer).await;
    assert_ne!(first["kid"], second["kid"]);
    assert_eq!(published(&issuer).len(), 2, "the one that was waiting was taken");
    bench.pass(Duration::from_secs(1));
    issuer.rotate(WITHDRAW, operator()).await.map_err(|e| e.to_string()).unwrap();
    bench.pass(Duration::from_secs(1));
    let (_, third, _) = bench.token(&issuer).await;
    assert_eq!(written(&bench), [third["kid"].as_str().unwrap()]);
    let withdrawn =
        logged(&bench).into_iter().filter(|(change, _)| *change == KeyChange::Withdrawn);
    assert_eq!(withdrawn.count(), 2);
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_keep_the_key_that_is_withdrawn() {
    let year = HOUR * 24 * 365;
    for how in [WITHDRAW, NOW] {
        let bench = Bench::new();
        bench.pass(year);
        let issuer = bench.issuer(files(&bench), credential(&["a"]));
        let (_, stolen, _) = bench.token(&issuer).await;
        bench.millis.store(START, Ordering::SeqCst);
        issuer.rotate(how, operator()).await.map_err(|e| e.to_string()).unwrap();
        let (_, next, _) = bench.token(&issuer).await;
        assert_ne!(next["kid"], stolen["kid"], "{how:?}");
        if how.withdraw {
            assert_eq!(written(&bench), [next["kid"].as_str().unwrap()]);
        }
    }
}

#[tokio::test]
async fn a_key_that_waited_beside_the_stolen_one_is_withdrawn_with_it() {
    let bench = Bench::new();
    let issuer = bench.issuer(files(&bench), credential(&["a"]));
    bench.token(&issuer).await;
    issuer.rotate(Rotation::default(), operator()).await.map_err(|e| e.to_string()).unwrap();
    let before = published(&issuer);
    assert_eq!(before.len(), 2);
    issuer.rotate(WITHDRAW, operator()).await.map_err(|e| e.to_string()).unwrap();
    let (_, next, _) = bench.token(&issuer).await;
    let next = next["kid"].as_str().unwrap().to_owned();
    assert!(!before.contains(&next));
    assert_eq!(written(&bench), [next]);
    assert_eq!(std::fs::read_dir(bench.dir()).unwrap().count(), 2, "keys.json and one key");
}

#[tokio::test]
async fn the_key_and_its_schedule_survive_a_restart() {
    let bench = Bench::new();
    let issuer = bench.plain();
    let (_, first, _) = bench.token(&issuer).await;
    issuer.rotate(Rotation::default(), operator()).await.map_err(|e| e.to_string()).unwrap();
    let before = published(&issuer);
    drop(issuer);
    let bench = bench.again();
    let issuer = bench.plain();
    assert_eq!(published(&issuer), before);
    assert_eq!(bench.token(&issuer).await.1, first);
}

#[tokio::test]
async fn no_key_signs_before_the_file_that_names_it_is_written() {
    let bench = Bench::new();
    let config = files(&bench);
    let path = config.jwks_file.clone().unwrap();
    std::fs::create_dir(&path).unwrap();
    let issuer = bench.issuer(config, credential(&["a"]));
    let error = bench.mint(&issuer, &ask()).await.err().unwrap().to_string();
    assert!(error.contains("jwks.json: cannot be written"), "{error}");
    issuer.maintain().await.err().unwrap();
    assert!(issuer.fault().unwrap().contains("jwks.json"), "{:?}", issuer.fault());
    std::fs::remove_dir(&path).unwrap();
    let (_, first, _) = bench.token(&issuer).await;
    assert!(issuer.fault().is_none());
    assert_eq!(written(&bench), [first["kid"].as_str().unwrap()]);

    // What signed goes on where the next key cannot be published.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let failed = issuer.rotate(NOW, operator()).await;
    assert!(matches!(failed, Err(IssuerError::Unavailable(_))));
    assert_eq!(bench.token(&issuer).await.1, first);
    std::fs::remove_dir(&path).unwrap();
    issuer.maintain().await.map_err(|e| e.to_string()).unwrap();
    assert_eq!(written(&bench).len(), 2, "and the next one follows once it can");
    assert_eq!(bench.token(&issuer).await.1, first, "ahead of its use");
}

#[tokio::test]
async fn a_file_that_somebody_removed_or_changed_is_written_again() {
    let bench = Bench::new();
    let issuer = bench.issuer(files(&bench), credential(&["a"]));
    bench.token(&issuer).await;
    let path = bench.place.path().join("jwks.json");
    for harm in [None, Some("{\"keys\":[]}")] {
        match harm {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        issuer.maintain().await.map_err(|e| e.to_string()).unwrap();
        assert_eq!(written(&bench), published(&issuer));
    }
    let discovery = std::fs::read(bench.place.path().join("openid-configuration")).unwrap();
    let discovery: Value = serde_json::from_slice(&discovery).unwrap();
    assert_eq!(discovery["jwks_uri"], "https://jsi.example.org/.well-known/jwks.json");
}

/// Killed in front of each step in turn: the next start has a key that signs,
/// what was minted verifies, and the rotation can be done.
#[tokio::test]
async fn a_crash_at_any_step_of_a_rotation_leaves_a_usable_state() {
    for how in [Rotation::default(), NOW, WITHDRAW] {
        let mut steps = 0;
        loop {
            let bench = Bench::new();
            let issuer = bench.issuer(files(&bench), credential(&["a"]));
            let (_, first, _) = bench.token(&issuer).await;
            issuer.ring.steps_left.store(steps, Ordering::SeqCst);
            let done = issuer.rotate(how, operator()).await;
            drop(issuer);
            let bench = bench.again();
            let issuer = bench.issuer(files(&bench), credential(&["a"]));
            issuer.maintain().await.map_err(|e| e.to_string()).unwrap();
            let (_, header, _) = bench.token(&issuer).await;
            let kid = header["kid"].as_str().unwrap().to_owned();
            assert!(written(&bench).contains(&kid), "{how:?} {steps}: the signer is published");
            assert_eq!(written(&bench), published(&issuer));
            if !how.withdraw {
                let first = first["kid"].as_str().unwrap().to_owned();
                assert!(published(&issuer).contains(&first), "{how:?} {steps}: nothing is lost");
            }
            assert!(
                logged(&bench).contains(&(KeyChange::Made, kid)),
                "{how:?} {steps}: no key signs that the log does not name"
            );
            issuer.rotate(how, operator()).await.map_err(|e| e.to_string()).unwrap();
            bench.token(&issuer).await;
            if done.is_ok() {
                break;
            }
            steps += 1;
            assert!(steps < 40, "{how:?} never ends");
        }
        assert!(steps >= 6, "{how:?}: only {steps} steps were tried");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_the_first_key_leaves_a_usable_state() {
    for steps in 0.. {
        let bench = Bench::new();
        let issuer = bench.issuer(files(&bench), credential(&["a"]));
        issuer.ring.steps_left.store(steps, Ordering::SeqCst);
        let done = issuer.maintain().await;
        drop(issuer);
        let bench = bench.again();
        let issuer = bench.issuer(files(&bench), credential(&["a"]));
        let (_, header, _) = bench.token(&issuer).await;
        assert_eq!(written(&bench), [header["kid"].as_str().unwrap()], "{steps}");
        if done.is_ok() {
            break;
        }
    }
}
