//! The manual pages of `jsi` in contrib/man. Where a change is meant:
//! `contrib/regenerate`.

use super::ENTRIES;
use clap::Command;
use jsi_tests::{Golden, keep_manual, manual_page};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn manual_pages_are_those_of_the_definitions() {
    let own = |name: &str| {
        name.ends_with(".1")
            && (name == "jsi.1" || (name.starts_with("jsi-") && !name.starts_with("jsi-agent")))
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/man");
    keep_manual(Golden::asked(), &directory, &pages(), &own);
}

/// Every page by its file name.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for entry in ENTRIES {
        let command = (entry.define)(Command::new(entry.name));
        add(&mut pages, &format!("jsi-{}", entry.name), command);
    }
    pages.insert("jsi.1".to_owned(), manual_page("jsi", super::whole(), &["jsi-agent(1)".into()]));
    pages
}

fn add(pages: &mut BTreeMap<String, String>, name: &str, command: Command) {
    let mut also = vec!["jsi(1)".to_owned()];
    for sub in command.get_subcommands() {
        add(pages, &format!("{name}-{}", sub.get_name()), sub.clone());
    }
    if crate::complete::forwards(&command) {
        also.push("jsi-agent(1)".to_owned());
    }
    pages.insert(format!("{name}.1"), manual_page(name, command, &also));
}
