//! One stream, in pieces as they come.

use super::automaton::{Automaton, ROOT};
use std::rc::Rc;
use zeroize::{Zeroize, Zeroizing};

/// So much of what may become a value is shown while nothing more comes, in
/// bytes, so that a question is seen. It is less than any value has.
const SHOWN_WHILE_IDLE: usize = super::SHORTEST - 1;
/// A beginning of a value that the stream ends with is taken out from this
/// length on, in bytes, if it is also half of the value.
const TELLING: usize = 8;

/// Takes values out of one stream. Which of several counts does not depend on
/// the pieces in which the stream comes: the one that begins first, and of
/// those the longest.
pub(crate) struct Redactor {
    automaton: Rc<Automaton>,
    /// What has been read and not been given out, wiped wherever it leaves.
    held: Zeroizing<Vec<u8>>,
    /// So much of `held` was shown already.
    shown: usize,
    /// So much of `held` the automaton has read.
    read: usize,
    state: u32,
    found: Option<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    label: u32,
}

impl Redactor {
    /// For pieces of at most `piece` bytes.
    pub(crate) fn new(automaton: Rc<Automaton>, piece: usize) -> Self {
        let room = piece + automaton.longest() + 1;
        let held = Zeroizing::new(Vec::with_capacity(room));
        Self { automaton, held, shown: 0, read: 0, state: ROOT, found: None }
    }

    /// Looks for other values from here on; what is held is looked at anew.
    pub(crate) fn replace(&mut self, automaton: Rc<Automaton>, out: &mut Vec<u8>) {
        let mut held = Zeroizing::new(Vec::with_capacity(
            self.held.capacity().max(automaton.longest() + 1 + self.held.len()),
        ));
        held.extend_from_slice(&self.held);
        (self.held, self.automaton) = (held, automaton);
        (self.read, self.state, self.found) = (0, ROOT, None);
        self.advance(out);
    }

    /// Takes a piece; appends to `out` what can be given out.
    pub(crate) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        self.advance(out);
    }

    fn advance(&mut self, out: &mut Vec<u8>) {
        while let Some(&byte) = self.held.get(self.read) {
            self.state = self.automaton.step(self.state, byte);
            self.read += 1;
            if let Some((length, label)) = self.automaton.complete(self.state) {
                let start = self.read - length;
                if self.found.is_none_or(|found| start <= found.start) {
                    self.found = Some(Found { start, end: self.read, label });
                }
            }
            let open = self.open();
            if let Some(found) = self.found.filter(|found| open > found.start) {
                self.take_out(found, out);
            }
        }
        self.give(self.open(), out);
    }

    /// Where the earliest thing begins that may still come about.
    fn open(&self) -> usize {
        self.read - self.automaton.depth(self.state) as usize
    }

    /// Nothing more comes for now.
    pub(crate) fn idle(&mut self, out: &mut Vec<u8>) {
        if self.found.is_none() && self.held.len() <= SHOWN_WHILE_IDLE {
            out.extend_from_slice(self.held.get(self.shown..).unwrap_or_default());
            self.shown = self.held.len();
        }
    }

    /// Something is held that [`Redactor::idle`] would show.
    pub(crate) fn is_waiting(&self) -> bool {
        self.found.is_none() && (self.shown + 1..=SHOWN_WHILE_IDLE).contains(&self.held.len())
    }

    /// Nothing more comes at all.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        while let Some(found) = self.found {
            self.take_out(found, out);
            self.advance(out);
        }
        let (goal, label) = self.automaton.goal(self.state);
        if self.held.len() >= TELLING && self.held.len() * 2 >= goal {
            out.extend_from_slice(self.automaton.label(label).as_bytes());
            self.drop_held(self.held.len());
        } else {
            self.give(self.held.len(), out);
        }
        (self.read, self.state) = (0, ROOT);
    }

    /// Gives out what stands before it, and its label; reads on behind it.
    fn take_out(&mut self, found: Found, out: &mut Vec<u8>) {
        self.give(found.start, out);
        out.extend_from_slice(self.automaton.label(found.label).as_bytes());
        self.drop_held(found.end - found.start);
        (self.read, self.state, self.found) = (0, ROOT, None);
    }

    fn give(&mut self, count: usize, out: &mut Vec<u8>) {
        if let Some(text) = self.held.get(self.shown..count) {
            out.extend_from_slice(text);
        }
        self.drop_held(count);
    }

    fn drop_held(&mut self, count: usize) {
        let left = self.held.len() - count;
        self.held.copy_within(count.., 0);
        if let Some(rest) = self.held.get_mut(left..) {
            rest.zeroize();
        }
        self.held.truncate(left);
        self.shown = self.shown.saturating_sub(count);
        self.read -= count.min(self.read);
        self.found = self.found.map(|found| Found {
            start: found.start - count.min(found.start),
            end: found.end - count.min(found.end),
            ..found
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secrets;
    use super::*;
    use proptest::prelude::*;

    fn secrets(values: &[(&str, &[u8])]) -> Rc<Automaton> {
        let mut secrets = Secrets::new();
        for (label, value) in values {
            secrets.add(label, Zeroizing::new(value.to_vec()));
        }
        secrets.compile()
    }

    fn whole(automaton: &Rc<Automaton>, text: &[u8]) -> Vec<u8> {
        in_pieces(automaton, &[text])
    }

    fn in_pieces(automaton: &Rc<Automaton>, pieces: &[&[u8]]) -> Vec<u8> {
        let longest = pieces.iter().map(|piece| piece.len()).max().unwrap_or_default();
        let mut redactor = Redactor::new(Rc::clone(automaton), longest);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| redactor.push(piece, &mut out));
        redactor.finish(&mut out);
        out
    }

    fn show(out: &[u8]) -> &str {
        std::str::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_is_replaced_by_its_name_and_the_rest_is_kept() {
        let found = secrets(&[("db/orders#password", b"hunter22"), ("api", b"hunter")]);
        let out = whole(&found, b"a hunter22 b hunter c hunte");
        assert_eq!(show(&out), "a [redacted db/orders#password] b [redacted api] c hunte");
    }

    #[test]
    fn the_first_to_begin_counts_and_of_those_the_longest() {
        let found = secrets(&[("one", b"abcdef"), ("two", b"cdefghij"), ("three", b"abcd")]);
        assert_eq!(show(&whole(&found, b"abcdefghij")), "[redacted one]ghij");
        assert_eq!(show(&whole(&found, b"abcdeXcdefghij")), "[redacted three]eX[redacted two]");
    }

    #[test]
    fn a_question_is_shown_while_nothing_comes_and_the_value_is_not() {
        let found = secrets(&[("x", b": secret")]);
        let mut redactor = Redactor::new(found, 64);
        let mut out = Vec::new();
        redactor.push(b"Password:", &mut out);
        assert_eq!(show(&out), "Password");
        assert!(redactor.is_waiting());
        redactor.idle(&mut out);
        assert_eq!(show(&out), "Password:");
        assert!(!redactor.is_waiting());
        redactor.push(b" ", &mut out);
        redactor.idle(&mut out);
        redactor.push(b"se", &mut out);
        redactor.idle(&mut out);
        assert_eq!(show(&out), "Password: ", "four bytes are not shown");
        redactor.push(b"cret!", &mut out);
        assert_eq!(show(&out), "Password: [redacted x]!");
    }

    #[test]
    fn what_was_shown_while_idle_is_not_shown_twice() {
        let found = secrets(&[("x", b"abcdefgh")]);
        let mut redactor = Redactor::new(found, 64);
        let mut out = Vec::new();
        redactor.push(b"1ab", &mut out);
        redactor.idle(&mut out);
        redactor.push(b"abc", &mut out);
        redactor.idle(&mut out);
        redactor.push(b"X", &mut out);
        redactor.finish(&mut out);
        assert_eq!(show(&out), "1ababcX");
    }

    #[test]
    fn the_greater_part_of_a_value_at_the_end_is_taken_out() {
        let found = secrets(&[("x", b"0123456789abcdef")]);
        assert_eq!(show(&whole(&found, b"<0123456")), "<0123456");
        assert_eq!(show(&whole(&found, b"<01234567")), "<[redacted x]");
    }

    #[test]
    fn new_values_are_looked_for_from_then_on() {
        let mut redactor = Redactor::new(secrets(&[("x", b"old-value")]), 64);
        let mut out = Vec::new();
        redactor.push(b"old-value old-", &mut out);
        redactor.replace(secrets(&[("x", b"old-value"), ("x", b"new-value")]), &mut out);
        redactor.push(b"value new-value", &mut out);
        redactor.finish(&mut out);
        assert_eq!(show(&out), "[redacted x] [redacted x] [redacted x]");
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        // Few letters, so that beginnings of values are common.
        proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(b'b'), Just(b'"'), any::<u8>()],
            0..60,
        )
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(b'b'), Just(b'/'), any::<u8>()],
            4..12,
        )
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            values in proptest::collection::vec(value(), 1..4),
            parts in proptest::collection::vec((text(), any::<prop::sample::Index>()), 1..5),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let named: Vec<_> = values.iter().map(|value| ("x", value.as_slice())).collect();
            let found = secrets(&named);
            let mut stream = Vec::new();
            for (text, which) in &parts {
                stream.extend_from_slice(text);
                let value: &Vec<u8> = which.get(&values);
                stream.extend_from_slice(value);
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let once = whole(&found, &stream);
            prop_assert_eq!(&in_pieces(&found, &pieces), &once);
            let bytes: Vec<_> = stream.chunks(1).collect();
            prop_assert_eq!(&in_pieces(&found, &bytes), &once);
        }

        #[test]
        fn no_form_of_a_value_comes_through(
            secret in "[!-~]{12,40}",
            before in "[ -~\n]{0,20}",
            after in "[ -~\n]{0,20}",
            idle in any::<bool>(),
        ) {
            let found = secrets(&[("x", secret.as_bytes())]);
            let bare = [before.as_bytes(), secret.as_bytes(), after.as_bytes()].concat();
            let forms = super::super::forms::of(secret.as_bytes());
            let mut stream = bare.clone();
            stream.extend_from_slice(data_encoding::BASE64.encode(&bare).as_bytes());
            stream.push(b' ');
            stream.extend_from_slice(data_encoding::BASE64URL.encode(&bare).as_bytes());
            stream.push(b' ');
            for form in &forms {
                stream.extend_from_slice(form);
            }
            let mut redactor = Redactor::new(found, 1);
            let mut out = Vec::new();
            for byte in stream.chunks(1) {
                redactor.push(byte, &mut out);
                if idle {
                    redactor.idle(&mut out);
                }
            }
            redactor.finish(&mut out);
            for form in forms.iter().filter(|form| form.len() >= 8) {
                let seen = out.windows(form.len()).any(|window| window == &***form);
                prop_assert!(!seen, "{:?}", String::from_utf8_lossy(&out));
            }
        }
    }
}
