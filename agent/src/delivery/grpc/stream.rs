//! A secret as messages, each of which reaches the socket by itself.

use crate::memory::{Field, Secret};
use jsi_proto::v1::{FieldPiece, Lease, SecretMessage};
use jsi_proto::{MAX_PIECE, padding};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tonic::Status;

/// The messages of one delivery: the lease in the first, the fields that were
/// asked for (all, where none was named) in pieces.
pub(super) fn messages(
    lease: Lease,
    request_id: String,
    secret: &Secret,
    fields: &[String],
) -> OneByOne {
    let mut queue = VecDeque::new();
    let mut message =
        SecretMessage { padding: padding(), lease: Some(lease), pieces: Vec::new(), request_id };
    let mut room = MAX_PIECE;
    let wanted = |field: &&Field| fields.is_empty() || fields.contains(&field.name);
    for field in secret.fields().iter().filter(wanted) {
        let mut rest = field.value.expose();
        loop {
            if room == 0 {
                queue.push_back(std::mem::replace(&mut message, empty()));
                room = MAX_PIECE;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            room -= now.len();
            message.pieces.push(FieldPiece {
                name: field.name.clone(),
                sensitive: field.sensitive,
                is_default: field.is_default,
                value: now.to_vec(),
                more: !later.is_empty(),
            });
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
    queue.push_back(message);
    OneByOne { queue: Arc::new(Mutex::new(queue)), pause: false, late: Arc::default(), clock: None }
}

fn empty() -> SecretMessage {
    SecretMessage { padding: padding(), lease: None, pieces: Vec::new(), request_id: String::new() }
}

/// Yields between messages, so that tonic hands each to HTTP/2 by itself: two
/// in one buffer would exceed a frame and leave a fragment behind.
///
/// A client that opens no window for them (RFC 9113, 6.9) would have the agent
/// keep the plaintext for as long as it likes: see [`OneByOne::within`].
pub(super) struct OneByOne {
    queue: Arc<Mutex<VecDeque<SecretMessage>>>,
    pause: bool,
    late: Arc<AtomicBool>,
    clock: Option<AbortHandle>,
}

impl OneByOne {
    /// What has not been taken after `patience` is wiped. `when_late` is to close
    /// the connection: a part of it may wait in HTTP/2's buffers.
    pub(super) fn within(
        mut self,
        patience: Duration,
        when_late: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (queue, late) = (Arc::clone(&self.queue), Arc::clone(&self.late));
        let patience = async move {
            tokio::time::sleep(patience).await;
            let mut queue = lock(&queue);
            late.store(!queue.is_empty(), Ordering::SeqCst);
            queue.clear();
            drop(queue);
            when_late();
        };
        self.clock = Some(tokio::spawn(patience).abort_handle());
        self
    }
}

impl Drop for OneByOne {
    fn drop(&mut self) {
        if let Some(clock) = self.clock.take() {
            clock.abort();
        }
    }
}

fn lock(queue: &Mutex<VecDeque<SecretMessage>>) -> MutexGuard<'_, VecDeque<SecretMessage>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for OneByOne {
    type Item = Result<SecretMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pause && !lock(&self.queue).is_empty() {
            self.pause = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pause = true;
        let next = lock(&self.queue).pop_front();
        // Never an end that looks like a whole secret.
        let late = next.is_none() && self.late.swap(false, Ordering::SeqCst);
        Poll::Ready(match next {
            None if late => {
                Some(Err(Status::deadline_exceeded("the secret was not taken in time")))
            }
            next => next.map(Ok),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SecretBuf;
    use jsi_proto::MAX_SECRET_MESSAGE;
    use prost::Message;

    fn field(name: &str, len: usize, is_default: bool) -> Field {
        Field {
            name: name.to_owned(),
            sensitive: true,
            is_default,
            value: SecretBuf::new((0..len).map(|at| (at % 251) as u8).collect()),
        }
    }

    #[test]
    fn a_long_secret_is_cut_into_short_messages_and_whole_again() {
        let secret = Secret::new(vec![
            field("a", 100_000, true),
            field("b", 0, false),
            field("c", 9, false),
        ])
        .unwrap();
        let all = messages(Lease::default(), "r".to_owned(), &secret, &[]);
        let all = lock(&all.queue);
        let mut whole = std::collections::BTreeMap::<String, Vec<u8>>::new();
        for (at, message) in all.iter().enumerate() {
            assert!(message.encoded_len() < MAX_SECRET_MESSAGE);
            assert_eq!(message.padding.len(), jsi_proto::PADDING_LEN);
            assert_eq!(message.lease.is_some(), at == 0);
            for piece in &message.pieces {
                whole.entry(piece.name.clone()).or_default().extend(&piece.value);
            }
        }
        for field in secret.fields() {
            assert_eq!(whole[&field.name], field.value.expose());
        }
    }

    #[tokio::test]
    async fn a_secret_that_nobody_takes_is_not_kept_and_never_seems_whole() {
        use tokio_stream::StreamExt;
        let secret = Secret::new(vec![field("a", 100_000, true)]).unwrap();
        let (told, late) = tokio::sync::oneshot::channel();
        let mut stream = messages(Lease::default(), String::new(), &secret, &[])
            .within(Duration::from_millis(10), move || told.send(()).unwrap());
        stream.next().await.unwrap().unwrap();
        late.await.unwrap();
        assert!(lock(&stream.queue).is_empty());
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
    }

    #[test]
    fn only_the_fields_that_were_asked_for_are_sent() {
        let secret = Secret::new(vec![field("a", 5, true), field("b", 5, false)]).unwrap();
        let all = messages(Lease::default(), String::new(), &secret, &["b".to_owned()]);
        let all = lock(&all.queue);
        let names: Vec<_> = all.iter().flat_map(|m| &m.pieces).map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["b"]);
    }
}
