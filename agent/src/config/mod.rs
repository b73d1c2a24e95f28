//! Configuration: raw (serde, unknown fields are errors) becomes checked
//! (types that cannot be wrong) in one place.

mod checked;

pub use checked::{Config, CredentialConfig, Lifetimes, Limits, Mode, RunAs};

mod stand_in;
pub use stand_in::{ConfigError, load};
