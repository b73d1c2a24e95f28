//! Why the log cannot be opened, read or written.

use std::path::{Path, PathBuf};

/// Why the log cannot be opened or written. While any of these stands,
/// nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed. It stays so until the agent is started again.
    #[error("the log cannot be written ({path}: {error}); {remedy}, then start the agent again",
        path = path.display())]
    Failed {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        error: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The directory or a file in it cannot be used.
    #[error("the log cannot be opened ({path}: {error}); {remedy}", path = path.display())]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said, or what is wrong.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// Another agent writes it.
    #[error("another agent writes the log in {dir}; stop it, or set another log directory",
        dir = dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A record does not fit.
    #[error(
        "{0}; nothing is issued until the log is mended or moved away (jsi-agent audit verify)"
    )]
    Damaged(Damage),
    /// Written by a later version of the agent.
    #[error("{file}, line {line}: schema version {version} is newer than this agent's ({known}); \
        use a newer agent", file = file.display(), known = super::VERSION)]
    Newer {
        /// The segment.
        file: PathBuf,
        /// Counted from 1.
        line: u64,
        /// The record's `v`.
        version: u32,
    },
    /// Something secret has to be logged, and there is no journal key.
    #[error("no journal key is open, so what revocation needs cannot be sealed; unlock the store")]
    NoSealer,
    /// A fault of the agent itself.
    #[error("fault in the agent's log: {0}")]
    Bug(String),
}

/// The first record of a log that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line} (record {seq}): {why}", file = file.display())]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u64,
    /// The sequence number that the record there should have.
    pub seq: u64,
    /// What does not fit.
    pub why: String,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Whoever runs the agent.
    Operator,
    /// The agent's authors.
    Bug,
}

impl LogError {
    /// Who can mend it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Bug(_) => Blame::Bug,
            _ => Blame::Operator,
        }
    }

    pub(crate) fn unusable(path: &Path, error: &std::io::Error) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            error: error.to_string(),
            remedy: remedy(error).to_owned(),
        }
    }

    pub(crate) fn nothing_in(dir: &Path) -> Self {
        Self::Unusable {
            path: dir.to_owned(),
            error: "there is no log in it".to_owned(),
            remedy: "name the log's directory with --log, or start the agent first".to_owned(),
        }
    }

    pub(crate) fn failed(path: &Path, error: &std::io::Error) -> Self {
        Self::Failed { path: path.to_owned(), error: error.to_string(), remedy: remedy(error) }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull => "make room on that file system",
        Kind::QuotaExceeded => "raise the quota of the agent's user",
        Kind::FileTooLarge => "raise the limit on file size (RLIMIT_FSIZE) or segment_bytes",
        Kind::ReadOnlyFilesystem => "mount the file system writable",
        Kind::PermissionDenied => "give the agent's user write permission there",
        Kind::NotFound | Kind::NotADirectory => "make the directory (jsi-agent init does)",
        _ => "mend the storage",
    }
}
