//! Wrong passphrases: one attempt at a time, and each wrong one makes the next
//! wait longer, as ssh-agent does it (process_lock_agent in ssh-agent.c).

use crate::delivery::Failure;
use crate::memory::{SecretBuf, random_array};
use jsi_proto::v1::Reason;
use ring::pbkdf2;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// Attempts that may wait for their turn.
const MAX_WAITING: usize = 8;
/// After the first wrong one; doubled by each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// And no more than this.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// PBKDF2-HMAC-SHA256, as OWASP's password storage advice of 2023 has it: a
/// fifth of a second.
const ROUNDS: u32 = 600_000;

/// Lets attempts through.
#[derive(Default)]
pub(super) struct Guessing {
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    failures: Mutex<Failures>,
}

#[derive(Default)]
struct Failures {
    count: u32,
    /// The next attempt is not looked at before. Kept here and not slept after
    /// a wrong one: whoever hangs up would not have to wait.
    not_before: Option<Instant>,
}

/// An attempt whose turn it is.
pub(super) struct Attempt<'a> {
    guessing: &'a Guessing,
    _turn: MutexGuard<'a, ()>,
}

impl Guessing {
    /// Waits for the turn, and for what earlier attempts have cost.
    pub(super) async fn attempt(&self) -> Result<Attempt<'_>, Failure> {
        let _queued = Queued::enter(&self.waiting)?;
        let turn = self.turn.lock().await;
        let not_before = self.failures().not_before;
        if let Some(at) = not_before {
            tokio::time::sleep_until(at).await;
        }
        Ok(Attempt { guessing: self, _turn: turn })
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// It opened the agent, or was wrong; `None`: neither.
    pub(super) fn came_to(self, opened: Option<bool>) {
        let mut failures = self.guessing.failures();
        match opened {
            Some(true) => *failures = Failures::default(),
            Some(false) => {
                failures.count = failures.count.saturating_add(1);
                failures.not_before = Some(Instant::now() + delay(failures.count));
            }
            None => {}
        }
    }
}

fn delay(count: u32) -> Duration {
    let doubled = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(doubled).min(LONGEST_DELAY)
}

struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Result<Self, Failure> {
        let queued = Self(waiting);
        if waiting.fetch_add(1, Ordering::SeqCst) >= MAX_WAITING {
            let message = format!("{MAX_WAITING} attempts to unlock wait already; try again later");
            return Err(Failure::new(Reason::LimitReached, message).with("limit", "unlock"));
        }
        Ok(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The passphrase of `jsi lock --passphrase`: salted and hashed.
#[derive(Clone)]
pub(super) struct LockPassphrase(Arc<Hashed>);

struct Hashed {
    salt: [u8; 16],
    hash: SecretBuf,
}

impl LockPassphrase {
    /// Takes a fifth of a second.
    pub(super) fn new(passphrase: &SecretBuf) -> Self {
        let salt = random_array();
        let hash = hash(&salt, passphrase);
        Self(Arc::new(Hashed { salt, hash }))
    }

    /// Takes as long.
    pub(super) fn is(&self, passphrase: &SecretBuf) -> bool {
        self.0.hash.same(hash(&self.0.salt, passphrase).expose())
    }
}

fn hash(salt: &[u8], passphrase: &SecretBuf) -> SecretBuf {
    let mut out = zeroize::Zeroizing::new(vec![0; 32]);
    let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.expose(), &mut out);
    SecretBuf::new(std::mem::take(&mut *out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_passphrase_doubles_the_wait_up_to_a_limit() {
        let millis: Vec<_> = (1..=9).map(|count| delay(count).as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[tokio::test]
    async fn who_hangs_up_after_a_wrong_one_makes_the_next_wait_all_the_same() {
        let guessing = Guessing::default();
        for _ in 0..3 {
            guessing.attempt().await.unwrap().came_to(Some(false));
        }
        let due = guessing.failures().not_before.unwrap();
        for _ in 0..2 {
            // Each hangs up while it waits.
            let cut = tokio::time::timeout(Duration::from_millis(1), guessing.attempt()).await;
            assert!(cut.is_err());
            assert_eq!(guessing.failures().not_before, Some(due));
        }
        let attempt = guessing.attempt().await.unwrap();
        assert!(Instant::now() >= due, "it waited");
        attempt.came_to(None);
        assert_eq!(guessing.failures().count, 3, "what says nothing changes nothing");
        guessing.attempt().await.unwrap().came_to(Some(true));
        assert!(guessing.failures().not_before.is_none(), "a right one clears it");
    }

    #[tokio::test]
    async fn those_beyond_the_queue_are_refused_at_once() {
        let guessing = Guessing::default();
        let first = guessing.attempt().await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(guessing.attempt())).collect();
        for attempt in &mut waiting {
            assert!(tokio::time::timeout(Duration::ZERO, attempt).await.is_err());
        }
        let refused = guessing.attempt().await.err().unwrap();
        assert_eq!(refused.reason, Reason::LimitReached);
        drop(waiting);
        drop(first);
        assert!(guessing.attempt().await.is_ok());
    }

    #[test]
    fn only_the_same_passphrase_fits() {
        let given = |text: &[u8]| SecretBuf::from_slice(text);
        let lock = LockPassphrase::new(&given(b"a\n\0\xff"));
        assert!(lock.is(&given(b"a\n\0\xff")));
        assert!(!lock.is(&given(b"a\n\0")) && !lock.is(&given(b"")));
    }
}
