//! Issuers that a configuration names: `[issuers.NAME]` with a `kind`, and what
//! credentials say of each kind. Every kind has a file of its own here; `store`
//! is built in and has no settings.

mod jwt;

pub use jwt::{Algorithm, ClaimTemplate, JwtCredential, JwtIssuerConfig};

use super::document::Section;
use super::error::{ConfigError, near_miss};
use crate::names::IssuerName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One configured issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerConfig {
    /// Mints signed tokens.
    Jwt(JwtIssuerConfig),
}

impl IssuerConfig {
    /// Its kind, as `kind = "…"` names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Jwt(_) => jwt::KIND,
        }
    }

    /// Longest life of what it issues; `None`: any.
    pub(super) fn max_ttl(&self) -> Option<Duration> {
        match self {
            Self::Jwt(jwt) => Some(jwt.max_ttl),
        }
    }

    /// The files that it writes outside the agent's own directories.
    fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Jwt(jwt) => jwt.jwks_file.iter().chain(&jwt.discovery_file).collect(),
        }
    }
}

/// What a credential says to its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSettings {
    /// A stored secret: nothing.
    Store,
    /// What goes into a token.
    Jwt(JwtCredential),
}

/// Every kind that can be configured.
const KINDS: [&str; 1] = [jwt::KIND];

/// Checks `[issuers]`.
pub(super) fn issuers(
    sections: Vec<Section<'_>>,
) -> Result<BTreeMap<IssuerName, IssuerConfig>, ConfigError> {
    let mut found: BTreeMap<IssuerName, IssuerConfig> = BTreeMap::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for section in sections {
        let name = IssuerName::new(&section.name).map_err(|e| section.error(e.to_string()))?;
        if name == IssuerName::store() {
            return Err(section.error("store is built in and has no settings; choose another name"));
        }
        let Some(kind) = section.text("kind") else {
            let message = format!("kind is missing; it is one of {}", KINDS.join(", "));
            return Err(section.error(message));
        };
        let issuer = match kind {
            jwt::KIND => IssuerConfig::Jwt(jwt::issuer(&section)?),
            other => {
                let hint = near_miss(other, KINDS).map_or_else(
                    || format!("known: {}", KINDS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                let message = format!("there is no kind of issuer {other:?}; {hint}");
                return Err(section.error_at("kind", message));
            }
        };
        for file in issuer.files() {
            if files.contains(file) {
                let message = format!("two settings name the file {}", file.display());
                return Err(section.error(message));
            }
            files.push(file.clone());
        }
        found.insert(name, issuer);
    }
    Ok(found)
}

/// Checks what a credential says to its issuer, all other keys taken out.
pub(super) fn settings(
    section: &Section<'_>,
    issuer: Option<&IssuerConfig>,
) -> Result<CredentialSettings, ConfigError> {
    match issuer {
        None => section.only(&[]).map(|()| CredentialSettings::Store),
        Some(IssuerConfig::Jwt(_)) => jwt::credential(section).map(CredentialSettings::Jwt),
    }
}
