//! Compiling the hostile programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One at a time: many tests want the same program.
static COMPILING: Mutex<()> = Mutex::new(());

/// Compiles `adversary/programs/<source>` (C) into `into`, or copies what came
/// of it the last time, as long as no source has changed.
pub fn compile(source: &str, into: &Path) -> PathBuf {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("adversary/programs");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/programs");
    let kept = kept.join(format!("{source}-{}", digest_of(&programs)));
    let one = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.is_file() {
        fs::create_dir_all(kept.parent().unwrap()).expect("make target/programs");
        let draft = kept.with_extension(std::process::id().to_string());
        let status = Command::new("cc")
            .args(["-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&draft)
            .arg(programs.join(source))
            .status()
            .expect("cc runs: install gcc and libc6-dev");
        assert!(status.success(), "cc refused {source}");
        fs::rename(&draft, &kept).expect("keep the program");
    }
    drop(one);
    // Another process writes it: see World::install.
    let mut install = Command::new("/usr/bin/install");
    let status = install.args(["-m", "0755", "--"]).arg(kept).arg(into).status();
    assert!(status.expect("install(1) runs").success(), "{source} is not installed");
    into.to_owned()
}

/// Of all sources: they include each other.
fn digest_of(programs: &Path) -> String {
    let mut paths: Vec<_> =
        fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for path in paths {
        context.update(&fs::read(path).unwrap());
    }
    data_encoding::HEXLOWER.encode(&context.finish().as_ref()[..8])
}
