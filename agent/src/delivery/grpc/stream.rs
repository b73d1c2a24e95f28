//! A secret as messages, each of which reaches the socket by itself.

use crate::memory::{Field, Secret};
use jsi_proto::v1::{FieldPiece, Lease, SecretMessage};
use jsi_proto::{MAX_PIECE, padding};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
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
    OneByOne { queue, pause: false }
}

fn empty() -> SecretMessage {
    SecretMessage { padding: padding(), lease: None, pieces: Vec::new(), request_id: String::new() }
}

/// Yields between messages, so that tonic hands each to HTTP/2 by itself: two
/// in one buffer would exceed a frame and leave a fragment behind.
pub(super) struct OneByOne {
    queue: VecDeque<SecretMessage>,
    pause: bool,
}

impl Stream for OneByOne {
    type Item = Result<SecretMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pause && !self.queue.is_empty() {
            self.pause = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pause = true;
        Poll::Ready(self.queue.pop_front().map(Ok))
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
        let all = messages(Lease::default(), "r".to_owned(), &secret, &[]).queue;
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

    #[test]
    fn only_the_fields_that_were_asked_for_are_sent() {
        let secret = Secret::new(vec![field("a", 5, true), field("b", 5, false)]).unwrap();
        let all = messages(Lease::default(), String::new(), &secret, &["b".to_owned()]).queue;
        let names: Vec<_> = all.iter().flat_map(|m| &m.pieces).map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["b"]);
    }
}
