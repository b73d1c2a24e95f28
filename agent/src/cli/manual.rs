//! The manual pages of `jsi-agent` in contrib/man. Where a change is meant:
//! `contrib/regenerate`.

use super::SUBCOMMANDS;
use clap::{Command, CommandFactory};
use jsi_tests::{Golden, configuration_page, keep_manual, manual_page};
use std::collections::BTreeMap;
use std::path::Path;

/// How the words of a subcommand are read.
fn definition(name: &str) -> Option<Command> {
    Some(match name {
        "askpass" => super::askpass::AskpassArgs::command(),
        "audit" => super::audit::AuditArgs::command(),
        "check" => super::check::CheckArgs::command(),
        "facts" => super::facts::FactsArgs::command(),
        "init" => super::init::InitArgs::command(),
        "rekey" => super::rekey::RekeyArgs::command(),
        "policy" => super::policy::command(),
        _ => return None,
    })
}

#[test]
fn manual_pages_are_those_of_the_definitions() {
    let golden = Golden::asked();
    let mut pages = BTreeMap::new();
    let mut also = vec!["jsi(1)".to_owned(), "jsi-agent.toml(5)".to_owned()];
    for (name, _) in SUBCOMMANDS {
        let Some(command) = definition(name) else {
            assert!(golden == Golden::Leave, "add {name} to agent/src/cli/manual.rs");
            continue;
        };
        let page = format!("jsi-agent-{name}");
        also.push(format!("{page}(1)"));
        let text = manual_page(&page, command, &["jsi-agent(1)".to_owned()]);
        pages.insert(format!("{page}.1"), text);
    }
    let whole = super::serve::Options::command();
    pages.insert("jsi-agent.1".to_owned(), manual_page("jsi-agent", whole, &also));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/man");
    let example = include_str!("../../../contrib/examples/agent.toml");
    let about = "the configuration of jsi-agent";
    let page = configuration_page("jsi-agent.toml", about, example);
    pages.insert("jsi-agent.toml.5".to_owned(), page);
    let own = |name: &str| name.starts_with("jsi-agent");
    keep_manual(golden, &directory, &pages, &own);
}
