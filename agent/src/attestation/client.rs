//! The broker's side of the link to the attestor.

use super::wire::{Body, Facts, Op, Reached, Refused, Reply, Request};
use super::{
    Anchor, AttestError, Attestation, BoundProcess, ProcessFacts, ProcessIdentity, TargetView,
};
use crate::connection::{Answer, ImageId, Peer, Refusal, Witness};
use crate::mutants::{Check, on};
use crate::process::AsyncSeqPacket;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// How long an answer may take: hashing has a limit of its own in the
/// attestor, and several files may have to be hashed for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the attestor. Cloning is cheap. When the link has broken, everything
/// fails with [`AttestError::NoAttestor`] and [`broken`](Self::broken) resolves.
#[derive(Clone)]
pub struct Attestor(Arc<Inner>);

struct Inner {
    link: Arc<AsyncSeqPacket>,
    next: AtomicU64,
    shared: Arc<Shared>,
    broken: watch::Receiver<bool>,
    forget: mpsc::UnboundedSender<u64>,
    tasks: [AbortHandle; 2],
}

impl Drop for Inner {
    /// Lets go of the link, so that the attestor sees its end.
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Option<Pending>>,
    images: Mutex<HashMap<ImageId, Known>>,
}

/// `None` in [`Shared::pending`]: the link has broken.
type Pending = HashMap<u64, oneshot::Sender<(Body, Vec<OwnedFd>)>>;

/// What the broker has of an image.
#[derive(Default)]
struct Known {
    connections: usize,
    /// The last attestation and the serial of its facts: shared by all who ask,
    /// since it is some kilobytes.
    last: Option<(u64, Arc<Attestation>)>,
}

impl Attestor {
    /// Takes the link. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be registered with the runtime.
    pub fn connect(link: OwnedFd) -> io::Result<Self> {
        let link = Arc::new(AsyncSeqPacket::new(link)?);
        let shared =
            Arc::new(Shared { pending: Mutex::new(Some(HashMap::new())), ..Shared::default() });
        let (tell, broken) = watch::channel(false);
        let (forget, forgotten) = mpsc::unbounded_channel();
        let tasks = [
            tokio::spawn(read(Arc::clone(&link), Arc::clone(&shared), forget.clone(), tell))
                .abort_handle(),
            tokio::spawn(forget_all(Arc::clone(&link), forgotten)).abort_handle(),
        ];
        Ok(Self(Arc::new(Inner { link, next: AtomicU64::new(1), shared, broken, forget, tasks })))
    }

    /// Who is behind that connection, now?
    ///
    /// # Errors
    /// When the caller has ended or become another program, when no requester
    /// can be accepted, and at limits.
    pub async fn attest(&self, caller: ImageId) -> Result<Arc<Attestation>, AttestError> {
        Ok(self.attest_once(caller, false).await?.0)
    }

    /// The same, and in the same turn what [`Anchor::Requester`] means. Where
    /// that is nothing, [`resolve`](Self::resolve) says why.
    ///
    /// # Errors
    /// As [`attest`](Self::attest).
    pub async fn attest_and_resolve(
        &self,
        caller: ImageId,
    ) -> Result<(Arc<Attestation>, Option<BoundProcess>), AttestError> {
        self.attest_once(caller, true).await
    }

    async fn attest_once(
        &self,
        caller: ImageId,
        bind: bool,
    ) -> Result<(Arc<Attestation>, Option<BoundProcess>), AttestError> {
        let serial = self.kept(caller).map_or(0, |(serial, _)| serial);
        if let Some(done) = self.attest_beyond(caller, bind, serial).await? {
            return Ok(done);
        }
        // Another answer for the same image came first, with other facts than
        // those that this one left out: now everything is asked for.
        let done = self.attest_beyond(caller, bind, 0).await?;
        done.ok_or_else(|| {
            AttestError::Caller("it changed while it was looked at; ask again".into())
        })
    }

    /// Asks for what goes beyond that; `None`: what we have is not that any more.
    async fn attest_beyond(
        &self,
        caller: ImageId,
        bind: bool,
        serial: u64,
    ) -> Result<Option<(Arc<Attestation>, Option<BoundProcess>)>, AttestError> {
        let op = Op::Attest { image: caller.0, serial, bind };
        let (Body::Attested(answer), mut pidfds) = self.ask(op, &[]).await? else {
            return Err(AttestError::NoAttestor);
        };
        let answer = answer?;
        let bound = answer.bound.and_then(|identity| {
            let pidfd = Arc::new(pidfds.pop()?);
            Some(BoundProcess { pidfd, identity })
        });
        let requester = ImageId(answer.requester);
        let attestation = match (answer.facts, self.kept(caller)) {
            (Some(facts), _) => Arc::new(attestation(*facts, caller, requester)),
            (None, Some((serial, kept))) if serial == answer.serial => {
                if kept.requester_image == requester {
                    kept
                } else {
                    let kept = (*kept).clone();
                    Arc::new(Attestation { requester_image: requester, ..kept })
                }
            }
            (None, _) => return Ok(None),
        };
        // Closed meanwhile: nothing is kept of it.
        if let Some(known) = self.images().get_mut(&caller) {
            known.last = Some((answer.serial, Arc::clone(&attestation)));
        }
        Ok(Some((attestation, bound)))
    }

    fn kept(&self, caller: ImageId) -> Option<(u64, Arc<Attestation>)> {
        self.images().get(&caller).and_then(|known| known.last.clone())
    }

    /// Are caller and requester alive, the same images with the same uid, and
    /// no less sure than they were? To be asked right before a delivery.
    ///
    /// # Errors
    /// Says which of them changed, and how.
    pub async fn recheck(&self, attestation: &Attestation) -> Result<(), AttestError> {
        self.recheck_reached(attestation, Reached::of).await
    }

    /// The same, whatever levels they have lost: where nothing is delivered.
    ///
    /// # Errors
    /// As [`recheck`](Self::recheck).
    pub async fn still_there(&self, attestation: &Attestation) -> Result<(), AttestError> {
        self.recheck_reached(attestation, |_| Reached::NOTHING).await
    }

    async fn recheck_reached(
        &self,
        attestation: &Attestation,
        reached: impl Fn(&ProcessFacts) -> Reached,
    ) -> Result<(), AttestError> {
        if !on(Check::Recheck) {
            return Ok(());
        }
        let caller = (attestation.caller_image.0, reached(&attestation.caller));
        let requester = (attestation.requester_image.0, reached(&attestation.requester));
        match self.ask(Op::Recheck { caller, requester }, &[]).await? {
            (Body::Rechecked(answer), _) => answer,
            _ => Err(AttestError::NoAttestor),
        }
    }

    /// The process that `anchor` means for that caller.
    ///
    /// # Errors
    /// When there is none, or it has another uid ([`Anchor::Pid`]).
    pub async fn resolve(
        &self,
        caller: ImageId,
        anchor: Anchor,
    ) -> Result<BoundProcess, AttestError> {
        match self.ask(Op::Resolve { image: caller.0, anchor }, &[]).await? {
            (Body::Resolved(Ok(identity)), pidfds) => {
                bound(identity, pidfds).ok_or(AttestError::NoAttestor)
            }
            (Body::Resolved(Err(error)), _) => Err(error),
            _ => Err(AttestError::NoAttestor),
        }
    }

    /// How the agent itself sees what that caller says that it will become.
    ///
    /// # Errors
    /// When the caller has ended or become another program already.
    pub async fn target(
        &self,
        caller: ImageId,
        path: &str,
        file: Option<(u64, u64)>,
    ) -> Result<TargetView, AttestError> {
        let op = Op::Target { image: caller.0, path: path.to_owned(), file };
        match self.ask(op, &[]).await? {
            (Body::Target(answer), _) => answer,
            _ => Err(AttestError::NoAttestor),
        }
    }

    /// The process that was named before a restart of the agent, where it still
    /// lives. The boot must be the same: that is the caller's to check.
    pub async fn find(&self, identity: &ProcessIdentity) -> Option<BoundProcess> {
        match self.ask(Op::Find { identity: identity.clone() }, &[]).await {
            Ok((Body::Found(Some(identity)), pidfds)) => bound(identity, pidfds),
            _ => None,
        }
    }

    /// Makes the attestor read its configuration again, by itself.
    ///
    /// # Errors
    /// What is wrong with the configuration; the old one stays.
    pub async fn reload(&self) -> Result<(), String> {
        match self.ask(Op::Reload, &[]).await {
            Ok((Body::Reloaded(answer), _)) => answer,
            _ => Err(AttestError::NoAttestor.to_string()),
        }
    }

    /// Does it answer?
    ///
    /// # Errors
    /// [`AttestError::NoAttestor`].
    pub async fn ping(&self) -> Result<(), AttestError> {
        self.ask(Op::Ping, &[]).await.map(|_| ())
    }

    /// Resolves when the link is dead.
    pub async fn broken(&self) {
        // An error means that the reader has ended, which is the same.
        let _ = self.0.broken.clone().wait_for(|broken| *broken).await;
    }

    async fn ask(
        &self,
        op: Op,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Body, Vec<OwnedFd>), AttestError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let bytes =
            postcard::to_stdvec(&Request { id, op }).map_err(|_| AttestError::NoAttestor)?;
        let (answer, wait) = oneshot::channel();
        match &mut *lock(&self.0.shared.pending) {
            Some(pending) => pending.insert(id, answer),
            None => return Err(AttestError::NoAttestor),
        };
        // Also when this future is dropped half way.
        let _entry = Entry(&self.0.shared, id);
        if self.0.link.send(&bytes, fds).await.is_err() {
            return Err(AttestError::NoAttestor);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, wait).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AttestError::NoAttestor),
            Err(_) => {
                Err(AttestError::Limit(format!("the attestor took longer than {ANSWER_TIMEOUT:?}")))
            }
        }
    }

    fn images(&self) -> MutexGuard<'_, HashMap<ImageId, Known>> {
        lock(&self.0.shared.images)
    }
}

fn attestation(facts: Facts, caller_image: ImageId, requester_image: ImageId) -> Attestation {
    let Facts { caller, requester, ancestry, via, assurance, assurance_with_jit, advisory } = facts;
    Attestation {
        requester: requester.unwrap_or_else(|| caller.clone()),
        caller,
        ancestry,
        via,
        assurance,
        assurance_with_jit,
        advisory,
        caller_image,
        requester_image,
    }
}

fn bound(identity: ProcessIdentity, pidfds: Vec<OwnedFd>) -> Option<BoundProcess> {
    Some(BoundProcess { pidfd: Arc::new(pidfds.into_iter().next()?), identity })
}

struct Entry<'a>(&'a Shared, u64);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(pending) = &mut *lock(&self.0.pending) {
            pending.remove(&self.1);
        }
    }
}

impl Witness for Attestor {
    fn open<'a>(&'a self, peer: Peer, pidfd: BorrowedFd<'a>) -> Answer<'a, ImageId> {
        Box::pin(async move {
            let op = Op::Open { pid: peer.pid, uid: peer.uid, gid: peer.gid };
            let opened = match self.ask(op, &[pidfd.as_fd()]).await {
                Ok((Body::Opened(opened), _)) => opened,
                _ => return Err(Refusal::NoAttestor),
            };
            let image = ImageId(opened.map_err(|refused| match refused {
                Refused::NoPid => Refusal::NoPid,
                Refused::Gone => Refusal::Gone,
                Refused::Unverified(why) => {
                    Refusal::Unverified(format!("the peer could not be verified: {why}"))
                }
                Refused::Limit(why) => Refusal::Limit(why),
            })?);
            self.images().entry(image).or_default().connections += 1;
            Ok(image)
        })
    }

    fn forget(&self, image: ImageId) {
        let mut images = self.images();
        if let Some(known) = images.get_mut(&image) {
            known.connections = known.connections.saturating_sub(1);
            if known.connections == 0 {
                let gone = images.remove(&image);
                drop(images);
                drop(gone);
            }
        }
        // Fails only when the link is dead, and with it the image.
        let _ = self.0.forget.send(image.0);
    }
}

async fn read(
    link: Arc<AsyncSeqPacket>,
    shared: Arc<Shared>,
    forget: mpsc::UnboundedSender<u64>,
    tell: watch::Sender<bool>,
) {
    while let Ok(Some((bytes, fds))) = link.recv().await {
        let Ok(reply) = postcard::from_bytes::<Reply>(&bytes) else { break };
        let waiting = lock(&shared.pending).as_mut().and_then(|pending| pending.remove(&reply.id));
        let orphan = match waiting {
            Some(waiting) => waiting.send((reply.body, fds)).err().map(|(body, _)| body),
            None => Some(reply.body),
        };
        // Nobody waits any more: an image that was opened for nobody is let go.
        // Not sent from here: who reads must never wait for the other to read.
        if let Some(Body::Opened(Ok(image))) = orphan {
            let _ = forget.send(image);
        }
    }
    // Everybody who waits learns that no answer comes.
    lock(&shared.pending).take();
    let _ = tell.send(true);
}

async fn forget_all(link: Arc<AsyncSeqPacket>, mut images: mpsc::UnboundedReceiver<u64>) {
    while let Some(image) = images.recv().await {
        let Ok(bytes) = postcard::to_stdvec(&Request { id: 0, op: Op::Forget { image } }) else {
            return;
        };
        if link.send(&bytes, &[]).await.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
