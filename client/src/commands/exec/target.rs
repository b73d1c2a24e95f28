//! The program that `jsi exec` will become: found, opened and measured before
//! anything is asked for, and run so that what is claimed of it is true.
//!
//! Nobody but root can change root's file in root's directories: it is measured
//! where it is and run by its path, as every program expects. Any other file
//! could be written between measuring and running. By default it is run by its
//! path all the same, and no digest is claimed; [`Target::sealed`] and
//! [`Target::script`] copy it into a sealed memory file, measure the copy, and
//! run that.

mod copy;
mod execute;
mod fixed;
mod interpreter;
mod measured;
mod running;
mod search;
mod shebang;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::plan::scrub;
use copy::For;
use execute::{execute, unchanged};
use interpreter::Interpreter;
use jsi_client::v1::TargetClaim;
pub(in crate::commands) use measured::measure;
use measured::{MAX_HASHED, digest, head, named, short, stands_fixed};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use search::{Opened, search};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Not executable; as the shell says it.
const CANNOT_RUN: u8 = 126;
/// Not there; as the shell says it.
const NOT_FOUND: u8 = 127;
/// Where a script that runs from a copy finds the path it was copied from.
const SCRIPT_VARIABLE: &str = "JSI_SCRIPT";
/// An interpreter that follows the script's path to where it leads, which from a
/// copy is nowhere, and what keeps it from that.
const FOLLOWS: (&str, &str) = ("node", "--preserve-symlinks-main");
/// Set-user-ID and set-group-ID, which a copy does not have.
const SET_ID: u32 = 0o6000;

/// A program, and what it was when it was looked at.
pub(in crate::commands) struct Target {
    /// The file that was named, with all links resolved.
    path: PathBuf,
    program: Program,
    /// `None`: the words as they are given.
    script: Option<Script>,
    claim: TargetClaim,
}

/// What is executed.
enum Program {
    /// The file at that path, as long as it is still this one.
    At(PathBuf, Box<Metadata>),
    /// A sealed copy.
    Copy(File),
}

/// How an interpreter is called for a script.
struct Script {
    name: OsString,
    arguments: Vec<OsString>,
    /// The path that it is to read.
    path: OsString,
    /// What that path leads to, where it is a copy.
    copy: Option<File>,
}

impl Target {
    /// Finds a program as execvp would; measures it where it is root's.
    pub(in crate::commands) fn find(
        program: &OsStr,
        path: Option<&OsStr>,
    ) -> Result<Self, Failure> {
        let (found, opened) = search(program, path)?;
        Self::as_it_is(&opened, path).map_err(|error| cannot_run(&found, &error))
    }

    /// The same, so that it runs as it is measured, whoever's it is.
    pub(in crate::commands) fn sealed(
        program: &OsStr,
        path: Option<&OsStr>,
    ) -> Result<Self, Failure> {
        let (found, opened) = search(program, path)?;
        let kept = Self::as_it_is(&opened, path).map_err(|error| cannot_run(&found, &error))?;
        if kept.claim.sealed {
            return Ok(kept);
        }
        Self::copied(&found, &opened, path)
    }

    /// A script that runs as it is measured. It need not be executable.
    pub(in crate::commands) fn script(file: &Path, path: Option<&OsStr>) -> Result<Self, Failure> {
        let opened = Opened::to_read(file).map_err(|error| cannot_run(file, &error))?;
        let head = opened.bytes().and_then(|bytes| head(bytes.as_ref()));
        if shebang::parse(&head.map_err(|error| cannot_run(file, &error))?).is_none() {
            let shown = file.display();
            return Err(Failure::new(format!("{shown} has no #! line that says what runs it"))
                .code(CANNOT_RUN)
                .advise(format!("name the interpreter yourself: jsi exec … -- sh {shown}")));
        }
        Self::copied(file, &opened, path)
    }

    /// What becomes of this process, under the name it was called by. Variables
    /// that let others' code in are taken away unless `keep_env`.
    pub(in crate::commands) fn command(&self, words: &[OsString], keep_env: bool) -> Command {
        // A copy is executed by its descriptor, and not by this name.
        let program = match &self.program {
            Program::At(path, _) => path,
            Program::Copy(_) => &self.path,
        };
        let mut command = Command::new(program);
        if let Some((name, rest)) = self.words(words).split_first() {
            command.arg0(name).args(rest);
        }
        if !keep_env {
            for name in scrub::dangerous(std::env::vars_os().map(|(name, _)| name)) {
                command.env_remove(name);
            }
        }
        match &self.script {
            Some(Script { copy: Some(_), .. }) => command.env(SCRIPT_VARIABLE, &self.path),
            _ => command.env_remove(SCRIPT_VARIABLE),
        };
        command
    }

    /// The measurement, for the agent.
    pub(in crate::commands) fn claim(&self) -> TargetClaim {
        self.claim.clone()
    }

    /// Executes it, with what `command` says of its environment. What comes back
    /// is why that could not be done.
    pub(in crate::commands) fn become_it(
        &self,
        command: &mut Command,
        words: &[OsString],
    ) -> Failure {
        if let Some(Script { copy: Some(copy), .. }) = &self.script
            && let Err(error) = fcntl(copy, FcntlArg::F_SETFD(FdFlag::empty()))
        {
            return cannot_run(&self.path, &error.into());
        }
        match &self.program {
            Program::At(path, seen) => match unchanged(path, seen) {
                Ok(()) => cannot_run(path, &command.exec()),
                Err(failure) => failure,
            },
            Program::Copy(copy) => {
                let error = execute(copy, &self.words(words), command);
                cannot_run(&self.path, &error)
            }
        }
    }

    /// What it is called with.
    fn words(&self, given: &[OsString]) -> Vec<OsString> {
        let Some(script) = &self.script else { return given.to_vec() };
        let mut words = vec![script.name.clone()];
        words.extend(script.arguments.iter().cloned());
        if script.copy.is_some() && Path::new(&script.name).ends_with(FOLLOWS.0) {
            words.push(FOLLOWS.1.into());
        }
        words.push(script.path.clone());
        words.extend(given.iter().skip(1).cloned());
        words
    }

    /// All from the one file that is open: a name could lead elsewhere the next
    /// time.
    fn as_it_is(opened: &Opened, search: Option<&OsStr>) -> io::Result<Self> {
        let (path, seen) = (opened.link().read_link()?, opened.file.metadata()?);
        let named = named(&path, &seen);
        let plain = |claim| {
            let program = Program::At(path.clone(), Box::new(seen.clone()));
            Self { path: path.clone(), program, script: None, claim }
        };
        if !stands_fixed(&path, &seen) {
            return Ok(plain(named));
        }
        // A program may be executable and yet unreadable: no digest then.
        let Some(bytes) = opened.bytes()? else {
            return Ok(plain(TargetClaim { sealed: true, ..named }));
        };
        let digest = digest(&bytes)?;
        let interpreter = match shebang::parse(&head(Some(&bytes))?) {
            None => return Ok(plain(TargetClaim { sealed: true, digest, ..named })),
            Some(line) => line.and_then(|line| Interpreter::of(&line, search)),
        };
        // What others have a say in is run as ever, and nothing is claimed of it.
        let interpreter = match interpreter {
            Ok(interpreter) if interpreter.is_roots => interpreter,
            _ => return Ok(plain(named)),
        };
        let claim = TargetClaim { sealed: true, digest: digest.clone(), ..named };
        let claim = interpreter.claimed(claim, digest, interpreter.digest()?);
        let program = Program::At(interpreter.path.clone(), Box::new(interpreter.metadata()?));
        let script = interpreter.script(path.clone().into_os_string(), None);
        Ok(Self { path, program, script: Some(script), claim })
    }

    /// Copies whatever others could change.
    fn copied(found: &Path, opened: &Opened, search: Option<&OsStr>) -> Result<Self, Failure> {
        let fault = |error: io::Error| cannot_run(found, &error);
        let cannot = |why: &str| {
            Failure::new(format!("cannot seal {}: {why}", found.display())).code(CANNOT_RUN)
        };
        let path = opened.link().read_link().map_err(fault)?;
        let seen = opened.file.metadata().map_err(fault)?;
        let Some(bytes) = opened.bytes().map_err(fault)? else {
            return Err(cannot("it can be executed but not read"));
        };
        // A script of root's is measured, and read, where it is.
        let is_fixed = stands_fixed(&path, &seen);
        let (text, is_script) = {
            let is_script = shebang::parse(&head(Some(&bytes)).map_err(fault)?).is_some();
            let what_for = if is_script { For::Reading } else { For::Running };
            let copy = |from: File| copy::sealed(from, &short(&path), what_for, MAX_HASHED);
            let text = if is_fixed { Ok(bytes) } else { copy(bytes) };
            (text.map_err(|error| cannot(&error.to_string()))?, is_script)
        };
        let digest = digest(&text).map_err(fault)?;
        let named = TargetClaim { sealed: true, ..named(&path, &seen) };
        if !is_script {
            if seen.mode() & SET_ID != 0 {
                return Err(cannot("a copy would not be set-user-ID or set-group-ID"));
            }
            let claim = TargetClaim { digest, ..named };
            return Ok(Self { path, program: Program::Copy(text), script: None, claim });
        }
        // What was copied says what runs it, not what the file says by now.
        let line = shebang::parse(&head(Some(&text)).map_err(fault)?)
            .unwrap_or_else(|| Err("it changed while it was copied".to_owned()));
        let interpreter = line.and_then(|line| Interpreter::of(&line, search));
        let interpreter = interpreter.map_err(|why| cannot(&why))?;
        let (program, measured) = interpreter.program().map_err(|why| cannot(&why))?;
        let claim = if interpreter.is_roots {
            TargetClaim { digest: digest.clone(), ..named }
        } else {
            named
        };
        let claim = interpreter.claimed(claim, digest, measured);
        let (read, copy) = if is_fixed {
            (path.clone().into_os_string(), None)
        } else {
            (format!("/dev/fd/{}", text.as_raw_fd()).into(), Some(text))
        };
        Ok(Self { path, program, script: Some(interpreter.script(read, copy)), claim })
    }
}

/// The failure that execution of a file gave.
pub(in crate::commands) fn cannot_run(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    let failure = Failure::new(format!("cannot run {}: {error}", path.display())).code(code);
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return failure.advise("its variables are too long together: hand long ones over by --fd");
    }
    failure
}
