//! What runs a script.

use super::copy::{self, For};
use super::measured::{MAX_HASHED, digest, head, short, stands_fixed};
use super::search::{Opened, search};
use super::shebang::{self, Line};
use super::{Program, Script, fixed};
use jsi_client::v1::TargetClaim;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::path::PathBuf;

/// What runs a script.
pub(super) struct Interpreter {
    opened: Opened,
    pub(super) path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
    /// Only root has a say in which program it is.
    pub(super) is_roots: bool,
}

impl Interpreter {
    pub(super) fn of(line: &Line, path: Option<&OsStr>) -> Result<Self, String> {
        let (asked, name, arguments) = match line {
            Line::Runs { program, name, arguments } => (program.as_os_str(), name, arguments),
            Line::Looks { name, arguments } => (name.as_os_str(), name, arguments),
        };
        let shown = asked.display();
        let (found, opened) = search(asked, path)
            .map_err(|failure| format!("its interpreter {shown}: {}", failure.message()))?;
        let fault = |error: io::Error| format!("its interpreter {shown}: {error}");
        let path = opened.link().read_link().map_err(fault)?;
        let bytes = opened.bytes().map_err(fault)?;
        let Some(bytes) = bytes else {
            return Err(format!("its interpreter {shown} can be executed but not read"));
        };
        if shebang::parse(&head(Some(&bytes)).map_err(fault)?).is_some() {
            return Err(format!(
                "its interpreter {} is itself a script; have its first line name a program",
                path.display()
            ));
        }
        let seen = opened.file.metadata().map_err(fault)?;
        let is_roots = fixed::is_roots_as_named(&found) && stands_fixed(&path, &seen);
        let (name, arguments) = (name.clone(), arguments.clone());
        Ok(Self { opened, path, name, arguments, is_roots })
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.opened.file.metadata()
    }

    pub(super) fn digest(&self) -> io::Result<String> {
        self.opened.bytes()?.as_ref().map_or_else(|| Ok(String::new()), digest)
    }

    /// What is executed, and its digest.
    pub(super) fn program(&self) -> Result<(Program, String), String> {
        let fault = |error: io::Error| format!("its interpreter {}: {error}", self.path.display());
        let seen = self.metadata().map_err(fault)?;
        // Whichever it is, this one cannot be changed.
        if stands_fixed(&self.path, &seen) {
            let measured = self.digest().map_err(fault)?;
            return Ok((Program::At(self.path.clone(), Box::new(seen)), measured));
        }
        let bytes = self.opened.bytes().map_err(fault)?;
        let bytes = bytes.ok_or_else(|| fault(io::ErrorKind::PermissionDenied.into()))?;
        let copy = copy::sealed(bytes, &short(&self.path), For::Running, MAX_HASHED);
        let copy = copy.map_err(fault)?;
        let measured = digest(&copy).map_err(fault)?;
        Ok((Program::Copy(copy), measured))
    }

    pub(super) fn claimed(
        &self,
        claim: TargetClaim,
        text: String,
        measured: String,
    ) -> TargetClaim {
        TargetClaim {
            script_digest: text,
            interpreter: self.path.to_string_lossy().into_owned(),
            interpreter_digest: measured,
            ..claim
        }
    }

    pub(super) fn script(&self, path: OsString, copy: Option<File>) -> Script {
        Script { name: self.name.clone(), arguments: self.arguments.clone(), path, copy }
    }
}
