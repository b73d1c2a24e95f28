//! The attestor process: answers the broker's questions until the link ends.
//!
//! A few threads take messages from the link; what must read a file goes to
//! the pool and is answered from there.

use super::binding;
use super::held::alive;
use super::process::{Status, closed};
use super::server::{Learned, Server, Stop};
use super::wire::{Attested, Body, Op, Reached, Refused, Reply, Request};
use super::{Anchor, AttestError, TargetView, target};
use crate::config::{Config, Mode};
use crate::mutants::{Check, on};
use crate::process::pidfd;
use crate::process::{MAX_DATAGRAM, SeqPacket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Threads that take messages. More than one, so that a process that makes its
/// own /proc files slow (they wait for locks of its memory) holds up one only.
const THREADS: usize = 3;

/// Reads the configuration again; gives it with the reasons why the agent is
/// advisory (see [`run_with`]).
pub type Reload = Box<dyn Fn() -> Result<(Config, Vec<String>), String> + Send + Sync>;

/// Serves until the broker closes the link. `config` is the attestor's own
/// reading of it. Blocking.
///
/// # Errors
/// When the link fails, or threads cannot be started.
pub fn run(link: OwnedFd, config: Config) -> io::Result<()> {
    let advisory = match config.mode {
        Mode::Host => Vec::new(),
        Mode::User => vec!["the agent runs with its user's own uid".to_owned()],
    };
    run_with(
        link,
        &config,
        advisory,
        Box::new(|| Err("this attestor was started without a way to reload".into())),
    )
}

/// As [`run`], with the reasons why the agent is advisory (none: it is not)
/// and a way to read the configuration again.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    link: OwnedFd,
    config: &Config,
    advisory: Vec<String>,
    reload: Reload,
) -> io::Result<()> {
    let server = Arc::new(Server::new(config, advisory)?);
    server.hash_own_ancestors();
    let attestor = Arc::new(Attestor { link: SeqPacket::new(link), server, reload });
    let mut others = Vec::new();
    for _ in 1..THREADS {
        let attestor = Arc::clone(&attestor);
        others.push(
            std::thread::Builder::new().name("attest".into()).spawn(move || attestor.serve())?,
        );
    }
    let ended = attestor.serve();
    attestor.server.pool.close();
    for other in others {
        // The first that saw the end says how it came; the others see it too.
        let _ = other.join();
    }
    ended
}

struct Attestor {
    link: SeqPacket,
    server: Arc<Server>,
    reload: Reload,
}

/// A question that may have to wait for the pool, more than once.
struct Pending {
    id: u64,
    what: What,
    learned: Learned,
}

#[derive(Clone, Copy)]
enum What {
    Attest { image: u64, serial: u64, bind: bool },
    Resolve { image: u64, anchor: Anchor },
}

impl Attestor {
    fn serve(self: &Arc<Self>) -> io::Result<()> {
        while let Some((bytes, fds)) = self.link.recv()? {
            let request: Request = postcard::from_bytes(&bytes).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("a message of the broker: {e}"))
            })?;
            self.take(request, fds)?;
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, request: Request, fds: Vec<OwnedFd>) -> io::Result<()> {
        let id = request.id;
        match request.op {
            Op::Open { pid, uid, gid } => {
                self.reply(id, Body::Opened(self.open(pid, uid, gid, fds)), None)
            }
            Op::Forget { image } => {
                self.server.images.forget(image);
                Ok(())
            }
            Op::Attest { image, serial, bind } => self.proceed(Pending {
                id,
                what: What::Attest { image, serial, bind },
                learned: Vec::new(),
            }),
            Op::Resolve { image, anchor } => self.proceed(Pending {
                id,
                what: What::Resolve { image, anchor },
                learned: Vec::new(),
            }),
            Op::Target { image, path, file } => {
                self.reply(id, Body::Target(self.target(image, &path, file)), None)
            }
            Op::Recheck { caller, requester } => {
                self.reply(id, Body::Rechecked(self.recheck(caller, requester)), None)
            }
            Op::Find { identity } => match binding::find(&identity) {
                Some((found, pidfd)) => {
                    self.reply(id, Body::Found(Some(found)), Some(pidfd.as_fd()))
                }
                None => self.reply(id, Body::Found(None), None),
            },
            Op::Reload => {
                let done =
                    (self.reload)().map(|(config, advisory)| self.server.reload(&config, advisory));
                self.reply(id, Body::Reloaded(done), None)
            }
            Op::Ping => self.reply(id, Body::Pong, None),
        }
    }

    fn open(&self, pid: u32, uid: u32, gid: u32, fds: Vec<OwnedFd>) -> Result<u64, Refused> {
        let peer = fds
            .into_iter()
            .next()
            .ok_or_else(|| Refused::Unverified("the peer has no pidfd".into()))?;
        // EINVAL and ESRCH here: reaped, on kernels that say so by an error.
        let named = pidfd::pid(&peer).map_err(|_| Refused::Gone)?;
        if alive(&peer).is_err() {
            return Err(Refused::Gone);
        }
        let named = if on(Check::PidfdNamesPeer) { named } else { Some(pid) };
        let named = named.filter(|_| pid != 0 || !on(Check::PidZero)).ok_or(Refused::NoPid)?;
        if named != pid {
            return Err(Refused::Unverified(format!(
                "the peer's pidfd names process {named}, its credentials {pid}"
            )));
        }
        let group_client = self.group_client(&peer, pid, gid);
        let own = peer.try_clone().map_err(limit)?;
        let held =
            self.server.images.hold(pid, uid, group_client, None, || Ok(own)).map_err(|why| {
                if alive(&peer).is_err() { Refused::Gone } else { Refused::Unverified(why) }
            })?;
        if alive(&peer).is_err() {
            return Err(Refused::Gone);
        }
        self.server.images.opened(&held);
        Ok(held.id)
    }

    /// The peer had the clients' group at connect, which is not its real group
    /// (so that it comes from a set-group-ID file), and is not dumpable.
    fn group_client(&self, peer: &OwnedFd, pid: u32, gid: u32) -> bool {
        self.server.rules().clients.group == Some(gid)
            && (closed(peer, pid) == Some(true) || !on(Check::ClientClosed))
            && (Status::read(pid).is_ok_and(|status| status.gids[0] != gid)
                || !on(Check::ClientGroupBySetgid))
            && alive(peer).is_ok()
    }

    fn target(
        &self,
        image: u64,
        path: &str,
        file: Option<(u64, u64)>,
    ) -> Result<TargetView, AttestError> {
        let gone = || AttestError::Caller("its connection has closed".into());
        let held = self.server.images.by_id(image).ok_or_else(gone)?;
        target::view(&held, self.server.own_user_namespace, path, file).map_err(AttestError::Caller)
    }

    fn recheck(
        &self,
        (caller, callers): (u64, Reached),
        (requester, requesters): (u64, Reached),
    ) -> Result<(), AttestError> {
        let images = &self.server.images;
        let held = images
            .by_id(caller)
            .ok_or_else(|| AttestError::Caller("its connection has closed".into()))?;
        self.server.still(&held, callers).map_err(AttestError::Caller)?;
        if requester != caller {
            let gone = || AttestError::Requester("it is no longer known".into());
            let held = images.by_id(requester).ok_or_else(gone)?;
            self.server.still(&held, requesters).map_err(AttestError::Requester)?;
        }
        Ok(())
    }

    /// Answers, or lets the pool read what is missing and comes back.
    fn proceed(self: &Arc<Self>, pending: Pending) -> io::Result<()> {
        let id = pending.id;
        let look = match self.answer(&pending) {
            Ok(()) => return Ok(()),
            Err(Failed::Link(error)) => return Err(error),
            Err(Failed::Stop(Stop::Error(error))) => return self.fail(id, pending.what, error),
            Err(Failed::Stop(Stop::Read(look))) => look,
        };
        let (what, key) = (pending.what, look.key());
        let Some(uid) = self.image(what).map(|held| held.uid) else {
            return self.fail(id, what, AttestError::Caller("its connection has closed".into()));
        };
        let me = Arc::clone(self);
        let then = move |result| {
            let mut pending = pending;
            pending.learned.push((key, result));
            // A link that has failed is seen by the threads that read it.
            let _ = me.proceed(pending);
        };
        match self.server.pool.submit(*look, uid, Box::new(then)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(id, what, error),
        }
    }

    fn image(&self, what: What) -> Option<Arc<super::held::Held>> {
        let (What::Attest { image, .. } | What::Resolve { image, .. }) = what;
        self.server.images.by_id(image)
    }

    fn answer(&self, pending: &Pending) -> Result<(), Failed> {
        let gone = || AttestError::Caller("its connection has closed".into());
        let held = self.image(pending.what).ok_or_else(gone)?;
        match pending.what {
            What::Attest { serial, bind, .. } => {
                let cached = self.server.attest(&held, &pending.learned)?;
                let found = cached.requester.as_ref().unwrap_or(&held);
                let facts = (cached.serial != serial).then(|| Box::new((*cached.facts).clone()));
                let bound = bind.then(|| {
                    let anchor = Anchor::Requester;
                    binding::resolve(&held, cached.requester.as_ref(), anchor).ok()
                });
                let (bound, bound_pidfd) = bound.flatten().unzip();
                let pidfd = bound_pidfd.as_ref().map(AsFd::as_fd);
                let body = Attested { serial: cached.serial, requester: found.id, facts, bound };
                self.reply(pending.id, Body::Attested(Ok(body)), pidfd)?;
            }
            What::Resolve { anchor, .. } => {
                let cached = match anchor {
                    Anchor::Requester => Some(self.server.attest(&held, &pending.learned)?),
                    _ => None,
                };
                held.status().map_err(AttestError::Caller)?;
                let requester = cached.as_ref().and_then(|cached| cached.requester.as_ref());
                let (identity, pidfd) = binding::resolve(&held, requester, anchor)?;
                self.reply(pending.id, Body::Resolved(Ok(identity)), Some(pidfd.as_fd()))?;
            }
        }
        Ok(())
    }

    fn fail(&self, id: u64, what: What, error: AttestError) -> io::Result<()> {
        let body = match what {
            What::Attest { .. } => Body::Attested(Err(error)),
            What::Resolve { .. } => Body::Resolved(Err(error)),
        };
        self.reply(id, body, None)
    }

    fn reply(&self, id: u64, body: Body, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let (bytes, whole) = encode(id, body)?;
        self.link.send(&bytes, if whole { fd.as_slice() } else { &[] })
    }
}

/// The reply as it is sent, and whether it is the whole of it. How long facts
/// are is up to the processes that they are about: what does not fit into a
/// datagram fails that one question, and never the link.
fn encode(id: u64, body: Body) -> io::Result<(Vec<u8>, bool)> {
    let too_long = || {
        AttestError::Limit("the facts about it and its ancestors are too long to be told".into())
    };
    let instead = match &body {
        Body::Attested(_) => Some(Body::Attested(Err(too_long()))),
        Body::Resolved(_) => Some(Body::Resolved(Err(too_long()))),
        Body::Found(_) => Some(Body::Found(None)),
        Body::Reloaded(_) => Some(Body::Reloaded(Err("the answer is too long".into()))),
        Body::Target(_) => Some(Body::Target(Err(too_long()))),
        Body::Opened(_) | Body::Rechecked(_) | Body::Pong => None,
    };
    let encoded = |body: Body| postcard::to_stdvec(&Reply { id, body }).map_err(io::Error::other);
    let bytes = encoded(body)?;
    match instead {
        Some(instead) if bytes.len() > MAX_DATAGRAM => Ok((encoded(instead)?, false)),
        _ => Ok((bytes, true)),
    }
}

fn limit(error: io::Error) -> Refused {
    Refused::Limit(format!("the attestor has no descriptor left: {error}"))
}

enum Failed {
    Stop(Stop),
    Link(io::Error),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<AttestError> for Failed {
    fn from(error: AttestError) -> Self {
        Self::Stop(Stop::Error(error))
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::ProcessIdentity;

    #[test]
    fn an_answer_that_is_too_long_does_not_end_the_link() {
        let long = ProcessIdentity {
            pid: 2,
            start_time: 3,
            pidfs_handle: None,
            exe: Some("x".repeat(MAX_DATAGRAM)),
        };
        let (ours, theirs) = nix::sys::socket::socketpair(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::SeqPacket,
            None,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let (bytes, whole) = encode(7, Body::Resolved(Ok(long))).unwrap();
        assert!(!whole);
        SeqPacket::new(ours).send(&bytes, &[]).unwrap();
        let (got, _) = SeqPacket::new(theirs).recv().unwrap().unwrap();
        let reply: Reply = postcard::from_bytes(&got).unwrap();
        assert_eq!(reply.id, 7);
        assert!(matches!(reply.body, Body::Resolved(Err(AttestError::Limit(_)))));
    }
}
