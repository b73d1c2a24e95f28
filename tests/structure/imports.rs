//! Which stage names which other stage.

use crate::tokens::tokens;
use std::collections::BTreeSet;

/// The stages in order: each may name those before it. `process` comes behind
/// `config`, because the launcher reads its commands from there by itself.
const ORDER: [&str; 17] = [
    "mutants",
    "clock",
    "names",
    "memory",
    "config",
    "process",
    "log",
    "connection",
    "attestation",
    "policy",
    "approval",
    "store",
    "issuer",
    "lease",
    "delivery",
    "pipeline",
    "cli",
];

/// Never named from another stage, though the compiler would let it: raw
/// system calls go through what `process/mod.rs` re-exports.
const INNER: [(&str, &str); 1] = [("process", "sys")];

/// Modules that stages offer to others, as (stage, module).
pub(crate) type Exports = BTreeSet<(String, String)>;

/// What a stage's `mod.rs` offers: `pub mod name` and `pub use …::name`.
pub(crate) fn exports_of(stage: &str, mod_rs: &str) -> Exports {
    let words = tokens(mod_rs);
    let mut found = Vec::new();
    for at in 0..words.len() {
        if words[at] != "pub" {
            continue;
        }
        // `pub(crate)`: fakes that the tests of other stages share.
        let word = if words[at..].iter().skip(1).take(3).eq(["(", "crate", ")"]) { 4 } else { 1 };
        match words.get(at + word).map(String::as_str) {
            Some("mod") => found.push(vec![words[at + word + 1].clone()]),
            Some("use") => drop(tree(&words, at + word + 1, &[], &mut found)),
            _ => {}
        }
    }
    found.into_iter().filter_map(|path| Some((stage.to_owned(), path.last()?.clone()))).collect()
}

/// What breaks the rules in one file; `name` is its path below `agent/src`.
pub(crate) fn faults_in(name: &str, source: &str, exports: &Exports) -> Vec<String> {
    let own = name.split('/').next().unwrap_or(name).trim_end_matches(".rs");
    // The crate root only declares, `main` only calls.
    let Some(own_rank) = rank(own) else { return Vec::new() };
    let mut faults = Vec::new();
    for path in paths(name, source) {
        let Some(stage) = path.first() else { continue };
        let Some(stage_rank) = rank(stage) else { continue };
        if stage == own {
            continue;
        }
        let shown = path.join("::");
        if stage_rank > own_rank {
            faults.push(format!("{name}: crate::{shown}: {own} comes before {stage}"));
        }
        if reaches_inside(&path, exports) {
            faults.push(format!("{name}: crate::{shown}: only what {stage}/mod.rs exports"));
        }
    }
    faults
}

fn rank(stage: &str) -> Option<usize> {
    ORDER.iter().position(|s| *s == stage)
}

/// A module between the stage and the item that the stage does not offer, or a
/// second one below it.
fn reaches_inside(path: &[String], exports: &Exports) -> bool {
    let is_module = |s: &str| s.chars().next().is_some_and(|c| c.is_lowercase());
    let [stage, module, rest @ ..] = path else { return false };
    if !is_module(module) {
        return false;
    }
    if INNER.contains(&(stage, module)) {
        return true;
    }
    let item = rest.iter().position(|part| part != "self").is_some();
    let deeper = rest.len() > 1 && is_module(&rest[0]);
    item && (deeper || !exports.contains(&(stage.clone(), module.clone())))
}

/// Every path from the crate's root: `crate::…`, `jsi_agent::…`, and chains of
/// `super` that lead there.
fn paths(name: &str, source: &str) -> Vec<Vec<String>> {
    let words = tokens(source);
    let depth = name.trim_end_matches(".rs").split('/').filter(|p| *p != "mod").count();
    let mut found = Vec::new();
    let mut inline = 0;
    let mut at = 0;
    while at < words.len() {
        if words[at] == "mod" && words.get(at + 2).is_some_and(|w| w == "{") {
            inline = 1;
        }
        let begins = at == 0 || words[at - 1] != "::";
        let follows = words.get(at + 1).is_some_and(|w| w == "::");
        if begins && follows && (words[at] == "crate" || words[at] == "jsi_agent") {
            tree(&words, at + 2, &[], &mut found);
        }
        if begins && follows && words[at] == "super" {
            let supers = words[at..].chunks(2).take_while(|c| *c == ["super", "::"]).count();
            if supers >= depth + inline {
                tree(&words, at + 2 * supers, &[], &mut found);
            }
        }
        at += 1;
    }
    found
}

/// Follows a path or use tree that begins at `at`; gives where it ends.
fn tree(words: &[String], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match words.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|w| w != "}") {
                    let end = tree(words, at, &path, found);
                    // A sign that no use tree has: not one.
                    at = if end == at { at + 1 } else { end };
                    while words.get(at).is_some_and(|w| w == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(word) if word.chars().all(|c| c.is_alphanumeric() || c == '_') || word == "*" => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
        if words.get(at).is_none_or(|w| w != "::") {
            break;
        }
        at += 1;
    }
    if words.get(at).is_some_and(|w| w == "as") {
        at += 2;
    }
    found.push(path);
    at
}
