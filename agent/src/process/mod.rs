//! The three processes, their hardening, and the system calls that no library wraps.
//!
//! The process that the user starts forks attestor and launcher and then
//! becomes the broker; all three execute this same binary again, with a
//! `Handoff` that names their role and what they inherit.
#![allow(unsafe_code)]

mod background;
mod context;
mod credential;
pub mod daemon;
mod handoff;
mod hardening;
pub mod launcher;
mod listen;
pub mod pinentry;
mod places;
mod readiness;
mod role;
mod separation;
mod seqpacket;
mod settings;
mod settled;
pub mod sys;
mod unwrapping;
mod watch;

pub use background::{Background, BackgroundError};
pub use context::BrokerContext;
pub use credential::open_as_root as open_credential_as_root;
pub use hardening::{descriptor_limit, memlock_limit};
pub use listen::{InheritedListeners, ListenError};
pub use places::{PrivateDir, in_state_directory};
pub use readiness::{Notice, Ready, notify};
pub use role::{RoleError, Start, of_arguments, start};
pub use separation::{Parts, SeparationError, separate};
pub use seqpacket::{AsyncSeqPacket, MAX_DATAGRAM, SeqPacket};
pub use settings::Settings;
pub use sys::readable::readable;
pub use sys::timer::BootTimer;
pub use sys::{features, image, mappings, peer, pidfd};
pub use unwrapping::{PATIENCE, start as start_unwrapping};
pub use watch::ended;
