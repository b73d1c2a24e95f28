//! Overlap: whatever happens when, every token verifies while it lives.

use super::super::jose::Jwk;
use super::super::schedule::{Due, MARGIN, Schedule};
use super::config;
use crate::clock::WallTime;
use crate::config::{Algorithm, JwtIssuerConfig};
use proptest::prelude::*;
use std::time::Duration;

/// What an upkeep does, without disk, log and files.
fn upkeep(keys: &mut Schedule, now: WallTime, config: &JwtIssuerConfig, next: &mut u8) {
    keys.mend(now, config);
    keys.lengthen(config.max_ttl);
    for _ in 0..16 {
        match keys.due(now, config) {
            None => return,
            Some(Due::Make) => make(keys, now, config, next),
            Some(Due::Publish(_)) => drop(keys.begin(now, config.publish_ahead)),
            Some(Due::Retire(kid)) => keys.retire(&kid),
            Some(Due::Drop(kid)) => keys.remove(&kid),
        }
    }
    panic!("upkeep does not end: {keys:?}");
}

fn make(keys: &mut Schedule, now: WallTime, config: &JwtIssuerConfig, next: &mut u8) {
    *next += 1;
    keys.add((format!("key {next}"), Jwk::ed25519(&[*next; 32])), config, now);
}

fn after(seconds: u64) -> WallTime {
    WallTime((1_000_000 + seconds) * 1_000)
}

#[test]
fn the_first_key_signs_at_once_and_the_next_one_after_it_was_published() {
    let config = JwtIssuerConfig {
        rotate_after: Some(Duration::from_secs(1_000)),
        publish_ahead: Duration::from_secs(100),
        max_ttl: Duration::from_secs(50),
        ..config()
    };
    let (mut keys, mut next) = (Schedule::default(), 0);
    let signer = |keys: &Schedule, at| keys.signer(after(at)).map(|key| key.kid.clone()).unwrap();
    upkeep(&mut keys, after(0), &config, &mut next);
    assert_eq!(signer(&keys, 0), "key 1");
    upkeep(&mut keys, after(899), &config, &mut next);
    assert_eq!(keys.keys().len(), 1);
    upkeep(&mut keys, after(900), &config, &mut next);
    assert_eq!(keys.keys().len(), 2, "published a hundred seconds ahead");
    assert_eq!(signer(&keys, 999), "key 1");
    assert_eq!(signer(&keys, 1_000), "key 2");
    upkeep(&mut keys, after(1_000), &config, &mut next);
    assert!(!keys.find("key 1").unwrap().private, "what signs no more is not kept");
    let last = 1_000 + 50 + MARGIN.as_secs();
    assert_eq!(keys.published_until("key 1"), Some(after(last)));
    upkeep(&mut keys, after(last - 1), &config, &mut next);
    assert!(keys.find("key 1").is_some());
    upkeep(&mut keys, after(last), &config, &mut next);
    assert!(keys.find("key 1").is_none());
}

#[test]
fn another_algorithm_brings_another_key_and_no_more_than_one() {
    let (mut keys, mut next) = (Schedule::default(), 0);
    upkeep(&mut keys, after(0), &config(), &mut next);
    let other = JwtIssuerConfig { algorithm: Algorithm::Es256, ..config() };
    for at in 1..5 {
        upkeep(&mut keys, after(at), &other, &mut next);
        assert_eq!(keys.keys().len(), 2);
    }
}

#[test]
fn a_clock_that_went_back_finds_a_key_that_can_sign() {
    let (mut keys, mut next) = (Schedule::default(), 0);
    upkeep(&mut keys, after(100_000), &config(), &mut next);
    assert_eq!(keys.signer(after(0)).unwrap().kid, "key 1");
    make(&mut keys, after(200_000), &config(), &mut next);
    keys.begin(after(200_000), Duration::ZERO);
    upkeep(&mut keys, after(200_001), &config(), &mut next);
    // The first key's private part is gone.
    assert_eq!(keys.signer(after(0)).unwrap().kid, "key 2");
}

#[test]
fn a_key_of_a_clock_that_was_far_ahead_does_not_put_off_rotation_by_age() {
    let day = 86_400;
    let config = JwtIssuerConfig {
        rotate_after: Some(Duration::from_secs(90 * day)),
        publish_ahead: Duration::from_secs(day),
        ..config()
    };
    // The first key, and the next one.
    let (mut keys, mut next) = (Schedule::default(), 0);
    upkeep(&mut keys, after(3_650 * day), &config, &mut next);
    upkeep(&mut keys, after(0), &config, &mut next);
    upkeep(&mut keys, after(90 * day), &config, &mut next);
    assert_eq!(keys.signer(after(90 * day)).unwrap().kid, "key 1");
    assert_eq!(keys.signer(after(91 * day)).unwrap().kid, "key 2");
    upkeep(&mut keys, after(3_650 * day), &config, &mut next);
    assert_eq!(keys.upcoming(after(100 * day)).unwrap().kid, "key 3");
    upkeep(&mut keys, after(100 * day), &config, &mut next);
    assert_eq!(keys.signer(after(101 * day)).unwrap().kid, "key 3", "published a day ahead");
    // A clock that is a little late changes nothing.
    let before = keys.clone();
    upkeep(&mut keys, after(99 * day), &config, &mut next);
    assert_eq!(keys, before);
}

/// What may happen.
#[derive(Clone, Debug)]
enum Happening {
    Pass(u64),
    Mint(u64),
    /// Now, or as configured.
    Rotate(bool),
    /// Another configuration: rotate_after, publish_ahead, max_ttl.
    Reload(Option<u64>, u64, u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0_u64..4_000).prop_map(Happening::Pass),
        6 => (1_u64..2_000).prop_map(Happening::Mint),
        1 => any::<bool>().prop_map(Happening::Rotate),
        1 => (proptest::option::of(500_u64..5_000), 1_u64..499, 1_u64..2_000)
            .prop_map(|(age, ahead, ttl)| Happening::Reload(age, ahead, ttl)),
    ]
}

proptest! {
    #[test]
    fn every_token_verifies_while_it_lives_and_each_key_was_published_before_it_signed(
        happenings in proptest::collection::vec(happening(), 1..80)
    ) {
        let mut config = JwtIssuerConfig {
            rotate_after: Some(Duration::from_secs(3_000)),
            publish_ahead: Duration::from_secs(300),
            max_ttl: Duration::from_secs(600),
            ..config()
        };
        let (mut keys, mut next) = (Schedule::default(), 0_u8);
        let mut now = 0;
        // Tokens by key and expiry; keys by the second in which they were published
        // and the wait that they had then; keys that an operator hastened.
        let mut tokens: Vec<(String, u64)> = Vec::new();
        let mut seen: std::collections::HashMap<String, (u64, u64)> = Default::default();
        let mut hastened = std::collections::HashSet::new();
        upkeep(&mut keys, after(now), &config, &mut next);
        hastened.insert("key 1".to_owned()); // nobody has an older key set
        seen.insert("key 1".to_owned(), (now, 0));
        for happening in happenings {
            match happening {
                Happening::Pass(seconds) => now += seconds,
                Happening::Mint(ttl) => {
                    let key = keys.signer(after(now)).unwrap();
                    prop_assert!(key.private);
                    let ttl = ttl.min(config.max_ttl.as_secs()).min(key.longest_ttl().as_secs());
                    tokens.push((key.kid.clone(), now + ttl));
                    let (published, ahead) = seen[&key.kid];
                    prop_assert!(
                        hastened.contains(&key.kid) || now >= published + ahead,
                        "{} signed at {now}, published at {published}", key.kid
                    );
                }
                Happening::Rotate(at_once) => {
                    if keys.upcoming(after(now)).is_none() {
                        make(&mut keys, after(now), &config, &mut next);
                        let ahead = if at_once { Duration::ZERO } else { config.publish_ahead };
                        keys.begin(after(now), ahead);
                    } else if at_once {
                        keys.hasten(after(now));
                    }
                    if at_once {
                        hastened.insert(keys.keys().last().unwrap().kid.clone());
                    }
                }
                Happening::Reload(age, ahead, ttl) => {
                    config.rotate_after = age.map(Duration::from_secs);
                    config.publish_ahead = Duration::from_secs(ahead);
                    config.max_ttl = Duration::from_secs(ttl);
                }
            }
            upkeep(&mut keys, after(now), &config, &mut next);
            for key in keys.keys() {
                let ahead = config.publish_ahead.as_secs();
                seen.entry(key.kid.clone()).or_insert((now, ahead));
            }
            for (kid, until) in tokens.iter().filter(|(_, until)| *until >= now) {
                prop_assert!(keys.find(kid).is_some(), "{kid} is gone at {now}, needed to {until}");
            }
            let begins: Vec<_> = keys.keys().iter().filter_map(|key| key.signs_from).collect();
            prop_assert!(begins.windows(2).all(|two| two[0] < two[1]), "{begins:?}");
            prop_assert!(keys.keys().len() <= 8, "keys do not pile up: {}", keys.keys().len());
        }
    }
}
