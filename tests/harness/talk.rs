//! A program that the test talks with, line by line.

use crate::Program;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, ExitStatus};

/// A running program; killed and reaped when dropped.
pub struct Talk {
    child: Child,
    from: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it for a dialogue.
    #[must_use]
    pub fn talk(self) -> Talk {
        let mut child = self.spawn();
        let from = BufReader::new(child.stdout.take().unwrap());
        Talk { child, from }
    }
}

impl Talk {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its next line, without the newline; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.from.read_until(b'\n', &mut line).unwrap();
        String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned()
    }

    /// Reads until that line comes.
    #[track_caller]
    pub fn expect(&mut self, wanted: &str) {
        let line = self.line();
        assert_eq!(line, wanted, "the program said something else");
    }

    /// Reads lines until that one comes.
    #[track_caller]
    pub fn expect_eventually(&mut self, wanted: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the program ended without the line {wanted:?}");
            if line == wanted {
                return;
            }
        }
    }

    /// Reads until it has said `part`, which need not end its line: a question.
    /// Gives all that was read.
    #[track_caller]
    pub fn until(&mut self, part: &str) -> String {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(part) {
            let mut byte = [0];
            let length = self.from.read(&mut byte).unwrap();
            let so_far = String::from_utf8_lossy(&said);
            assert!(length == 1, "the program ended without saying {part:?}:\n{so_far}");
            said.push(byte[0]);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Writes a line to it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// Types keys on its terminal.
    pub fn keys(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys).unwrap();
        stdin.flush().unwrap();
    }

    /// Ends its input.
    pub fn hang_up(&mut self) {
        self.child.stdin = None;
    }

    /// All that it, and what it leaves behind, still writes.
    pub fn rest(&mut self) -> String {
        self.hang_up();
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        self.hang_up();
        self.child.wait().unwrap()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.kill();
    }
}
