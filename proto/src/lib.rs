//! The `jsi.v1` protocol: messages, services and stable reason codes.
//!
//! The `.proto` files beside this crate are the reference; what is generated
//! from them is in [`v1`].
#![forbid(unsafe_code)]

/// Generated from `jsi/v1/*.proto`; documented there.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("jsi.v1");
}

mod reason;
mod secret_debug;

/// What encodes and decodes the messages of [`v1`].
pub use prost::Message;
pub use reason::{DOMAIN, reason_code};

/// The protocol's file descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/jsi.v1.bin"));

/// Bytes of padding in front of each message that carries a secret: HTTP/2
/// write buffers keep up to this many of what was last written.
pub const PADDING_LEN: usize = 256;

/// Longest message with a secret in it, in bytes; below one HTTP/2 frame of
/// 16 KiB, so that no fragment of it stays in a buffer.
pub const MAX_SECRET_MESSAGE: usize = 15 * 1024;

/// Most bytes of field values in one message, in bytes: leaves room for
/// padding, the lease and the names.
pub const MAX_PIECE: usize = 8 * 1024;

/// Longest secret, all fields together, in bytes.
pub const MAX_SECRET: usize = 1024 * 1024;

/// The padding itself: non-zero, so that it is really written.
#[must_use]
pub fn padding() -> Vec<u8> {
    vec![0x2e; PADDING_LEN]
}
