//! Which stage names which other stage.

use crate::tokens::tokens;

/// The stages in order: each may name those before it. Those in one row know
/// nothing of each other but what stands before them in it.
const ORDER: [&str; 16] = [
    "clock",
    "names",
    "memory",
    "process",
    "config",
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

/// Files below a stage that may be named from elsewhere: the entry points of
/// the attestor's and the launcher's roles, which only `cli` calls.
const ENTRY_POINTS: [(&str, &str); 2] = [("attestation", "attestor"), ("process", "launcher")];

/// What breaks the rules in one file; `name` is its path below `agent/src`.
pub(crate) fn faults_in(name: &str, source: &str) -> Vec<String> {
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
        if reaches_inside(&path) {
            faults.push(format!("{name}: crate::{shown}: only what {stage}/mod.rs exports"));
        }
    }
    faults
}

fn rank(stage: &str) -> Option<usize> {
    ORDER.iter().position(|s| *s == stage)
}

/// A module between the stage and the item.
fn reaches_inside(path: &[String]) -> bool {
    let is_module = |s: &str| s.chars().next().is_some_and(|c| c.is_lowercase());
    path.len() > 2
        && is_module(&path[1])
        && !ENTRY_POINTS.contains(&(path[0].as_str(), path[1].as_str()))
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
