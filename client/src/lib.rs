//! The Rust client of the jsi agent.
//!
//! ```no_run
//! # async fn example() -> Result<(), jsi_client::Error> {
//! let agent = jsi_client::Agent::connect().await?;
//! let request = jsi_client::Request::new("db/orders");
//! let leased = agent.request(request).await?;
//! let password = leased.field("password").map(|field| field.value());
//! # let _ = password;
//! agent.release(&leased.lease().id).await?;
//! # Ok(()) }
//! ```
//!
//! Works inside any tokio runtime that has I/O enabled; timers are not needed.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod bootstrap;
mod bulk;
mod connect;
mod discovery;
mod error;
pub mod group;
mod lease;
mod reference;
mod trust;
mod ttl;

pub use admin::{Admin, NewSecret};
pub use agent::{Agent, Request, Watch};
pub use bootstrap::bootstrap;
pub use bulk::{AgeFile, AgeFiles, Backup, BackupPart, Imported, NewValues, RestoreHow};
pub use discovery::{Origin, Socket, admin_socket, agent_socket, inherited};
pub use error::{Error, Kind, Refusal};
pub use jsi_proto::{Message, v1};
pub use lease::{Leased, SecretField};
pub use reference::{Reference, ReferenceError, credential_name, field_name};
pub use trust::{Trust, TrustError};
pub use ttl::{LONGEST_TTL, TtlError, parse_ttl, show_duration};
