//! The configuration file as it is written. Unknown keys are errors; what can
//! be judged by itself (durations, paths, names) is judged here, so that the
//! error has a line.

use super::duration::parse_duration;
use super::error::{ConfigError, near_miss};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) agent: RawAgent,
    pub(super) limits: RawLimits,
    /// Read by [`document`](super::document), as are the credentials.
    pub(super) issuers: serde::de::IgnoredAny,
    pub(super) credentials: serde::de::IgnoredAny,
}

/// `[agent]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAgent {
    pub(super) mode: Option<RawMode>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) socket: Option<AbsolutePath>,
    pub(super) admin_socket: Option<AbsolutePath>,
    pub(super) admin_group: Option<Spanned<String>>,
    pub(super) policy_dir: Option<AbsolutePath>,
    pub(super) store_dir: Option<AbsolutePath>,
    pub(super) log_dir: Option<AbsolutePath>,
    pub(super) identity: Option<AbsolutePath>,
    pub(super) pinentry: Option<AbsolutePath>,
    pub(super) plugin_dirs: Option<Vec<AbsolutePath>>,
    pub(super) lock_after_idle: Option<Span>,
    pub(super) genuine_clients: Option<Vec<AbsolutePath>>,
    pub(super) enrolled_clients: Option<Vec<AbsolutePath>>,
    pub(super) isolated_uids: Option<Spanned<Vec<u32>>>,
    pub(super) enforced_labels: Option<Spanned<Vec<String>>>,
    pub(super) enforced_ima: Option<Spanned<bool>>,
    pub(super) listed_libraries: Option<Spanned<Vec<String>>>,
    pub(super) reflection: Option<bool>,
    pub(super) stop_timeout: Option<Span>,
    pub(super) default_ttl: Option<Spanned<Span>>,
    pub(super) max_ttl: Option<Spanned<Span>>,
}

/// `mode = "host"` or `"user"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMode {
    Host,
    User,
}

/// `[limits]`: what is left out keeps its built-in value.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connections: Option<Spanned<u32>>,
    pub(super) connections_per_uid: Option<Spanned<u32>>,
    pub(super) connects_per_second: Option<Spanned<u32>>,
    pub(super) requests_per_second: Option<Spanned<u32>>,
    pub(super) denials_logged_per_second: Option<Spanned<u32>>,
    pub(super) leases: Option<Spanned<u32>>,
    pub(super) leases_per_uid: Option<Spanned<u32>>,
    pub(super) message_bytes: Option<Spanned<usize>>,
    pub(super) challenge_timeout: Option<Span>,
    pub(super) write_timeout: Option<Span>,
    pub(super) hash_bytes: Option<Spanned<u64>>,
    pub(super) hash_timeout: Option<Span>,
    pub(super) hashes_per_minute: Option<Spanned<u32>>,
    pub(super) secret_bytes: Option<Spanned<usize>>,
    pub(super) segment_bytes: Option<Spanned<u64>>,
    pub(super) longest_ttl: Option<Span>,
}

/// What every `[credentials."db/orders"]` has, whoever issues it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    #[serde(default, rename = "issuer")]
    _issuer: Option<String>,
    pub(super) owner: Spanned<String>,
    pub(super) purpose: Spanned<String>,
    #[serde(default)]
    pub(super) default_ttl: Option<Spanned<Span>>,
    #[serde(default)]
    pub(super) max_ttl: Option<Spanned<Span>>,
}

/// A path that begins with `/`.
#[derive(Clone, Debug)]
pub(super) struct AbsolutePath(pub(super) PathBuf);

impl RawCredential {
    /// Its keys; all others belong to the issuer.
    pub(super) const KEYS: &'static [&'static str] =
        &["issuer", "owner", "purpose", "default_ttl", "max_ttl"];
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.is_absolute() {
            return Ok(Self(path));
        }
        Err(D::Error::custom(format!(
            "{:?} is a relative path; write it from / on, since it would mean another file for each starter",
            path.display().to_string()
        )))
    }
}

/// A duration above zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) std::time::Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = parse_duration(&text).map_err(D::Error::custom)?;
        if span.is_zero() {
            return Err(D::Error::custom("a duration of zero would end everything at once"));
        }
        Ok(Self(span))
    }
}

/// A text and where it came from, for errors with a line.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Reads the file's text.
    pub(super) fn parse(self) -> Result<RawFile, ConfigError> {
        self.read()
    }

    /// Reads any text of this kind.
    fn read<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| self.toml(&error))
    }

    /// What the parser said, at its place.
    pub(super) fn toml(self, error: &toml::de::Error) -> ConfigError {
        self.error(error.span().unwrap_or(0..0), with_suggestion(error.message()))
    }

    /// An error at that place.
    pub(super) fn error(self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError::Text {
            path: self.path.to_owned(),
            line,
            column: before[line_start..].chars().count() + 1,
            source_line: self.text.lines().nth(line - 1).unwrap_or_default().to_owned(),
            message: message.into(),
        }
    }
}

/// Reads a TOML text of another kind than the configuration, whose errors look
/// the same: file, line, column, and the name that was probably meant.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    Source { path, text }.read()
}

/// An error at that place of a text.
#[must_use]
pub fn error_at(path: &Path, text: &str, span: Range<usize>, message: String) -> ConfigError {
    Source { path, text }.error(span, message)
}

/// serde's "unknown field `a`, expected one of `b`, `c`", with the near miss in
/// front of the list.
pub(super) fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !(message.starts_with("unknown field") || message.starts_with("unknown variant")) {
        return message.trim_end().to_owned();
    }
    let kind = if message.starts_with("unknown field") { "key" } else { "value" };
    let Some(written) = quoted.next() else { return message.trim_end().to_owned() };
    let known: Vec<&str> = quoted.collect();
    match near_miss(written, known.iter().copied()) {
        Some(name) => format!("unknown {kind} `{written}`; did you mean `{name}`?"),
        None => format!("unknown {kind} `{written}`; known here: {}", known.join(", ")),
    }
}
