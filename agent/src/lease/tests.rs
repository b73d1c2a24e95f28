use super::fakes::*;
use super::*;
use crate::clock::BootTime;
use crate::config;
use crate::issuer::IssuerError;
use crate::issuer::fakes::FakeIssuer;
use crate::log::{EndReason, LeaseState};
use crate::names::RequestId;
use crate::policy::{Delivery, Limits};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_granted_lease_is_in_the_log_and_ends_when_released() {
    let bench = Bench::new();
    let granted = bench.engine.grant(bench.grant(&key(1)), issued()).await.ok().unwrap();
    assert_eq!(granted.secret.default_field().unwrap().value.expose(), b"geheim");
    assert_eq!(granted.view.state, LeaseState::Active);
    assert_eq!(granted.view.remaining, 10 * MINUTE);
    assert_eq!(granted.view.renewable_for, 60 * MINUTE);
    assert_eq!(bench.journal.kinds(), ["granted"]);
    assert_eq!(resting(&bench), 1);

    let view = bench.engine.release(&granted.view.id, &key(1)).unwrap();
    assert_eq!((view.state, view.end_reason), (LeaseState::Ended, Some(EndReason::Released)));
    assert_eq!(bench.journal.kinds(), ["granted", "ending", "ended"]);
    assert_eq!(resting(&bench), 0);
    assert_eq!(bench.engine.counts(1000), (0, 0));
    // Again is no error, and writes nothing.
    assert_eq!(bench.engine.release(&granted.view.id, &key(1)).unwrap().state, LeaseState::Ended);
    assert_eq!(bench.journal.kinds().len(), 3);
}

#[tokio::test]
async fn nothing_is_granted_when_the_log_cannot_be_written() {
    let bench = Bench::new();
    bench.journal.broken.store(true, Ordering::SeqCst);
    let grant = bench.grant(&key(1));
    let id = grant.id.clone();
    assert!(matches!(bench.engine.grant(grant, issued()).await, Err(LeaseError::Journal(_))));
    assert_eq!(resting(&bench), 0);
    assert_eq!(bench.engine.counts(1000), (0, 0));
    assert_ne!(bench.engine.get(&id, None).ok().map(|v| v.state), Some(LeaseState::Active));
    // What was minted is revoked at once.
    let _ = bench.engine.grant(bench.dynamic(&key(1)), minted()).await;
    settle().await;
    assert_eq!(bench.issuer.revoked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_leaves_nothing() {
    let bench = Bench::new();
    bench.journal.gate.forget_permits(1_000_000);
    let grant = bench.engine.grant(bench.dynamic(&key(1)), minted());
    assert!(tokio::time::timeout(Duration::from_millis(20), grant).await.is_err());
    settle().await;
    assert_eq!(bench.engine.counts(1000), (0, 0));
    assert_eq!(resting(&bench), 0);
    assert_eq!(bench.journal.kinds(), ["ending", "ended"]);
    let revoked = bench.issuer.revoked.lock().unwrap();
    assert_eq!(revoked[0].0["role"], "jsi_orders_1");
    assert_eq!(revoked[0].1.as_deref(), Some(b"token".as_slice()));
}

#[tokio::test]
async fn a_lease_expires_by_the_clock_and_not_before() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    bench.pass(10 * MINUTE - Duration::from_millis(1));
    assert_eq!(bench.engine.get(&view.id, None).unwrap().state, LeaseState::Active);
    bench.pass(Duration::from_millis(1));
    let over = bench.engine.get(&view.id, None).unwrap();
    assert_eq!((over.state, over.end_reason), (LeaseState::Ended, Some(EndReason::Expired)));
    assert_eq!(resting(&bench), 0);
}

#[tokio::test]
async fn an_expired_lease_is_not_delivered_though_the_timer_is_late() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    bench.millis.fetch_add(601_000, Ordering::SeqCst);
    let request = RequestId::new([9; 8]);
    let again = bench.engine.redeliver(&view.id, &key(1), &request, Delivery::Caller).await;
    assert!(matches!(again, Err(LeaseError::Ended)));
    assert_eq!(resting(&bench), 0);
}

#[tokio::test]
async fn the_same_requester_gets_the_same_lease_and_another_does_not() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    let scope = BTreeMap::new();
    let reusable = |key: &crate::policy::RequesterKey, binding| {
        bench.engine.reusable(key, &view.credential, &scope, binding, &limits())
    };
    assert_eq!(reusable(&key(1), BindingKey::None), Some(view.id.clone()));
    // Bound to nothing: uid and digest.
    assert_eq!(reusable(&key(2), BindingKey::None), Some(view.id.clone()));
    let other_uid = crate::policy::RequesterKey { uid: 1001, ..key(1) };
    let other_program = crate::policy::RequesterKey { digest: Some("cd".repeat(32)), ..key(1) };
    let unknown = crate::policy::RequesterKey { digest: None, ..key(1) };
    for other in [&other_uid, &other_program, &unknown] {
        assert_eq!(reusable(other, BindingKey::None), None);
        assert_eq!(bench.engine.get(&view.id, Some(other)), Err(LeaseError::NotFound));
        assert_eq!(bench.engine.release(&view.id, other), Err(LeaseError::NotFound));
        let renewed = bench.engine.renew(&view.id, other, None, None).await;
        assert_eq!(renewed, Err(LeaseError::NotFound));
        let request = RequestId::new([9; 8]);
        let again = bench.engine.redeliver(&view.id, other, &request, Delivery::Caller).await;
        assert!(matches!(again, Err(LeaseError::NotFound)));
    }
    let bound = BindingKey::Process { pid: 1, start_time: 7 };
    assert_eq!(reusable(&key(1), bound), None);
    // About to expire: less than a tenth is left.
    bench.pass(9 * MINUTE + Duration::from_millis(1));
    assert_eq!(reusable(&key(1), BindingKey::None), None);
}

#[tokio::test]
async fn a_lease_is_not_shared_where_policy_has_become_stricter() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    let scope = BTreeMap::new();
    let reusable = |limits: &Limits| {
        let none = BindingKey::None;
        bench.engine.reusable(&key(1), &view.credential, &scope, none, limits)
    };
    assert_eq!(reusable(&limits()), Some(view.id.clone()));
    for stricter in [
        Limits { max_ttl: MINUTE, ..limits() },
        Limits { max_uses: Some(1), ..limits() },
        Limits { hold_none: true, ..limits() },
    ] {
        assert_eq!(reusable(&stricter), None, "{stricter:?}");
    }
}

#[tokio::test]
async fn only_the_bound_process_may_read_again() {
    let bench = Bench::new();
    let sleeper = Sleeper::new();
    let shell = key(1);
    let grant = Grant { binding: Bound::Process(sleeper.bound()), ..bench.grant(&shell) };
    let view = bench.granted(grant).await;
    let request = RequestId::new([9; 8]);
    let engine = &bench.engine;
    let by_shell = engine.redeliver(&view.id, &shell, &request, Delivery::Caller).await;
    assert!(matches!(by_shell, Err(LeaseError::NotFound)));
    let by_bound = engine.redeliver(&view.id, &sleeper.key(), &request, Delivery::Caller).await;
    assert_eq!(by_bound.ok().unwrap().1.default_field().unwrap().value.expose(), b"geheim");
    // The recorded requester may renew and release.
    assert!(engine.renew(&view.id, &shell, None, None).await.is_ok());
    assert!(engine.release(&view.id, &shell).is_ok());
}

#[tokio::test]
async fn uses_are_counted_before_delivery_and_never_exceeded() {
    let bench = Bench::new();
    let mut grant = bench.grant(&key(1));
    grant.terms.limits.max_uses = Some(2);
    let view = bench.granted(grant).await;
    assert_eq!(view.uses_left, Some(1));
    let request = RequestId::new([9; 8]);
    let engine = &bench.engine;
    let reader = key(1);
    let (second, third) = tokio::join!(
        engine.redeliver(&view.id, &reader, &request, Delivery::Caller),
        engine.redeliver(&view.id, &reader, &request, Delivery::Caller),
    );
    assert_eq!(second.ok().unwrap().0.uses_left, Some(0));
    assert!(matches!(third, Err(LeaseError::UsesSpent)));
    assert_eq!(resting(&bench), 0, "nothing is kept that may not be read again");
    assert_eq!(bench.journal.kinds(), ["granted", "delivered"]);
    let reusable =
        engine.reusable(&key(1), &view.credential, &BTreeMap::new(), BindingKey::None, &limits());
    assert_eq!(reusable, None);
}

#[tokio::test]
async fn nothing_rests_of_a_lease_that_holds_none() {
    let bench = Bench::new();
    let mut grant = bench.grant(&key(1));
    grant.terms.limits.hold_none = true;
    let view = bench.granted(grant).await;
    assert_eq!(resting(&bench), 0);
    let request = RequestId::new([9; 8]);
    let again = bench.engine.redeliver(&view.id, &key(1), &request, Delivery::Caller).await;
    assert!(matches!(again, Err(LeaseError::NotHeld)));
}

#[tokio::test]
async fn an_increment_counts_from_now_and_is_clamped_with_a_warning() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    bench.pass(5 * MINUTE);
    let engine = &bench.engine;
    let renewed = engine.renew(&view.id, &key(1), Some(20 * MINUTE), None).await.unwrap();
    assert_eq!(renewed.remaining, 20 * MINUTE);
    let shorter = engine.renew(&view.id, &key(1), Some(MINUTE), None).await.unwrap();
    assert_eq!(shorter.remaining, MINUTE);
    let most = engine.renew(&view.id, &key(1), Some(600 * MINUTE), None).await.unwrap();
    assert_eq!(most.remaining, 55 * MINUTE);
    assert!(most.warnings.iter().any(|w| w.contains("may not live longer")), "{:?}", most.warnings);
    // Policy allows less by now.
    let less = engine.renew(&view.id, &key(1), None, Some(7 * MINUTE)).await.unwrap();
    assert_eq!(less.remaining, 2 * MINUTE);
    assert_eq!(
        engine.renew(&view.id, &key(1), Some(Duration::ZERO), None).await,
        Err(LeaseError::Zero)
    );
    bench.journal.broken.store(true, Ordering::SeqCst);
    let refused = engine.renew(&view.id, &key(1), Some(3 * MINUTE), None).await;
    assert!(matches!(refused, Err(LeaseError::Journal(_))));
    assert_eq!(engine.get(&view.id, None).unwrap().remaining, 2 * MINUTE);
}

#[tokio::test]
async fn a_limit_refuses_one_uid_and_not_another() {
    let limits = config::Limits { leases: 3, leases_per_uid: 2, ..config::Limits::default() };
    let bench = Bench::with(FakeIssuer::dynamic(), None, limits);
    let first = bench.granted(bench.grant(&key(1))).await;
    bench.granted(bench.grant(&key(1))).await;
    let third = bench.engine.grant(bench.grant(&key(1)), issued()).await;
    assert!(matches!(third, Err(LeaseError::Limit(why)) if why.contains("leases_per_uid")));
    let other = crate::policy::RequesterKey { uid: 1001, ..key(2) };
    bench.granted(bench.grant(&other)).await;
    let fourth = bench.engine.grant(bench.grant(&other), issued()).await;
    assert!(matches!(fourth, Err(LeaseError::Limit(why)) if why.contains("limits.leases")));
    bench.engine.release(&first.id, &key(1)).unwrap();
    bench.granted(bench.grant(&key(1))).await;
}

#[tokio::test]
async fn a_locked_engine_hands_out_nothing_but_leases_still_end() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    bench.engine.set_locked(true);
    let request = RequestId::new([9; 8]);
    let again = bench.engine.redeliver(&view.id, &key(1), &request, Delivery::Caller).await;
    assert!(matches!(again, Err(LeaseError::Locked)));
    let more = bench.engine.grant(bench.grant(&key(1)), issued()).await;
    assert!(matches!(more, Err(LeaseError::Locked)));
    assert_eq!(bench.engine.renew(&view.id, &key(1), None, None).await, Err(LeaseError::Locked));
    assert!(bench.engine.release(&view.id, &key(1)).is_ok());
}

#[tokio::test]
async fn revocation_fails_six_times_is_stuck_and_tried_daily() {
    let bench = Bench::new();
    let view = bench.engine.grant(bench.dynamic(&key(1)), minted()).await.ok().unwrap().view;
    assert_eq!(*bench.journal.sealed.lock().unwrap(), [b"token".to_vec()]);
    let away = || IssuerError::Unavailable("connection refused".into());
    *bench.issuer.answers.lock().unwrap() = (0..7).map(|_| away()).collect();
    assert_eq!(bench.engine.release(&view.id, &key(1)).unwrap().state, LeaseState::Ending);
    assert_eq!(resting(&bench), 1, "only what revocation needs rests");
    settle().await;
    for pause in [10, 20, 40, 80, 160] {
        let tries = bench.issuer.revoked.lock().unwrap().len();
        bench.pass(Duration::from_secs(pause) - Duration::from_millis(1));
        settle().await;
        assert_eq!(bench.issuer.revoked.lock().unwrap().len(), tries, "not before {pause} s");
        // Up to a fifth of jitter.
        bench.pass(Duration::from_secs(pause) / 5 + Duration::from_millis(1));
        settle().await;
        assert_eq!(bench.issuer.revoked.lock().unwrap().len(), tries + 1, "after {pause} s");
    }
    assert_eq!(bench.engine.get(&view.id, None).unwrap().state, LeaseState::Stuck);
    for _ in 0..2 {
        bench.pass(Duration::from_secs(24 * 3600 * 6 / 5 + 1));
        settle().await;
    }
    assert_eq!(bench.engine.get(&view.id, None).unwrap().state, LeaseState::Ended);
    assert_eq!(bench.issuer.revoked.lock().unwrap().len(), 8);
    assert_eq!(bench.journal.kinds(), ["granted", "ending", "stuck", "ended"]);
    assert_eq!(resting(&bench), 0);
}

#[tokio::test]
async fn a_refused_revocation_is_stuck_at_once_and_never_called_revoked() {
    let bench = Bench::new();
    let view = bench.granted(bench.dynamic(&key(1))).await;
    bench.issuer.answers.lock().unwrap().push(IssuerError::Refused("403".into()));
    bench.engine.release(&view.id, &key(1)).unwrap();
    settle().await;
    assert_eq!(bench.engine.get(&view.id, None).unwrap().state, LeaseState::Stuck);
    assert_eq!(bench.journal.kinds(), ["granted", "ending", "stuck"]);
}

#[tokio::test]
async fn an_intent_comes_before_the_grant_and_a_failure_is_recorded() {
    let bench = Bench::new();
    let grant = bench.dynamic(&key(1));
    bench.engine.intend(&grant, BTreeMap::new()).await.unwrap();
    assert_eq!(bench.engine.get(&grant.id, None).unwrap().state, LeaseState::Pending);
    bench.engine.grant(grant, minted()).await.ok().unwrap();
    assert_eq!(bench.engine.counts(1000), (1, 1));

    let failing = bench.dynamic(&key(1));
    bench.engine.intend(&failing, BTreeMap::new()).await.unwrap();
    bench.engine.mint_failed(&failing.id, "no route", false);
    assert_eq!(bench.engine.get(&failing.id, None).unwrap().state, LeaseState::Failed);
    let unclear = bench.dynamic(&key(1));
    bench.engine.intend(&unclear, BTreeMap::new()).await.unwrap();
    bench.engine.mint_failed(&unclear.id, "timed out", true);
    settle().await;
    assert_eq!(bench.issuer.revoked.lock().unwrap().len(), 1);
    assert_eq!(bench.engine.counts(1000), (1, 1));
    assert_eq!(
        bench.journal.kinds(),
        ["intent", "granted", "intent", "failed", "intent", "ending", "ended"]
    );
}

#[tokio::test]
async fn a_backend_that_grants_less_shortens_the_lease() {
    let issuer = FakeIssuer { renew_most: MINUTE, ..FakeIssuer::dynamic() };
    let bench = Bench::with(issuer, None, config::Limits::default());
    let issued = crate::issuer::Issued { backend_ttl: Some(5 * MINUTE), ..minted() };
    let view = bench.engine.grant(bench.dynamic(&key(1)), issued).await.ok().unwrap().view;
    assert_eq!(view.remaining, 5 * MINUTE);
    let renewed = bench.engine.renew(&view.id, &key(1), None, None).await.unwrap();
    assert_eq!(renewed.remaining, MINUTE);
}

#[tokio::test]
async fn operators_revoke_by_subtree_uid_and_digest() {
    let bench = Bench::new();
    let mine = bench.granted(bench.grant(&key(1))).await;
    let other = crate::policy::RequesterKey { uid: 1001, ..key(2) };
    let theirs = bench.granted(bench.grant(&other)).await;
    let revoke = |selector: Selector| bench.engine.revoke(&selector);
    assert!(revoke(Selector::default()).is_empty(), "an empty selector selects nothing");
    assert!(revoke(Selector { prefix: "db/other".into(), ..Selector::default() }).is_empty());
    let by_uid = revoke(Selector { uid: Some(1001), prefix: "db/".into(), ..Selector::default() });
    assert_eq!(by_uid.len(), 1);
    assert_eq!((&by_uid[0].id, by_uid[0].end_reason), (&theirs.id, Some(EndReason::Revoked)));
    let rest = revoke(Selector { prefix: mine.id.as_str().into(), ..Selector::default() });
    assert_eq!(rest.len(), 1);
    let all = bench.engine.list(&Filter { ended: true, ..Filter::default() });
    assert_eq!(all.len(), 2);
    let of_mine =
        bench.engine.list(&Filter { ended: true, keys: Some(vec![key(1)]), ..Filter::default() });
    assert_eq!(of_mine.len(), 1);
    assert!(bench.engine.list(&Filter::default()).is_empty());
}

#[tokio::test]
async fn a_watcher_hears_every_change_or_that_it_missed_some() {
    let bench = Bench::new();
    let first = bench.granted(bench.grant(&key(1))).await;
    let (present, mut watcher) = bench.engine.subscribe(&Filter::default());
    assert_eq!(present.len(), 1);
    bench.engine.renew(&first.id, &key(1), None, None).await.unwrap();
    bench.engine.release(&first.id, &key(1)).unwrap();
    assert!(matches!(watcher.next().await, Some(Change::Renewed(_))));
    assert!(matches!(watcher.next().await, Some(Change::Ending(_))));
    assert!(matches!(watcher.next().await, Some(Change::Ended(view)) if view.id == first.id));
    for _ in 0..600 {
        let view = bench.granted(bench.grant(&key(1))).await;
        bench.engine.release(&view.id, &key(1)).unwrap();
    }
    assert!(matches!(watcher.next().await, Some(Change::Lost(missed)) if missed > 0));
}

#[tokio::test]
async fn stopping_ends_all_and_grants_no_more() {
    let bench = Bench::new();
    bench.granted(bench.grant(&key(1))).await;
    bench.granted(bench.dynamic(&key(1))).await;
    let left = bench.engine.end_all(EndReason::AgentStopping, Duration::from_secs(5)).await;
    assert_eq!(left, 0);
    assert_eq!(bench.issuer.revoked.lock().unwrap().len(), 1);
    let more = bench.engine.grant(bench.grant(&key(1)), issued()).await;
    assert!(matches!(more, Err(LeaseError::Stopping)));
}

#[tokio::test]
async fn the_past_and_future_are_shown_on_the_wall_clock() {
    let bench = Bench::new();
    let view = bench.granted(bench.grant(&key(1))).await;
    assert_eq!(view.expires, BootTime(1_600_000));
    assert_eq!(view.expires_wall.0, 1_600_000);
    assert_eq!(view.binding_text(), "nothing");
    assert!(Arc::strong_count(&bench.engine) >= 1);
}

/// As lax as the fakes' grants.
fn limits() -> Limits {
    Limits {
        max_ttl: 24 * 60 * MINUTE,
        default_ttl: MINUTE,
        max_uses: None,
        approvals: Vec::new(),
        bind: None,
        hold_none: false,
    }
}
