//! Files for commands that need files: on memory of the host, in a directory
//! of their own, and gone when the command or the lease is.
//!
//! [`place`] says where, [`dir`] makes them, [`wipe`] removes them, [`sweep`]
//! removes what a crash left. [`reaper`] starts the process that removes them
//! when their time has come, and [`reap`] is what that process does.

pub(crate) mod dir;
pub(crate) mod orders;
mod place;
pub(crate) mod reap;
mod reaper;
mod sweep;
mod wipe;

pub(crate) use dir::FileDir;
pub(crate) use orders::Orders;
pub(crate) use place::Place;
pub(crate) use reaper::{COMMAND as REAPER, Reaper};
