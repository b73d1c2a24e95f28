//! Configuration: raw (serde, unknown fields are errors) becomes checked
//! (types that cannot be wrong) in one place.
//!
//! [`load`] is the only way to a [`Config`]; `jsi-agent check` uses it too.

mod advisory;
mod checked;
mod document;
mod duration;
mod environment;
mod error;
mod identity_kind;
mod issuers;
mod load;
mod raw;
mod template;
mod trust;
mod vouched;

pub use advisory::{advisory, opens_by_itself};
pub use checked::{Config, CredentialConfig, Lifetimes, Limits, Mode, RunAs};
pub use duration::{DurationError, format_duration, parse_duration};
pub use environment::Environment;
pub use error::{ConfigError, near_miss};
pub use identity_kind::IdentityKind;
pub use issuers::{
    Algorithm, ClaimTemplate, CredentialSettings, IssuerConfig, JwtCredential, JwtIssuerConfig,
};
pub use load::{load, load_in};
pub use raw::{error_at, read_toml};
pub use template::{Piece, Placeholder, Template};
pub use trust::{TrustError, read_trusted, trusted_entries, trusted_path};

#[cfg(test)]
mod tests;
