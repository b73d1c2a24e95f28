//! Compiling the hostile programs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `adversary/programs/<source>` (C) into `into`.
pub fn compile(source: &str, into: &Path) -> PathBuf {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("adversary/programs");
    let status = Command::new("cc")
        .args(["-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(into)
        .arg(programs.join(source))
        .status()
        .expect("cc runs: install gcc and libc6-dev");
    assert!(status.success(), "cc refused {source}");
    into.to_owned()
}
