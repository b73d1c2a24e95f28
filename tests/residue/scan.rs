//! Looking for a secret in another process's memory.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::iter::Sum;
use std::os::unix::fs::FileExt;

/// Bytes of the fragments that are looked for; a shorter secret is its own.
const WINDOW: usize = 16;

/// Bytes that are passed over at once where all of them are zero: no byte of a
/// secret is.
const PAGE: usize = 4096;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// What to look for.
pub(crate) struct Needle {
    secret: Vec<u8>,
    /// The secret cut into pieces of [`WINDOW`]: every fragment of twice that
    /// length holds one of them.
    windows: HashSet<Vec<u8>>,
    /// Bytes of each piece.
    window: usize,
    /// The first two bytes of all windows, so that most of memory is passed quickly.
    first: Vec<bool>,
}

/// How many copies were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    /// The whole secret.
    pub(crate) whole: usize,
    /// Its 16-byte pieces, those inside whole copies included.
    pub(crate) partial: usize,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.whole, self.partial))
    }
}

impl Sum for Copies {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            whole: sum.whole + one.whole,
            partial: sum.partial + one.partial,
        })
    }
}

impl Needle {
    pub(crate) fn new(secret: &[u8]) -> Self {
        assert!(secret.len() >= 8 && !secret.contains(&0), "such a secret is no needle");
        let window = WINDOW.min(secret.len());
        let windows: HashSet<_> = secret.chunks_exact(window).map(<[u8]>::to_vec).collect();
        let mut first = vec![false; 1 << 16];
        windows.iter().for_each(|w| first[pair(w)] = true);
        Self { secret: secret.to_vec(), windows, window, first }
    }

    /// Counts copies in every mapping that can be read. Pages that the kernel
    /// shows to nobody (memfd_secret, PROT_NONE) are passed over: an attacker
    /// with root and /proc/PID/mem reads them as little.
    ///
    /// # Errors
    /// The process is gone, or its memory is closed to us.
    pub(crate) fn copies_in(&self, pid: u32) -> std::io::Result<Copies> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut copies = Copies::default();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let range = words.next().unwrap_or_default();
            if line.contains("[vvar") || line.contains("[vsyscall]") {
                continue;
            }
            let Some((start, end)) = range.split_once('-') else { continue };
            let start = u64::from_str_radix(start, 16).unwrap();
            let end = u64::from_str_radix(end, 16).unwrap();
            self.scan(&memory, start, end, &mut copies);
        }
        Ok(copies)
    }

    /// Reads through protections, PROT_NONE too: ptrace access does.
    fn scan(&self, memory: &File, start: u64, end: u64, copies: &mut Copies) {
        let overlap = self.secret.len() - 1;
        let mut carried: Vec<u8> = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let Ok(read) = memory.read_at(&mut buffer[..wanted], at) else {
                carried.clear();
                at += 4096;
                continue;
            };
            if read == 0 {
                break;
            }
            self.search(&mut carried, &buffer[..read], overlap, copies);
            at += read as u64;
        }
    }

    fn search(&self, carried: &mut Vec<u8>, new: &[u8], overlap: usize, copies: &mut Copies) {
        let old = carried.len();
        carried.extend_from_slice(new);
        let mut page = 0;
        // Windows that end in what is new; whole secrets are counted where they end.
        while page < carried.len() {
            let end = (page + PAGE).min(carried.len());
            if carried[page..end] != [0; PAGE][..end - page] {
                self.search_page(carried, page, end, old, copies);
            }
            page = end;
        }
        let keep = carried.len().saturating_sub(overlap);
        carried.drain(..keep);
    }

    fn search_page(&self, text: &[u8], from: usize, to: usize, old: usize, copies: &mut Copies) {
        let last = self.secret.len();
        for at in from..to {
            let Some(window) = text.get(at..at + self.window) else { break };
            if !self.first[pair(window)] || !self.windows.contains(window) {
                continue;
            }
            if at + self.window > old {
                copies.partial += 1;
            }
            if at + last > old && text.get(at..at + last) == Some(&self.secret[..]) {
                copies.whole += 1;
            }
        }
    }
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}
