//! The jsi agent.
//!
//! A request passes through the stages in one direction, each using only the
//! output types of the stages before it:
//!
//! ```text
//! connection -> attestation -> policy -> approval -> issuer -> lease -> delivery
//! ```
//!
//! [`pipeline`] composes them; nothing imports it but [`cli`].
#![deny(unsafe_code)]

pub mod approval;
pub mod attestation;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod issuer;
pub mod lease;
pub mod log;
pub mod memory;
pub mod mutants;
pub mod names;
pub mod pipeline;
pub mod policy;
pub mod process;
pub mod store;
