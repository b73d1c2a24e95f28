//! Which key signs when, and how long it stays published. Pure.
//!
//! A key is published before it signs, for as long as verifiers may keep an old
//! key set (`publish_ahead`), and stays published until the last token that it
//! may have signed has expired.

use super::jose::Jwk;
use crate::clock::WallTime;
use crate::config::{Algorithm, JwtIssuerConfig};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How much longer than its last token a key stays published: for verifiers
/// whose clocks are late or that grant a leeway.
pub(super) const MARGIN: Duration = Duration::from_secs(600);

/// A key, without its private part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    /// Its thumbprint.
    pub(super) kid: String,
    pub(super) alg: String,
    /// Of RSA keys; 0 for others.
    #[serde(default)]
    pub(super) bits: u32,
    pub(super) jwk: Jwk,
    pub(super) created: WallTime,
    /// When it begins to sign; absent: it is not published yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signs_from: Option<WallTime>,
    /// Longest life of a token that it may have signed, in milliseconds.
    pub(super) longest_ttl_ms: u64,
    /// Its private part is kept: it signs, or will.
    pub(super) private: bool,
}

impl KeyRecord {
    /// How it signs; `None`: a later version made it.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        let all = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];
        all.into_iter().find(|algorithm| algorithm.name() == self.alg)
    }

    pub(super) fn longest_ttl(&self) -> Duration {
        Duration::from_millis(self.longest_ttl_ms)
    }
}

/// All keys of an issuer in the order in which they sign; one that is not
/// published yet comes last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Schedule(Vec<KeyRecord>);

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A new key is to be made.
    Make,
    /// The key at the end is to be published, and then to sign.
    Publish(String),
    /// This key signs no more: its private part can go.
    Retire(String),
    /// Every token of this key has expired.
    Drop(String),
}

impl Schedule {
    pub(super) fn keys(&self) -> &[KeyRecord] {
        &self.0
    }

    pub(super) fn find(&self, kid: &str) -> Option<&KeyRecord> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// The key that signs now. A clock that went back finds the earliest one:
    /// no jump leaves an issuer without a key.
    pub(super) fn signer(&self, now: WallTime) -> Option<&KeyRecord> {
        let able = || self.0.iter().filter(|key| key.private && key.signs_from.is_some());
        let begun = able().rfind(|key| key.signs_from.is_some_and(|from| from <= now));
        begun.or_else(|| able().next())
    }

    /// The key that will sign after the present one, published or not.
    pub(super) fn upcoming(&self, now: WallTime) -> Option<&KeyRecord> {
        self.0.last().filter(|key| key.signs_from.is_none_or(|from| from > now))
    }

    /// When the key stops signing; `None`: nothing comes behind it yet.
    pub(super) fn signs_until(&self, kid: &str) -> Option<WallTime> {
        let at = self.0.iter().position(|key| key.kid == kid)?;
        self.0.get(at + 1)?.signs_from
    }

    /// Until when the key is published; `None`: no end is known yet.
    pub(super) fn published_until(&self, kid: &str) -> Option<WallTime> {
        let longest = self.find(kid)?.longest_ttl();
        self.signs_until(kid).map(|until| until.plus(longest).plus(MARGIN))
    }

    /// What is due now.
    pub(super) fn due(&self, now: WallTime, config: &JwtIssuerConfig) -> Option<Due> {
        if let Some(waiting) = self.0.last().filter(|key| key.signs_from.is_none()) {
            return Some(Due::Publish(waiting.kid.clone()));
        }
        let Some(signer) = self.signer(now) else { return Some(Due::Make) };
        for key in self.0.iter().filter(|key| key.kid != signer.kid) {
            if self.published_until(&key.kid).is_some_and(|until| until <= now) {
                return Some(Due::Drop(key.kid.clone()));
            }
            if key.private && self.signs_until(&key.kid).is_some_and(|until| until <= now) {
                return Some(Due::Retire(key.kid.clone()));
            }
        }
        if self.upcoming(now).is_some_and(|next| next.kid != signer.kid) {
            return None;
        }
        let other = signer.alg != config.algorithm.name() || signer.bits != bits(config);
        let from = signer.signs_from.unwrap_or(signer.created);
        let old = config.rotate_after.is_some_and(|age| {
            // Made so early that it is as old as it may be once the next one signs.
            from.plus(age.saturating_sub(config.publish_ahead)) <= now
        });
        (other || old).then_some(Due::Make)
    }

    /// Adds a key that is not published yet.
    pub(super) fn add(
        &mut self,
        (kid, jwk): (String, Jwk),
        config: &JwtIssuerConfig,
        now: WallTime,
    ) {
        self.0.push(KeyRecord {
            kid,
            alg: config.algorithm.name().to_owned(),
            bits: bits(config),
            jwk,
            created: now,
            signs_from: None,
            longest_ttl_ms: millis(config.max_ttl),
            private: true,
        });
    }

    /// The key at the end has been published: from when it signs. The first key
    /// of all signs at once, since nobody knows an older set.
    pub(super) fn begin(&mut self, now: WallTime, ahead: Duration) -> Option<WallTime> {
        let first = self.signer(now).is_none();
        let earliest = self.0.iter().filter_map(|key| key.signs_from).max();
        let key = self.0.last_mut().filter(|key| key.signs_from.is_none())?;
        if first || ahead.is_zero() {
            key.signs_from = Some(now);
            self.begun_by(now);
            return Some(now);
        }
        let from = now.plus(ahead);
        // Behind those before it, whatever the clock did meanwhile.
        let from = earliest.map_or(from, |earliest| from.max(earliest.plus(ONE)));
        key.signs_from = Some(from);
        Some(from)
    }

    /// The key at the end signs now. One before it that was to sign later (the
    /// clock was ahead when it was made) must not stand in its way.
    fn begun_by(&mut self, now: WallTime) {
        let mut latest = now;
        for from in self.0.iter_mut().rev().filter_map(|key| key.signs_from.as_mut()) {
            *from = latest.min(*from);
            latest = WallTime(from.0.saturating_sub(1));
        }
    }

    /// Mends what a clock that was far ahead left at the end: it would put off
    /// every rotation by age. Whether anything changed.
    ///
    /// Where nothing shows which of the two moments is right, it moves no key
    /// that ends another's time: that one's tokens may live.
    pub(super) fn mend(&mut self, now: WallTime, config: &JwtIssuerConfig) -> bool {
        let begun = self.signer(now).and_then(|key| key.signs_from).is_some_and(|at| at <= now);
        let alone = self.0.len() == 1;
        let absurd = now.plus(config.publish_ahead).plus(ABSURD);
        let Some(last) = self.0.last_mut() else { return false };
        if last.signs_from.is_none_or(|from| from <= absurd) {
            return false;
        }
        if alone {
            last.signs_from = Some(now);
        } else if begun {
            last.signs_from = Some(now.plus(config.publish_ahead));
        }
        alone || begun
    }

    /// The upcoming key signs at once.
    pub(super) fn hasten(&mut self, now: WallTime) -> bool {
        let Some(next) = self.upcoming(now).map(|key| key.kid.clone()) else { return false };
        let Some(key) = self.0.last_mut().filter(|key| key.kid == next) else { return false };
        if key.signs_from.is_none() {
            return false;
        }
        key.signs_from = Some(now);
        self.begun_by(now);
        true
    }

    /// Tokens may live that long from now on: told to every key that signs or
    /// will. Whether anything changed.
    pub(super) fn lengthen(&mut self, max_ttl: Duration) -> bool {
        let most = millis(max_ttl);
        let mut changed = false;
        for key in self.0.iter_mut().filter(|key| key.private && key.longest_ttl_ms < most) {
            key.longest_ttl_ms = most;
            changed = true;
        }
        changed
    }

    /// The private part is gone.
    pub(super) fn retire(&mut self, kid: &str) {
        self.0.iter_mut().filter(|key| key.kid == kid).for_each(|key| key.private = false);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, kid: &str) {
        self.0.retain(|key| key.kid != kid);
    }
}

/// The least that lies between two keys' beginnings.
const ONE: Duration = Duration::from_millis(1);
/// So much later than `publish_ahead` no key begins, unless a clock was wrong.
const ABSURD: Duration = Duration::from_secs(30 * 86_400);

fn bits(config: &JwtIssuerConfig) -> u32 {
    if config.algorithm == Algorithm::Rs256 { config.rsa_bits } else { 0 }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
