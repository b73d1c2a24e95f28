use super::fakes::*;
use super::*;
use crate::issuer::fakes::secret;
use crate::names::RequestId;
use crate::policy::{Delivery, Limits};

fn request() -> RequestId {
    RequestId::new([9; 8])
}

#[tokio::test]
async fn a_lease_stays_is_told_and_delivers_the_new_secret() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    let (_, mut watcher) = bench.engine.subscribe(&Filter::default());
    assert_eq!(bench.engine.rotated(&view.credential), 1);
    assert!(
        matches!(watcher.next().await, Some(Change::Rotated(told)) if told.id == view.id && told.outdated)
    );
    assert!(bench.engine.get(&view.id, None).unwrap().outdated);
    assert_eq!(resting(&bench), 0);
    let (holder, request) = (key(1), request());
    let again = || bench.engine.redeliver(&view.id, &holder, &request, Delivery::Caller);
    assert_eq!(again().await.err(), Some(LeaseError::NeedsReopen));
    let rotations = bench.engine.rotations();
    bench.engine.attach(&view.id, &key(1), &secret(b"new"), rotations).unwrap();
    let (view, bytes) = again().await.ok().unwrap();
    assert_eq!(bytes.default_field().unwrap().value.expose(), b"new");
    assert!(!view.outdated && !bench.engine.get(&view.id, None).unwrap().outdated);
}

#[tokio::test]
async fn what_was_opened_before_a_rotation_is_never_kept_after_it() {
    let bench = Bench::new();
    let grant = bench.grant(&key(1));
    let (_, mut watcher) = bench.engine.subscribe(&Filter::default());
    // The secret was opened; then another took its place; then the grant comes.
    assert_eq!(bench.engine.rotated(&grant.terms.credential), 0);
    let view = bench.granted(grant).await;
    assert!(matches!(watcher.next().await, Some(Change::Granted(_))));
    assert!(matches!(watcher.next().await, Some(Change::Rotated(told)) if told.id == view.id));
    assert_eq!(resting(&bench), 0);
    // The same between opening it again and keeping it.
    let before = bench.engine.rotations();
    bench.engine.rotated(&view.credential);
    let old = bench.engine.attach(&view.id, &key(1), &secret(b"old"), before);
    assert_eq!(old, Err(LeaseError::NeedsReopen));
    assert_eq!(resting(&bench), 0);
}

#[tokio::test]
async fn a_use_that_a_rotation_overtook_is_not_spent() {
    let bench = Bench::new();
    let mut grant = bench.grant(&key(1));
    grant.terms.limits = Limits { max_uses: Some(2), ..grant.terms.limits };
    let view = bench.granted(grant).await;
    // Counted, and not yet in the log, when another takes its place.
    bench.journal.gate.forget_permits(1_000_000);
    let engine = std::sync::Arc::clone(&bench.engine);
    let id = view.id.clone();
    let asking = tokio::spawn(async move {
        engine.redeliver(&id, &key(1), &request(), Delivery::Caller).await.err()
    });
    settle().await;
    assert_eq!(bench.engine.get(&view.id, None).unwrap().uses_left, Some(0));
    bench.engine.rotated(&view.credential);
    bench.journal.gate.add_permits(1_000);
    assert_eq!(asking.await.unwrap(), Some(LeaseError::NeedsReopen));
    assert_eq!(bench.engine.get(&view.id, None).unwrap().uses_left, Some(1));
}

#[tokio::test]
async fn other_credentials_and_minted_ones_hear_nothing() {
    let bench = Bench::new();
    let minted = bench.engine.grant(bench.dynamic(&key(2)), minted()).await.ok().unwrap().view;
    let other = crate::names::CredentialName::new("db/other").unwrap();
    bench.granted(bench.grant(&key(1))).await;
    assert_eq!(bench.engine.rotated(&other), 0);
    assert_eq!(bench.engine.rotated(&minted.credential), 1);
    assert!(!bench.engine.get(&minted.id, None).unwrap().outdated);
}
