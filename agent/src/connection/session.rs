//! An accepted socket as tonic reads and writes it.
//!
//! Each chunk that is read must have been sent by the peer itself, and the
//! peer must still be there when it has been read. Two ways to end: a session
//! that is *cut* reads and writes nothing more; one that is *draining* still
//! writes the answers it owes, and reads nothing.

use super::Connection;
use super::challenge::Challenge;
use super::framing::{Inbound, Outbound, PING, Streams};
use super::limits::Slot;
use super::state::{State, Verdict, unanswered};
use super::{Peer, Refusal};
use crate::mutants::{Check, on};
use crate::process::peer;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::transport::server::Connected;
use zeroize::Zeroize;

/// Reads into less room than this go through a buffer of our own, so that what
/// is held back of a PING always has a place.
const SMALL: usize = 64;
/// How long a refused session may take to write its refusals.
const REFUSAL_DRAIN: Duration = Duration::from_secs(1);
/// Checks for a client that has stopped reading, within one write timeout.
const STALL_CHECKS: u32 = 4;

/// An accepted socket: what tonic serves.
pub struct Session {
    stream: UnixStream,
    connection: Arc<Connection>,
    inbound: Inbound,
    outbound: Outbound,
    streams: Streams,
    challenge: Challenge,
    held: [u8; PING],
    held_len: usize,
    spill: Vec<u8>,
    cut: bool,
    drain_until: Option<Instant>,
    alarm: Alarm,
    stall: Stall,
    write_timeout: Duration,
    /// Its place among the connections that are allowed at once.
    _slot: Slot,
}

/// One timer for challenge, draining and stalls.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

/// What is known of a client that may have stopped reading.
#[derive(Default)]
struct Stall {
    written: u64,
    write_pending: bool,
    mark: (u64, usize),
    since: Option<Instant>,
}

impl Session {
    /// A session that challenges its peer, or, where it was refused beforehand,
    /// one that only answers what it is asked first.
    pub(super) fn new(
        stream: UnixStream,
        connection: Arc<Connection>,
        deadline: Instant,
        write_timeout: Duration,
        slot: Slot,
    ) -> io::Result<Self> {
        let (challenge, expected) = match connection.session.verdict() {
            Verdict::Refused(_) => (Challenge::Done, None),
            Verdict::Waiting | Verdict::Answered => {
                let (challenge, payload) = Challenge::new()?;
                (challenge, Some(payload))
            }
        };
        Ok(Self {
            stream,
            connection,
            inbound: Inbound::new(expected),
            outbound: Outbound::default(),
            streams: Streams::default(),
            challenge,
            held: [0; PING],
            held_len: 0,
            spill: Vec::new(),
            cut: false,
            drain_until: None,
            alarm: Alarm { sleep: Box::pin(sleep_until(deadline)), armed: true },
            stall: Stall::default(),
            write_timeout,
            _slot: slot,
        })
    }

    /// The connection, as handlers see it.
    #[must_use]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The challenge is answered, so that its deadline is none any more.
    pub(super) fn served(&mut self) {
        self.state().answer();
        self.alarm.armed = false;
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> &UnixStream {
        &self.stream
    }

    fn state(&self) -> &State {
        &self.connection.session
    }

    /// Refuses the peer, and reads and writes nothing more.
    fn cut_off(&mut self, refusal: Refusal) -> io::Error {
        self.cut = true;
        let error = io::Error::new(io::ErrorKind::PermissionDenied, refusal.clone());
        self.state().refuse(refusal);
        error
    }

    fn refused() -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, "the connection was refused")
    }

    fn drained(&self) -> bool {
        self.streams.is_empty() && self.outbound.at_boundary()
    }

    /// Sees to what is due: challenge, end of draining, stalls.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.armed && self.alarm.sleep.as_mut().poll(cx).is_ready() {
            self.alarm.armed = false;
            let now = Instant::now();
            if self.drain_until.is_some() {
                self.cut = true;
                return Err(Self::refused());
            }
            match self.state().verdict() {
                Verdict::Waiting => {
                    self.state().refuse(unanswered());
                    self.drain(now + REFUSAL_DRAIN);
                }
                Verdict::Refused(_) => self.drain(now + REFUSAL_DRAIN),
                Verdict::Answered => {
                    if self.stalled(now) {
                        let text = "the client left a response unread for too long";
                        return Err(self.cut_off(Refusal::Limit(text.to_owned())));
                    }
                    self.watch_for_stall();
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, until: Instant) {
        self.drain_until = Some(until);
        self.arm(until);
    }

    fn arm(&mut self, at: Instant) {
        self.alarm.sleep.as_mut().reset(at);
        self.alarm.armed = true;
    }

    /// Sets the alarm if anything is being answered or waits to be written.
    fn watch_for_stall(&mut self) {
        if !self.alarm.armed && (self.stall.write_pending || !self.streams.is_empty()) {
            self.arm(Instant::now() + self.write_timeout / STALL_CHECKS);
        }
    }

    /// Whether the client has taken nothing for the write timeout, although
    /// something waits for it. Bytes that rest in the kernel count as well:
    /// flow control can keep the socket's buffer from ever filling.
    fn stalled(&mut self, now: Instant) -> bool {
        let unread = peer::unread_by_peer(self.stream.as_fd());
        let waiting = self.stall.write_pending || (unread > 0 && !self.streams.is_empty());
        let mark = (self.stall.written, unread);
        if !waiting || mark != self.stall.mark {
            self.stall.mark = mark;
            self.stall.since = waiting.then_some(now);
            return false;
        }
        now.duration_since(*self.stall.since.get_or_insert(now)) >= self.write_timeout
    }

    /// Reads one chunk, checks its sender, and passes on what is hyper's.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut small = [0; SMALL];
            let direct = buf.remaining() >= SMALL;
            let room = if direct { buf.initialize_unfilled() } else { &mut small[..] };
            let seen = self.held_len;
            room[..seen].copy_from_slice(&self.held[..seen]);
            let stream = &self.stream;
            let read = stream
                .try_io(Interest::READABLE, || peer::receive(stream.as_fd(), &mut room[seen..]));
            let chunk = match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                read => read?,
            };
            if let Err(refusal) = self.own(&chunk) {
                return Poll::Ready(Err(self.cut_off(refusal)));
            }
            if chunk.len == 0 {
                return Poll::Ready(Ok(()));
            }
            let region = &mut room[..seen + chunk.len];
            let scanned = match self.inbound.scan(region, seen, &mut self.streams) {
                Ok(scanned) => scanned,
                Err(error) => {
                    return Poll::Ready(Err(self.cut_off(Refusal::Unverified(error.to_string()))));
                }
            };
            if scanned.acknowledged {
                self.served();
            }
            self.held_len = scanned.hold;
            self.held[..scanned.hold].copy_from_slice(&region[scanned.pass..][..scanned.hold]);
            if direct {
                buf.advance(scanned.pass);
            } else {
                self.spill.extend_from_slice(&small[..scanned.pass]);
                small.zeroize();
            }
            if scanned.pass > 0 {
                self.pour(buf);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether the peer itself sent this chunk and is still there.
    fn own(&self, chunk: &peer::Chunk) -> Result<(), Refusal> {
        let unverified = |text: &str| Err(Refusal::Unverified(text.to_owned()));
        if chunk.foreign && on(Check::ControlMessages) {
            return unverified("the peer sent descriptors or other control data");
        }
        if chunk.truncated && on(Check::ControlMessages) {
            return unverified("the peer sent more control data than there is room for");
        }
        if chunk.len == 0 {
            return Ok(());
        }
        // SCM_CREDENTIALS carries the real gid, SO_PEERCRED the effective one:
        // they may differ (setgid), so it is not compared.
        let Peer { pid, uid, .. } = self.connection.peer;
        match chunk.sender {
            _ if !on(Check::Sender) => {}
            Some(peer::Sender { pid: 0, .. }) | None => {
                return unverified("bytes came without their sender's credentials; connect again");
            }
            Some(sender) if sender.pid != pid || sender.uid != uid => {
                return Err(Refusal::Unverified(format!(
                    "bytes came from pid {} of uid {}, which is not the peer",
                    sender.pid, sender.uid
                )));
            }
            Some(_) => {}
        }
        // Only now: the peer was alive after its bytes had been read, so that
        // its pid cannot have been another's when they were sent.
        if self.connection.has_ended() && on(Check::PeerAlive) {
            Err(Refusal::Gone)
        } else {
            Ok(())
        }
    }

    /// Gives what was read into our own buffer.
    fn pour(&mut self, buf: &mut ReadBuf<'_>) {
        if self.spill.is_empty() {
            return;
        }
        let len = self.spill.len().min(buf.remaining());
        buf.put_slice(&self.spill[..len]);
        let rest = self.spill.split_off(len);
        self.spill.zeroize();
        self.spill = rest;
    }

    /// Notes what has gone out, and sends the challenge behind the first frame.
    fn wrote(&mut self, slices: &[IoSlice<'_>], mut len: usize, cx: &mut Context<'_>) {
        self.stall.written += len as u64;
        self.stall.write_pending = false;
        let mut ended = false;
        for slice in slices {
            let part = &slice[..slice.len().min(len)];
            ended |= self.outbound.wrote(part, &mut self.streams);
            len -= part.len();
        }
        if ended && matches!(self.state().verdict(), Verdict::Refused(_)) {
            self.state().close_soon();
        }
        if self.challenge.is_waiting() && self.outbound.at_boundary() {
            self.challenge.start();
            // What does not go out now goes out before the next write or flush,
            // which reports errors too.
            let _ = self.challenge.poll_write(Pin::new(&mut self.stream), cx);
        }
        if self.state().is_closing() && self.drained() {
            cx.waker().wake_by_ref();
        }
    }

    /// What stands before every write. Ready when hyper's bytes may go out.
    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Err(Self::refused()));
        }
        let ready = self.challenge.poll_write(Pin::new(&mut self.stream), cx);
        if ready.is_pending() {
            self.poll_write_pending(cx)?;
        }
        ready
    }

    /// The peer takes nothing at the moment.
    fn poll_write_pending(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.stall.write_pending = true;
        self.watch_for_stall();
        self.poll_alarm(cx)
    }
}

impl Connected for Session {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.connection)
    }
}

impl AsyncRead for Session {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut {
            return Poll::Ready(Err(Self::refused()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.state().register(cx.waker());
        if this.state().is_closing() && this.drain_until.is_none() {
            this.drain(Instant::now() + this.write_timeout);
        }
        this.poll_alarm(cx)?;
        if this.drain_until.is_some() {
            // The end, as hyper sees it, once nothing is owed.
            return if this.drained() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        if !this.spill.is_empty() {
            this.pour(buf);
            return Poll::Ready(Ok(()));
        }
        let ready = this.poll_receive(cx, buf);
        if !this.cut && !this.alarm.armed {
            this.watch_for_stall();
            this.poll_alarm(cx)?;
        }
        ready
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_before_write(cx))?;
        let wrote = if this.challenge.is_waiting() {
            // Only the first frame, so that the PING stands right behind it.
            let Some(first) = bufs.iter().find(|buf| !buf.is_empty()) else {
                return Poll::Ready(Ok(0));
            };
            let frame = &first[..this.outbound.until_boundary(first)];
            let wrote = Pin::new(&mut this.stream).poll_write(cx, frame);
            if let Poll::Ready(Ok(len)) = wrote {
                this.wrote(&[IoSlice::new(frame)], len, cx);
            }
            wrote
        } else {
            let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
            if let Poll::Ready(Ok(len)) = wrote {
                this.wrote(bufs, len, cx);
            }
            wrote
        };
        if wrote.is_pending() {
            this.poll_write_pending(cx)?;
        }
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_before_write(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.spill.zeroize();
        self.state().close();
    }
}
