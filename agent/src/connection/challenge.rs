//! The challenge: an HTTP/2 PING with a random payload, sent behind the
//! server's SETTINGS. Whoever answers it was the peer when the answer was sent,
//! so a program that was executed after the bytes had been sent cannot be
//! taken for their sender (RFC 9113, 6.7: every client answers by itself).

use super::framing::{PING, ping};
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// The PING frame on its way out.
pub(super) enum Challenge {
    /// To be sent at the end of the first frame that the server writes.
    Waiting([u8; PING]),
    /// Being written; the number of bytes that are out.
    Writing([u8; PING], usize),
    /// Written, or there is none.
    Done,
}

impl Challenge {
    /// A new challenge, and the payload that answers it.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(super) fn new() -> io::Result<(Self, [u8; 8])> {
        let mut payload = [0; 8];
        SystemRandom::new()
            .fill(&mut payload)
            .map_err(|_| io::Error::other("the kernel gives no random bytes"))?;
        Ok((Self::Waiting(ping(payload)), payload))
    }

    /// Whether the server's first frame is not out yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// The server's first frame is out, and nothing behind it.
    pub(super) fn start(&mut self) {
        if let Self::Waiting(frame) = self {
            *self = Self::Writing(*frame, 0);
        }
    }

    /// Writes what is left of a challenge that was started.
    pub(super) fn poll_write(
        &mut self,
        mut stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Self::Writing(frame, at) = self {
            let wrote = ready!(stream.as_mut().poll_write(cx, &frame[*at..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *at += wrote;
            if *at == frame.len() {
                *self = Self::Done;
            }
        }
        Poll::Ready(Ok(()))
    }
}
