//! What `jsi exec` says that it will become.

use serde::{Deserialize, Serialize};

/// A program that the caller says it will become, as far as that can be true:
/// what could be another by the time that it runs is no fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Absolute path of the file that was named, links resolved.
    pub exe: String,
    /// SHA-256 of that file, lower-case hex, where these bytes and root alone
    /// decide what runs; else empty.
    pub digest: String,
    /// Of a script: SHA-256 of its text; else empty.
    pub script_digest: String,
    /// Of a script: path of what runs it; else empty.
    pub interpreter: String,
    /// SHA-256 of that.
    pub interpreter_digest: String,
    /// Device and inode of the file that was named, as the caller saw it.
    pub file: Option<(u64, u64)>,
    /// Why its path counts for nothing; `None`: it counts.
    pub unseen: Option<String>,
    /// Why what runs may be something else than what was measured; `None`: it cannot.
    pub unsealed: Option<String>,
}

impl Target {
    /// A program of that path and digest, which cannot change. Without a digest
    /// it was not measured.
    #[must_use]
    pub fn measured(exe: &str, digest: &str) -> Self {
        Self { exe: exe.to_owned(), digest: digest.to_owned(), ..Self::default() }
    }

    /// Takes away all that rests on what the caller saw.
    #[must_use]
    pub fn doubted(self, why: &str) -> Self {
        Self { unseen: Some(why.to_owned()), ..self.open(why) }
    }

    /// Takes away what rests on nobody's changing the file meanwhile.
    #[must_use]
    pub fn open(self, why: &str) -> Self {
        let Self { exe, file, unseen, .. } = self;
        Self { exe, file, unseen, unsealed: Some(why.to_owned()), ..Self::default() }
    }

    /// The facts that exist and could not be established: attribute of
    /// `context`, and why.
    pub(super) fn unreadable(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(why) = &self.unseen {
            found.push(("target.exe", why.clone()));
        }
        if let Some(why) = &self.unsealed {
            for attribute in [
                "target.digest",
                "target.script_digest",
                "target.interpreter",
                "target.interpreter_digest",
            ] {
                found.push((attribute, why.clone()));
            }
        }
        found
    }

    /// Those that are established, by their names in the schema.
    pub(super) fn known(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let exe = if self.unseen.is_none() { self.exe.as_str() } else { "" };
        [
            ("exe", exe),
            ("digest", self.digest.as_str()),
            ("script_digest", self.script_digest.as_str()),
            ("interpreter", self.interpreter.as_str()),
            ("interpreter_digest", self.interpreter_digest.as_str()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
    }
}
