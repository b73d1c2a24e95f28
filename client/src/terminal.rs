//! Asking a person.

use crate::failure::Failure;
use crate::hidden::{self, Answer};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use zeroize::Zeroizing;

/// Longest input taken from a pipe, in bytes: a secret and its JSON round it.
const MAX_INPUT: usize = 8 * jsi_proto::MAX_SECRET;

/// A person can be asked.
pub(crate) fn present() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    eprint_now(&format!("{question}: "));
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::new(format!("cannot read from the terminal: {error}")))?;
    Ok(line.trim().to_owned())
}

/// Asks for something secret, without echo, on the controlling terminal.
pub(crate) fn ask_secret(question: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match hidden::ask(question) {
        Ok(Answer::Line(line)) => Ok(line),
        Ok(Answer::Ended(code)) => Err(Failure::Quiet(code)),
        Err(error) => Err(Failure::new(format!("cannot read from the terminal: {error}"))
            .advise("give the value on standard input instead")),
    }
}

/// All of standard input. Of a fixed buffer, so that no growth leaves copies.
pub(crate) fn all_input() -> Result<Zeroizing<Vec<u8>>, Failure> {
    read_all(&mut io::stdin().lock())
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))
}

fn read_all(input: &mut dyn Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut pieces: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    let mut total = 0;
    loop {
        let mut piece = Zeroizing::new(vec![0; 64 * 1024]);
        let count = match input.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        piece.truncate(count);
        total += count;
        if total > MAX_INPUT {
            return Err(io::Error::other("it is longer than any secret may be (1 MiB)"));
        }
        pieces.push(piece);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(total));
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    Ok(whole)
}

/// Takes exactly one newline off the end, as `echo` and editors put it there.
pub(crate) fn strip_newline(value: &mut Zeroizing<Vec<u8>>) {
    if value.last() == Some(&b'\n') {
        value.pop();
    }
}

fn eprint_now(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes()); // the answer still counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_newline_is_taken_off() {
        for (given, kept) in [("a\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", ""), ("\n", "")] {
            let mut value = Zeroizing::new(given.as_bytes().to_vec());
            strip_newline(&mut value);
            assert_eq!(*value, kept.as_bytes());
        }
    }

    #[test]
    fn input_without_end_is_not_read_for_ever() {
        assert!(read_all(&mut io::repeat(1)).is_err());
        assert_eq!(read_all(&mut io::repeat(1).take(200_000)).unwrap().len(), 200_000);
    }
}
