//! HTTP/2 frame boundaries (RFC 9113, 4.1): enough to place a PING between two
//! frames, to take its acknowledgement out, and to know when nothing is being
//! answered. Payloads are not kept.

use std::collections::BTreeSet;

/// What a client sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Bytes of a PING's payload (RFC 9113, 6.7).
const PING_PAYLOAD: usize = 8;
/// Bytes of a whole PING frame.
pub(super) const PING: usize = HEADER + PING_PAYLOAD;
/// `SETTINGS_MAX_FRAME_SIZE`, which the server leaves at its default
/// (RFC 9113, 6.5.2), so that a longer frame is an error of the peer's.
const MAX_FRAME: u32 = 16_384;
/// Streams that a peer may have opened and the server not yet have answered or
/// refused. The server announces fewer; this only bounds our own memory.
const MAX_OPEN_STREAMS: usize = 16_384;

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const PING_TYPE: u8 = 6;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// What is not HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// The first bytes are something else.
    #[error("the peer does not speak HTTP/2: its first bytes are not the connection preface")]
    Preface,
    /// A frame is longer than announced.
    #[error("the peer sent an HTTP/2 frame longer than {MAX_FRAME} bytes")]
    Length,
    /// Far more streams than announced.
    #[error("the peer opened more than {MAX_OPEN_STREAMS} HTTP/2 streams at once")]
    Streams,
}

/// Streams that the peer has opened and that are not answered yet.
#[derive(Default)]
pub(super) struct Streams {
    open: BTreeSet<u32>,
    newest: u32,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn opened(&mut self, stream: u32) -> Result<(), Malformed> {
        // A second HEADERS frame of a known stream carries trailers.
        if stream > self.newest {
            self.newest = stream;
            self.open.insert(stream);
            if self.open.len() > MAX_OPEN_STREAMS {
                return Err(Malformed::Streams);
            }
        }
        Ok(())
    }

    fn ended(&mut self, stream: u32) {
        self.open.remove(&stream);
    }
}

/// A frame's header, once it is complete.
#[derive(Clone, Copy)]
struct Header {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn parse(b: [u8; HEADER]) -> Self {
        Self {
            len: u32::from_be_bytes([0, b[0], b[1], b[2]]),
            kind: b[3],
            flags: b[4],
            stream: u32::from_be_bytes([b[5], b[6], b[7], b[8]]) & 0x7fff_ffff,
        }
    }
}

/// Where in the sequence of frames a stream of bytes stands.
#[derive(Clone, Copy, Default)]
struct Position {
    header: [u8; HEADER],
    have: usize,
    left: u32,
}

impl Position {
    fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes bytes up to the end of a header or of a payload. Gives how many,
    /// and the header, if it is complete by now.
    fn step(&mut self, bytes: &[u8]) -> (usize, Option<Header>) {
        if self.left > 0 {
            let taken = bytes.len().min(self.left as usize);
            self.left -= u32::try_from(taken).unwrap_or(self.left);
            return (taken, None);
        }
        let taken = bytes.len().min(HEADER - self.have);
        self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have < HEADER {
            return (taken, None);
        }
        self.have = 0;
        let header = Header::parse(self.header);
        self.left = header.len;
        (taken, Some(header))
    }
}

/// Bytes from the peer.
pub(super) struct Inbound {
    preface: usize,
    position: Position,
    /// The payload that is waited for; `None` once it has come, or where none is.
    expected: Option<[u8; PING_PAYLOAD]>,
    /// The current frame is an acknowledged PING that may be the expected one.
    candidate: bool,
}

/// What [`Inbound::scan`] found in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Bytes at the start of the region that are to be passed on.
    pub(super) pass: usize,
    /// Bytes behind those which are to be held, and put in front of the next
    /// bytes: the start of what may be the acknowledgement. Below [`PING`].
    pub(super) hold: usize,
    /// The acknowledgement was among the bytes, and has been taken out.
    pub(super) acknowledged: bool,
}

impl Inbound {
    /// Waits for an acknowledgement of `expected`, if there is one to wait for.
    pub(super) fn new(expected: Option<[u8; PING_PAYLOAD]>) -> Self {
        Self { preface: 0, position: Position::default(), expected, candidate: false }
    }

    /// Scans `region`, whose first `seen` bytes were held back by the last call.
    /// The acknowledgement is taken out of it; all else stays as it is.
    pub(super) fn scan(
        &mut self,
        region: &mut [u8],
        seen: usize,
        streams: &mut Streams,
    ) -> Result<Scanned, Malformed> {
        let mut len = region.len();
        let mut at = seen;
        let mut acknowledged = false;
        while self.preface < PREFACE.len() && at < len {
            if region[at] != PREFACE[self.preface] {
                return Err(Malformed::Preface);
            }
            self.preface += 1;
            at += 1;
        }
        while at < len {
            let (taken, header) = self.position.step(&region[at..len]);
            at += taken;
            if let Some(header) = header {
                self.begin(header, streams)?;
            }
            if self.candidate && self.position.at_boundary() {
                self.candidate = false;
                if self.expected.is_some_and(|want| region[at - PING_PAYLOAD..at] == want) {
                    region.copy_within(at..len, at - PING);
                    at -= PING;
                    len -= PING;
                    self.expected = None;
                    acknowledged = true;
                }
            }
        }
        let hold = self.held();
        Ok(Scanned { pass: len - hold, hold, acknowledged })
    }

    fn begin(&mut self, header: Header, streams: &mut Streams) -> Result<(), Malformed> {
        if header.len > MAX_FRAME {
            return Err(Malformed::Length);
        }
        match header.kind {
            HEADERS => streams.opened(header.stream)?,
            RST_STREAM => streams.ended(header.stream),
            _ => {}
        }
        self.candidate = self.expected.is_some()
            && header.kind == PING_TYPE
            && header.flags & ACK != 0
            && header.len as usize == PING_PAYLOAD;
        Ok(())
    }

    fn held(&self) -> usize {
        if self.expected.is_none() {
            0
        } else if self.candidate {
            PING - self.position.left as usize
        } else {
            self.position.have
        }
    }
}

/// Bytes to the peer.
#[derive(Default)]
pub(super) struct Outbound {
    position: Position,
}

impl Outbound {
    /// Between two frames?
    pub(super) fn at_boundary(&self) -> bool {
        self.position.at_boundary()
    }

    /// How many of `bytes`, at most, belong to the frame that is being written
    /// or begins now.
    pub(super) fn until_boundary(&self, bytes: &[u8]) -> usize {
        let mut position = self.position;
        let mut at = 0;
        while at < bytes.len() {
            at += position.step(&bytes[at..]).0;
            if position.at_boundary() {
                break;
            }
        }
        at
    }

    /// Notes bytes that have been written; `true` if a stream's last frame began among them.
    pub(super) fn wrote(&mut self, bytes: &[u8], streams: &mut Streams) -> bool {
        let (mut at, mut ended) = (0, false);
        while at < bytes.len() {
            let (taken, header) = self.position.step(&bytes[at..]);
            at += taken;
            let Some(header) = header else { continue };
            let last = matches!(header.kind, HEADERS | DATA) && header.flags & END_STREAM != 0;
            if last || header.kind == RST_STREAM {
                streams.ended(header.stream);
                ended = true;
            }
        }
        ended
    }
}

/// A PING with this payload (RFC 9113, 6.7).
pub(super) fn ping(payload: [u8; PING_PAYLOAD]) -> [u8; PING] {
    let mut frame = [0; PING];
    frame[2] = 8;
    frame[3] = PING_TYPE;
    frame[HEADER..].copy_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 8] = *b"\x01\x02\x03\x04\x05\x06\x07\x08";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
        out
    }

    fn pong(payload: [u8; 8]) -> Vec<u8> {
        frame(PING_TYPE, ACK, 0, &payload)
    }

    /// What is passed on when `chunks` arrive one after the other.
    fn run(chunks: &[&[u8]]) -> Result<(Vec<u8>, bool, Streams), Malformed> {
        let (mut inbound, mut streams) = (Inbound::new(Some(OURS)), Streams::default());
        let (mut out, mut held, mut answered) = (Vec::new(), Vec::new(), false);
        for chunk in chunks {
            let seen = held.len();
            let mut region = std::mem::take(&mut held);
            region.extend_from_slice(chunk);
            let scanned = inbound.scan(&mut region, seen, &mut streams)?;
            assert!(scanned.hold < PING);
            answered |= scanned.acknowledged;
            out.extend_from_slice(&region[..scanned.pass]);
            held = region[scanned.pass..scanned.pass + scanned.hold].to_vec();
        }
        Ok((out, answered, streams))
    }

    /// A session around the acknowledgement, and the same without it.
    fn sessions() -> (Vec<u8>, Vec<u8>) {
        let before = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[0; 12]),
            frame(PING_TYPE, 0, 0, &OURS), // a PING of its own, same payload
            pong([9; 8]),                  // another's acknowledgement
            frame(HEADERS, 4, 1, b"headers"),
        ]
        .concat();
        // Payload that looks like the acknowledgement, and frames behind it.
        let after = [
            frame(DATA, 1, 1, &pong(OURS)),
            frame(HEADERS, 5, 3, b""),
            frame(RST_STREAM, 0, 1, &[0; 4]),
            pong(OURS),
        ]
        .concat();
        ([before.clone(), pong(OURS), after.clone()].concat(), [before, after].concat())
    }

    #[test]
    fn the_acknowledgement_is_taken_out_wherever_the_bytes_are_split() {
        let (with, without) = sessions();
        for first in 0..=with.len() {
            for second in (first..=with.len()).step_by(7) {
                let chunks = [&with[..first], &with[first..second], &with[second..]];
                let (out, answered, streams) = run(&chunks).unwrap();
                assert_eq!(out, without, "split at {first} and {second}");
                assert!(answered);
                assert_eq!(streams.open.iter().copied().collect::<Vec<_>>(), [3]);
            }
        }
        let bytes: Vec<&[u8]> = with.chunks(1).collect();
        assert_eq!(run(&bytes).unwrap().0, without);
    }

    #[test]
    fn an_acknowledgement_inside_another_frame_is_no_answer() {
        let session = [PREFACE.to_vec(), frame(DATA, 0, 1, &pong(OURS)), pong([7; 8])].concat();
        let (out, answered, _) = run(&[&session]).unwrap();
        assert_eq!(out, session);
        assert!(!answered);
    }

    #[test]
    fn what_is_not_http2_is_refused_at_its_first_wrong_byte() {
        assert_eq!(run(&[b"GET / HTTP/1.1\r\n"]).err(), Some(Malformed::Preface));
        assert_eq!(run(&[b"PRI", b" * HTTP/1"]).err(), Some(Malformed::Preface));
        let long = [&PREFACE[..], &[0, 0x40, 1, 0, 0, 0, 0, 0, 1]].concat();
        assert_eq!(run(&[&long]).err(), Some(Malformed::Length));
    }

    #[test]
    fn more_streams_than_can_be_answered_are_refused() {
        let mut session = PREFACE.to_vec();
        for stream in 0..=u32::try_from(MAX_OPEN_STREAMS).unwrap() {
            session.extend(frame(HEADERS, 5, stream * 2 + 1, b""));
        }
        assert_eq!(run(&[&session]).err(), Some(Malformed::Streams));
    }

    #[test]
    fn a_ping_is_never_put_inside_a_frame() {
        let frames = [frame(4, 0, 0, &[0; 12]), frame(4, 1, 0, b""), frame(HEADERS, 5, 1, b"hey")];
        let all = frames.concat();
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |at, frame| {
                *at += frame.len();
                Some(*at)
            })
            .collect();
        for split in 0..all.len() {
            let (mut outbound, mut streams) = (Outbound::default(), Streams::default());
            outbound.wrote(&all[..split], &mut streams);
            assert_eq!(outbound.at_boundary(), split == 0 || ends.contains(&split));
            let next = ends.iter().find(|end| **end > split).unwrap();
            assert_eq!(split + outbound.until_boundary(&all[split..]), *next);
            assert!(outbound.until_boundary(&all[split..split + 1]) == 1);
        }
    }

    #[test]
    fn the_last_frame_of_an_answer_closes_its_stream() {
        let mut streams = Streams::default();
        streams.opened(1).unwrap();
        streams.opened(3).unwrap();
        let mut outbound = Outbound::default();
        assert!(!outbound.wrote(&frame(HEADERS, 4, 1, b"head"), &mut streams));
        assert!(outbound.wrote(&frame(HEADERS, 5, 1, b"trailers"), &mut streams));
        assert!(!streams.is_empty());
        assert!(outbound.wrote(&frame(RST_STREAM, 0, 3, &[0; 4]), &mut streams));
        assert!(streams.is_empty());
        streams.opened(3).unwrap();
        assert!(streams.is_empty(), "trailers open no stream");
    }
}
