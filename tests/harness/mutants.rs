//! The build of the agent whose checks can be disabled by name.

use std::path::{Path, PathBuf};

/// That `jsi-agent`, where there is one: `tests/mutants` builds it, and
/// `JSI_MUTANTS_BIN_DIR` says where.
#[must_use]
pub fn mutants() -> Option<PathBuf> {
    let agent = Path::new(&std::env::var_os("JSI_MUTANTS_BIN_DIR")?).join("jsi-agent");
    agent.is_file().then_some(agent)
}

/// The `jsi-agent` that the other tests use: what is shipped.
#[must_use]
pub fn shipped() -> PathBuf {
    crate::world::binaries().join("jsi-agent")
}
