//! The shape of the repository, as the design fixes it. Each rule is shown
//! able to fail on a snippet that breaks it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod imports;
mod posture;
mod tokens;

use imports::{Exports, exports_of, faults_in};
use std::fs;
use std::path::{Path, PathBuf};

/// What may stand at the top, beside hidden tool files and `target`.
const TOP: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "agent",
    "client",
    "proto",
    "tests",
    "contrib",
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "misc", "common", "helpers", "helper"];

/// Longest source file, in lines.
const MAX_LINES: usize = 500;

/// One TLS stack: rustls with ring.
const OTHER_TLS: [&str; 5] = ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn no_stage_imports_a_later_one_or_the_inside_of_another() {
    let src = root().join("agent/src");
    let mut exports = Exports::new();
    for entry in fs::read_dir(&src).unwrap() {
        let stage = entry.unwrap().path();
        if let Ok(mod_rs) = fs::read_to_string(stage.join("mod.rs")) {
            exports.extend(exports_of(&stage.file_name().unwrap().to_string_lossy(), &mod_rs));
        }
    }
    let mut faults = Vec::new();
    for file in sources(&src) {
        let name = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        faults.extend(faults_in(&name, &fs::read_to_string(&file).unwrap(), &exports));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_unsafe_stands_outside_memory_and_process() {
    let src = root().join("agent/src");
    for file in sources(&src) {
        let name = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        assert!(unsafe_is_allowed(&name, &text), "{name} has unsafe code: wrap it in process/sys");
    }
}

/// `memory/`, `process/`, and nothing else.
fn unsafe_is_allowed(name: &str, text: &str) -> bool {
    let home = name.starts_with("memory/") || name.starts_with("process/");
    home || !tokens::tokens(text).iter().any(|t| t == "unsafe")
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let mut long = Vec::new();
    for part in ["agent", "client", "proto", "tests"] {
        for file in sources(&root().join(part)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > MAX_LINES {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn the_top_level_holds_what_the_design_lists_and_nothing_else() {
    let mut strange = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !belongs_at_top(&name) {
            strange.push(name);
        }
    }
    assert!(strange.is_empty(), "these do not belong at the top level: {strange:?}");
}

fn belongs_at_top(name: &str) -> bool {
    name.starts_with('.') || name == "target" || TOP.contains(&name)
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    for part in ["agent", "client", "proto", "tests"] {
        for file in sources(&root().join(part)) {
            let said = says_something(&file);
            assert!(said, "{}: name it by what it holds", file.display());
        }
    }
}

fn says_something(file: &Path) -> bool {
    !file.iter().any(|part| {
        let part = part.to_string_lossy();
        EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(&part))
    })
}

#[test]
fn no_second_tls_stack_is_linked() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert_eq!(other_tls(&lock), Vec::<String>::new());
}

fn other_tls(lock: &str) -> Vec<String> {
    let names = lock.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"'));
    names.filter(|name| OTHER_TLS.contains(name)).map(str::to_owned).collect()
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let process = "mod seqpacket; pub mod launcher; pub mod sys; pub use sys::{peer, pidfd};";
    let exports = exports_of("process", process);
    let broken = |file: &str, text: &str| !faults_in(file, text, &exports).is_empty();
    assert!(broken("policy/decide.rs", "use crate::lease::Lease;"), "a later stage");
    assert!(broken("policy/decide.rs", "fn f() { crate::lease::now() }"), "a later stage inline");
    assert!(broken("log/writer.rs", "use crate::{clock::Clock, policy::Permit};"), "in braces");
    assert!(broken("lease/engine.rs", "use crate::pipeline::run;"), "the composition root");
    assert!(broken("delivery/grpc.rs", "use crate::cli;"), "the command line");
    assert!(broken("policy/decide.rs", "use crate::attestation::process::Facts;"), "the inside");
    assert!(broken("log/writer.rs", "use crate::process::sys::pidfd;"), "a raw system call");
    assert!(broken("log/writer.rs", "crate::process::peer::raw::f();"), "deeper than exported");
    assert!(broken("policy/decide.rs", "use super::super::lease::Lease;"), "by way of super");
    assert!(broken("policy/decide.rs", "use jsi_agent::lease::Lease;"), "by the crate's name");
    assert!(broken("names.rs", "use crate::log::Event;"), "a file that is a stage");

    assert!(!broken("policy/decide.rs", "use crate::attestation::{Attestation, Fact};"));
    assert!(!broken("policy/decide.rs", "use crate::policy::schema::inner::Thing;"));
    assert!(!broken("policy/decide.rs", "fn f(_: crate::log::Event::Denied) {}"));
    assert!(!broken("policy/decide.rs", "// use crate::lease::Lease;\n/* crate::cli */"));
    assert!(!broken("policy/decide.rs", "const A: &str = \"crate::lease::Lease\";"));
    assert!(!broken("pipeline.rs", "use crate::{delivery::Receipt, policy::Permit};"));
    assert!(!broken("cli/serve.rs", "crate::pipeline::run(x); crate::process::launcher::run();"));
    assert!(!broken("log/writer.rs", "use crate::process::{peer::{self, credentials}, pidfd};"));
    assert!(!broken("policy/mod.rs", "mod tests { use super::*; }"));

    assert!(!unsafe_is_allowed("lease/engine.rs", "fn f() { unsafe { g() } }"));
    assert!(unsafe_is_allowed("lease/engine.rs", "// unsafe\n#![forbid(unsafe_code)]"));
    assert!(unsafe_is_allowed("memory/slab.rs", "unsafe { g() }"));
    assert!(!belongs_at_top("docs") && belongs_at_top(".ci") && belongs_at_top("agent"));
    assert!(!says_something(Path::new("agent/src/utils/mod.rs")));
    assert!(!says_something(Path::new("agent/src/lease/helpers.rs")));
    assert_eq!(other_tls("name = \"native-tls\"\n").len(), 1);
}
