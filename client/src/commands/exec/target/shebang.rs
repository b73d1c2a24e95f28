//! The first line of a script: what runs it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes of the first line that the kernel looks at (execve(2)).
pub(super) const LINE: usize = 256;

/// What the first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// This program, by this name, with these arguments before the script's path.
    Runs { program: PathBuf, name: OsString, arguments: Vec<OsString> },
    /// env(1) looks for that name in PATH.
    Looks { name: OsString, arguments: Vec<OsString> },
}

/// Reads the beginning of a file; `None`: it is no script.
///
/// # Errors
/// What it says is nothing that can be measured beforehand; in words.
pub(super) fn parse(head: &[u8]) -> Option<Result<Line, String>> {
    let rest = head.get(..LINE.min(head.len()))?.strip_prefix(b"#!")?;
    let line = match rest.iter().position(|b| *b == b'\n') {
        Some(end) => rest.get(..end)?,
        None if head.len() < LINE => rest,
        None => return Some(Err(format!("its first line is longer than {LINE} bytes"))),
    };
    let line = trimmed(line);
    let end = line.iter().position(|b| blank(*b)).unwrap_or(line.len());
    let (program, rest) = line.split_at_checked(end)?;
    if program.is_empty() {
        return Some(Err("its first line names no interpreter".to_owned()));
    }
    let (program, rest) = (Path::new(OsStr::from_bytes(program)), trimmed(rest));
    if !program.is_absolute() {
        return Some(Err(format!("its interpreter {} is no absolute path", program.display())));
    }
    if program.file_name() == Some(OsStr::new("env")) {
        return Some(looked_for(rest));
    }
    // The kernel gives all that follows as one argument.
    let arguments = if rest.is_empty() { Vec::new() } else { vec![word(rest)] };
    Some(Ok(Line::Runs { program: program.to_owned(), name: program.into(), arguments }))
}

/// What env(1) does with its one argument: a name, or `-S` and plain words.
fn looked_for(argument: &[u8]) -> Result<Line, String> {
    let split =
        [&b"-S"[..], b"--split-string="].iter().find_map(|flag| argument.strip_prefix(*flag));
    let words: Vec<&[u8]> = match split {
        None => vec![argument],
        Some(text) => text.split(|b| blank(*b)).filter(|word| !word.is_empty()).collect(),
    };
    let plain = |word: &&[u8]| !word.iter().any(|b| b"\\'\"$#".contains(b));
    let [name, arguments @ ..] = words.as_slice() else {
        return Err("its first line has env look for nothing".to_owned());
    };
    if split.is_some() && !words.iter().all(plain) {
        return Err("env -S in its first line has more than plain words".to_owned());
    }
    if name.is_empty() {
        return Err("its first line has env look for nothing".to_owned());
    }
    if name.starts_with(b"-") || name.contains(&b'=') {
        return Err("its first line has env do more than look for an interpreter".to_owned());
    }
    Ok(Line::Looks { name: word(name), arguments: arguments.iter().map(|it| word(it)).collect() })
}

fn word(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trimmed(line: &[u8]) -> &[u8] {
    let from = line.iter().position(|b| !blank(*b)).unwrap_or(line.len());
    let to = line.iter().rposition(|b| !blank(*b)).map_or(from, |last| last + 1);
    line.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(program: &str, arguments: &[&str]) -> Option<Result<Line, String>> {
        let arguments = arguments.iter().map(OsString::from).collect();
        Some(Ok(Line::Runs { program: program.into(), name: program.into(), arguments }))
    }

    fn looks(name: &str, arguments: &[&str]) -> Option<Result<Line, String>> {
        let arguments = arguments.iter().map(OsString::from).collect();
        Some(Ok(Line::Looks { name: name.into(), arguments }))
    }

    #[test]
    fn a_first_line_is_read_as_the_kernel_and_env_read_it() {
        for (text, expected) in [
            ("#!/bin/sh\necho", runs("/bin/sh", &[])),
            ("#! /bin/sh -e -x \t\n", runs("/bin/sh", &["-e -x"])),
            ("#!/bin/sh", runs("/bin/sh", &[])),
            ("#!/usr/bin/env python3\n", looks("python3", &[])),
            ("#!/usr/bin/env -S node --flag x\n", looks("node", &["--flag", "x"])),
            ("#!/usr/bin/env -Snode\n", looks("node", &[])),
            ("#!/usr/bin/env --split-string=perl -w\n", looks("perl", &["-w"])),
            // One word for env, blanks and all.
            ("#!/usr/bin/env python3 -u\n", looks("python3 -u", &[])),
            ("\x7fELF", None),
            ("# !/bin/sh", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_known_beforehand_is_said_to_be_so() {
        let long = format!("#!/bin/{}\n", "x".repeat(LINE));
        for (text, says) in [
            ("#!\n", "names no interpreter"),
            ("#!bin/sh\n", "absolute"),
            ("#!/usr/bin/env\n", "look for nothing"),
            ("#!/usr/bin/env -S\n", "look for nothing"),
            ("#!/usr/bin/env -i sh\n", "more than look"),
            ("#!/usr/bin/env -S -i sh\n", "more than look"),
            ("#!/usr/bin/env -S A=b sh\n", "more than look"),
            ("#!/usr/bin/env -S sh '-c x'\n", "plain words"),
            ("#!/usr/bin/env -S sh ${X}\n", "plain words"),
            (long.as_str(), "longer"),
        ] {
            let Some(Err(why)) = parse(text.as_bytes()) else { panic!("{text}") };
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
